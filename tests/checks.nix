# Every promise as a derivation whose `results` names the tests that passed, one per line; one that breaks does not build.
{ self, root, bootstrap, images, template }:
let
  inherit (builtins) attrNames concatMap concatStringsSep filter foldl' isString listToAttrs map mapAttrs toJSON;
  inherit (bootstrap) machines seed tests;

  # Promises that evaluation already decides: names and truths.
  decided = name: truths:
    let broken = filter (truth: ! truths.${truth}) (attrNames truths);
    in
    if broken != [ ] then throw "ballast: ${name}: does not hold: ${concatStringsSep "; " broken}"
    else seed.run {
      name = "ballast-${name}";
      script = ./results.sh;
      names = concatStringsSep "\n" (attrNames truths);
    };

  ofImages = foldl' (all: image: all // {
    "${image}-twice" = images.${image}.checks.twice;
    "${image}-judged" = images.${image}.checks.judged;
  }) { } (attrNames images);
in
ofImages // {
  inherit (tests) clippy format workspace;

  modules = decided "modules" (import ../modules/tests.nix);

  documents = decided "documents" (listToAttrs (map (found: {
    name = "${found.document} names only paths that exist${concatStringsSep "," (map (path: " (${path})") found.missing)}";
    value = found.missing == [ ];
  }) (import ./documents.nix { inherit root; })));

  # The flake that `nix flake init` writes, with this one as its input.
  template =
    let made = template.outputs { self = made; ballast = self; };
    in decided "template" (mapAttrs (name: image: isString image.drvPath) made.packages.x86_64-linux);

  machines = seed.run ({
    name = "ballast-machines-tests";
    script = ./machines.sh;
    machines = bootstrap.workspace.machines;
  } // machines images.consul-server);
}
