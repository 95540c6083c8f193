{
  description = "Reproducible machine images for the stateful half of a self-hosted platform";

  outputs = { self }:
    let
      inherit (builtins) attrNames concatMap listToAttrs mapAttrs;

      system = "x86_64-linux";
      bootstrap = import ./images/bootstrap;
      inherit (bootstrap) workspace;
      images = mapAttrs (name: modules: bootstrap.mkImage { inherit modules; }) (import ./images);
    in
    {
      packages.${system} = images // {
        inherit (workspace) agent assembler machines;
        ballast = workspace.operator;
        default = workspace.operator;
      };

      lib = {
        # mkImage { modules = [ ... ]; lock ? ./debian.lock.json } -> the image's derivation.
        inherit (bootstrap) mkImage;
        # What the lock resolves: suites, names of closures, and the packages each asks for.
        wanted = bootstrap.wanted // {
          roots = bootstrap.wanted.roots // mapAttrs (name: image: image.spec.image.packages) images;
        };
      };
    };
}
