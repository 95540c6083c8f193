# From nothing to a compiler, the programs and the images: a busybox, the locked .debs, trees of them, what runs in those trees.
#
# Nothing of the host is used and nothing here needs a user namespace: a Debian program is started by naming its tree's loader.
let
  lock = builtins.fromJSON (builtins.readFile ../debian.lock.json);
  seed = import ./seed.nix { inherit lock; };
  debs = import ./debs.nix { inherit lock seed; };
  trees = import ./trees.nix { inherit lock seed debs; };
  inherit (import ./rust.nix { inherit seed trees; }) tree toolchain;
  crates = import ./crates.nix { inherit seed tree toolchain; };
  workspace = import ./workspace.nix { inherit seed toolchain crates; };
  image = import ./image.nix { inherit lock seed debs trees workspace; };
in
{
  inherit lock seed debs trees toolchain crates workspace;
  inherit (image) mkImage;
  assemblingTools = image.tools;
  wanted = import ./wanted.nix;
}
