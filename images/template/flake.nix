# A flake that builds machine images of its own from Ballast's modules.
#
#   nix registry add ballast <where you keep Ballast>     once
#   nix build .#greeter
{
  description = "Machine images of our own, built with Ballast";

  inputs.ballast.url = "flake:ballast";

  outputs = { self, ballast }: {
    packages.x86_64-linux.greeter = ballast.lib.mkImage {
      modules = [ ./greeter.nix ];
      # After adding a package: nix run ballast#lock -- --flake .
      lock = ./debian.lock.json;
    };
  };
}
