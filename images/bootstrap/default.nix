# From nothing to a compiler, the programs and the images: a busybox, the locked .debs, trees of them, what runs in those trees.
#
# Nothing of the host is used and nothing here needs a user namespace: a Debian program is started by naming its tree's loader.
let
  lock = import ./lock.nix;
  seed = import ./seed.nix { inherit lock; };
  debs = lock: import ./debs.nix { inherit lock seed; };
  trees = import ./trees.nix { inherit lock seed; debs = debs lock; };
  inherit (import ./rust.nix { inherit seed trees; }) tree toolchain;
  crates = import ./crates.nix { inherit seed tree toolchain; };
  tools = import ./tools.nix { inherit trees; };
  workspace = import ./workspace.nix { inherit seed toolchain; crates = crates.vendored; inherit (tools) judges redis signatures timers; };
  locked = import ./locked.nix { inherit seed debs; };
  image = import ./image.nix { inherit lock locked seed workspace; inherit (tools) assembling judges; };
  apps = import ./apps.nix { inherit lock locked seed trees tools workspace; };
in
{
  inherit seed toolchain workspace;
  inherit (image) mkImage;
  inherit (apps) apps machines;
  inherit (workspace) tests;

  # All that a build fetches, as a mirror that BALLAST_MIRROR may name once it is copied (`cp -rL`) to where there is no network.
  mirror = seed.run {
    name = "ballast-mirror";
    script = ./mirror.sh;
    debs = builtins.concatStringsSep "" (map (name: "${lock.packages.${name}.path} ${(debs lock).${name}}\n") (builtins.attrNames lock.packages));
    crates = crates.list + "\n";
    passAsFile = [ "debs" "crates" ];
  };

  # `nix fmt`: every Rust file below the current folder, or those named.
  formatter = seed.run {
    name = "ballast-format-sources";
    script = ./formatter.sh;
    busybox = seed.busybox;
    inherit toolchain;
  };

  # `nix develop`: the locked compiler, and the programs that tests ask for.
  shell = derivation {
    name = "ballast-shell";
    system = "x86_64-linux";
    builder = "${tools.bash}/bin/bash";
    # `nix develop` reads it back from the environment.
    outputs = [ "out" ];
    args = [ "-c" "echo 'enter this with nix develop' > $out" ];
    PATH = "${toolchain}/bin:${tools.assembling}/bin";
    RUSTC = "${toolchain}/bin/rustc";
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER = "${toolchain}/bin/cc";
    BALLAST_CONSUL = "${tools.judges}/bin/consul";
    BALLAST_NFT = "${tools.judges}/bin/nft";
    BALLAST_REDIS = "${tools.redis}/bin/redis-server";
  };
  wanted = import ./wanted.nix;
}
