# One image from its modules: the spec they lower to, the locked packages it asks for, and the assembler that joins them.
{ lock, locked, seed, workspace, assembling, judges }:
let
  ours = lock;
  evaluation = import ../../modules;
  inherit (builtins) fromJSON readFile toFile toJSON;

  fromSpec = lock: without: spec:
    let
      given = {
        tools = assembling;
        charsets = "${assembling.tree}/usr/lib/x86_64-linux-gnu/gconv";
        inherit (workspace) agent assembler;
        spec = toFile "${spec.image.name}.spec.json" (toJSON spec);
        packages = locked.list lock spec.image.name (locked.without spec.image.name without
          (locked.closureOf lock spec.image.name spec.image.packages));
      };
      image = seed.run (given // {
        name = spec.image.name;
        script = ./image.sh;
        # `out` is what is shipped, `parts` what tests look into.
        outputs = [ "out" "parts" ];
      });
    in image // {
      inherit spec;
      specFile = given.spec;
      packagesFile = given.packages;
      checks = {
        # The same image under another time zone, umask, language and folder: fails where a byte differs.
        twice = seed.run (given // { name = "${spec.image.name}-twice"; script = ./twice.sh; inherit image; inherit (image) parts; });
        # Every format we wrote, judged by a program we did not write.
        judged = seed.run { name = "${spec.image.name}-judged"; script = ./judge.sh; tools = judges; inherit image; inherit (image) parts; };
      };
    };
in
{
  # mkImage { modules = [ ... ]; lock ? ./debian.lock.json; } -> a derivation with `spec`, `parts` and `checks`.
  mkImage = { modules, lock ? null }:
    fromSpec (if lock == null then ours else fromJSON (readFile lock))
      (evaluation.withoutPackages { inherit modules; })
      (evaluation.evaluate { inherit modules; });
}
