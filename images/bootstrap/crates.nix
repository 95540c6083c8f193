# The crates that Cargo.lock names, one fixed-output derivation each, and the vendor directory they make.
#
# Cargo.lock's own checksums are the outputs' hashes, so there is no second lock to keep in step. The locked cargo does the
# fetching: where its registry is, only it knows.
{ seed, toolchain, tree }:
let
  inherit (builtins) concatStringsSep filter fromTOML map readFile;

  registry = filter (package: package ? checksum) (fromTOML (readFile ../../Cargo.lock)).package;

  fetch = { name, version, checksum, ... }: seed.run {
    name = "${name}-${version}.crate";
    script = ./fetch-crate.sh;
    inherit toolchain tree version;
    crate = name;
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = checksum;
    preferLocalBuild = true;
    impureEnvVars = [ "BALLAST_MIRROR" "NIX_SSL_CERT_FILE" "http_proxy" "https_proxy" "no_proxy" ];
  };
  # Name, checksum and file of each, one per line.
  list = concatStringsSep "\n" (map (crate: "${crate.name}-${crate.version} ${crate.checksum} ${fetch crate}") registry);
in
{
  inherit list;

  # The directory that cargo takes for a registry.
  vendored = seed.run {
    name = "ballast-crates";
    script = ./vendor.sh;
    crates = list;
  };
}
