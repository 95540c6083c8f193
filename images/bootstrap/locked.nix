# Packages of a lock as the assembler takes them: a JSON list of name, version, architecture and path of a .deb.
{ seed, debs }:
let
  inherit (builtins) attrNames concatStringsSep elem filter head map sort toJSON;

  sorted = sort (a: b: a < b);
in
{
  # The locked closure of exactly these packages, under whatever name it was locked.
  closureOf = lock: image: packages:
    let found = filter (name: sorted lock.closures.${name}.roots == sorted packages) (attrNames lock.closures);
    in if found != [ ] then lock.closures.${head found}.packages
    else throw "ballast: the lock has no closure for image ${image} (${concatStringsSep " " packages}): run `./nixw run .#lock`";

  # A closure less what the image does without; a name that is not in it would be a mistake that nobody sees.
  without = image: names: packages:
    let strange = filter (name: ! elem name packages) names;
    in if strange == [ ] then filter (name: ! elem name names) packages
    else throw "ballast: image ${image} does without ${concatStringsSep ", " strange}, which its closure does not have";

  list = lock: name: packages: "${seed.run {
    name = "${name}.packages.json";
    script = ./write.sh;
    content = toJSON (map (package: {
      name = package;
      inherit (lock.packages.${package}) version architecture;
      path = "${(debs lock).${package}}";
    }) packages);
    passAsFile = [ "content" ];
  }}";
}
