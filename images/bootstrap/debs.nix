# One fixed-output derivation per locked .deb: its path in the store depends on its bytes alone, not on where they came from.
{ lock, seed }:
let
  inherit (builtins) mapAttrs match replaceStrings;

  # A store path's name may not hold every character of a version.
  storeName = file: replaceStrings [ "~" "%" ] [ "-" "-" ] (baseNameOf file);

  fetch = name: package: seed.run {
    name = storeName package.path;
    script = ./fetch-deb.sh;
    inherit (package) archive path;
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = package.sha256;
    preferLocalBuild = true;
    impureEnvVars = [ "BALLAST_MIRROR" "http_proxy" "https_proxy" "no_proxy" ];
  };
in
mapAttrs fetch lock.packages
