# Every package, and every promise as a derivation whose `results` names the tests that passed; one that breaks does not build.
{ self, root, bootstrap, packages, images, template }:
let
  inherit (builtins) attrNames concatStringsSep filter foldl' isString listToAttrs map;
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
packages // ofImages // {
  inherit (tests) clippy format workspace;

  modules = decided "modules" (import ../modules/tests.nix);

  documents = decided "documents" (listToAttrs (map (found: {
    name = "${found.document} names only paths that exist${concatStringsSep "," (map (path: " (${path})") found.missing)}";
    value = found.missing == [ ];
  }) (import ./documents.nix { inherit root; })));

  # The flake that `nix flake init` writes, with this one as its input.
  template =
    let made = template.outputs { self = made; ballast = self; };
    in decided "template" (listToAttrs (map (image: { name = "${image} of the template can be built"; value = isString made.packages.x86_64-linux.${image}.drvPath; }) (attrNames made.packages.x86_64-linux)));

  # Real images booted in QEMU.
  scenarios = seed.run ({
    name = "ballast-scenarios";
    script = ./scenarios.sh;
    machines = bootstrap.workspace.machines;
  } // machines { inherit (images) consul-server postgres redis; });
}
