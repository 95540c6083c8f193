# One image from its modules: the spec they lower to, the locked packages it asks for, and the assembler that joins them.
{ lock, seed, debs, trees, workspace }:
let
  inherit (builtins) attrNames concatStringsSep filter head map sort toFile toJSON;

  modules = import ../../modules;
  sorted = sort (a: b: a < b);

  # The locked closure of exactly these packages, under whatever name it was locked.
  closureOf = image: packages:
    let found = filter (name: sorted lock.closures.${name}.roots == sorted packages) (attrNames lock.closures);
    in if found != [ ] then lock.closures.${head found}.packages
    else throw "ballast: the lock has no closure for image ${image} (${concatStringsSep " " packages}): run `./nixw run .#lock`";

  tools = trees.wrap {
    name = "assembling-tools";
    tree = trees.closure "assembling";
    programs = {
      "mcopy" = "usr/bin/mcopy";
      "mmd" = "usr/bin/mmd";
      "mkfs.erofs" = "usr/bin/mkfs.erofs";
      "mkfs.vfat" = "usr/sbin/mkfs.vfat";
      "qemu-img" = "usr/bin/qemu-img";
      "veritysetup" = "usr/sbin/veritysetup";
    };
  };

  assemble = spec: attributes: seed.run ({
    name = spec.image.name;
    script = ./image.sh;
    # `out` is what is shipped, `parts` what tests look into.
    outputs = [ "out" "parts" ];
    inherit tools;
    inherit (workspace) agent assembler;
    spec = toFile "${spec.image.name}.spec.json" (toJSON spec);
    packages = toJSON (map (name: {
      inherit name;
      inherit (lock.packages.${name}) version architecture;
      path = "${debs.${name}}";
    }) (closureOf spec.image.name spec.image.packages));
    passAsFile = [ "packages" ];
  } // attributes);

  fromSpec = spec: assemble spec { } // {
    inherit spec;
    # The same image under another clock's zone, umask, language, folder and number of cores; fails where a byte differs.
    twice = assemble spec { name = "${spec.image.name}-twice"; outputs = [ "out" ]; script = ./twice.sh; image = assemble spec { }; };
  };
in
{
  inherit tools;
  mkImage = { modules }@arguments: fromSpec ((import ../../modules).evaluate arguments);
}
