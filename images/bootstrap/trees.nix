# Trees of Debian packages, and their programs made callable where no /lib64 exists.
{ lock, seed, debs }:
let
  inherit (builtins) attrNames concatStringsSep isString map;

  # All files of the packages in one merged-/usr tree, without documentation.
  tree = name: packages: seed.run {
    name = "ballast-tree-${name}";
    script = ./unpack.sh;
    debs = map (package: debs.${package}) packages;
  };

  # A folder `bin` of wrappers, each of which starts one program of a tree through that tree's loader:
  # `programs.<name>` is the program's path in the tree, or `{ path, arguments }`.
  wrap = { name, tree, programs, libraries ? [ ] }:
    let
      line = program:
        let value = programs.${program};
        in if isString value then "${program} ${value}" else "${program} ${value.path} ${value.arguments}";
    in seed.run {
      inherit tree;
      name = "ballast-${name}";
      script = ./wrap.sh;
      busybox = seed.busybox;
      programs = concatStringsSep "\n" (map line (attrNames programs));
      libraries = concatStringsSep ":" (map (folder: "${tree}/${folder}") ([ "usr/lib/x86_64-linux-gnu" ] ++ libraries));
    };
in
{
  inherit tree wrap;
  closure = name: tree name lock.closures.${name}.packages;
}
