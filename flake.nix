{
  description = "Reproducible machine images for the stateful half of a self-hosted platform";

  outputs = { self }:
    let
      inherit (builtins) concatLists mapAttrs removeAttrs;

      system = "x86_64-linux";
      bootstrap = import ./images/bootstrap;
      inherit (bootstrap) mkImage wanted workspace;
      images = mapAttrs (name: modules: mkImage { inherit modules; }) (import ./images);
      plain = removeAttrs wanted [ "essential" ];
      packagesOf = mapAttrs (name: image: image.spec.image.packages);
    in
    {
      packages.${system} = images // {
        inherit (workspace) agent assembler bench faults lock machines;
        ballast = workspace.operator;
        inherit (bootstrap) mirror;
        default = workspace.operator;
      };

      apps.${system} = bootstrap.apps images // {
        default = self.apps.${system}.ballast;
      };

      checks.${system} = import ./tests/checks.nix {
        inherit self bootstrap images;
        packages = removeAttrs self.packages.${system} [ "default" ];
        root = ./.;
        template = import ./images/template/flake.nix;
      };

      devShells.${system}.default = bootstrap.shell;
      formatter.${system} = bootstrap.formatter;

      lib = {
        # mkImage { modules = [ ... ]; lock ? ./debian.lock.json; } -> the image, with its `spec`, `parts` and `checks`.
        inherit mkImage;
        # What `nix run .#lock` resolves for a flake with these images: its `lib.wanted`.
        wantedFor = images: plain // { roots = { inherit (wanted.roots) seed; } // packagesOf images; };
        wanted = plain // {
          roots = wanted.roots // packagesOf images // {
            # The same role on a Debian as it comes, to be measured beside.
            stock = concatLists [ wanted.essential images.consul-server.spec.image.packages [ "initramfs-tools" "zstd" ] ];
          };
        };
      };

      templates.default = {
        path = ./images/template;
        description = "Images of your own: a module of yours on top of a role that Ballast has";
      };
    };
}
