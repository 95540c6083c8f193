# The first executable: Debian's static busybox, and derivations whose builder is a script it runs.
#
# Nix itself can't unpack a .deb, so whoever has `dpkg-deb` (or `ar` and `tar`) does it once and adds the result to the
# store, which `./nixw` does at every start. The output is fixed by hash: who unpacked it makes no difference.
{ lock }:
let
  busybox = derivation {
    inherit (lock.seed) name;
    # Nothing here could make it; the address is the remedy, since Nix shows it.
    system = "builtin";
    builder = "builtin:fetchurl";
    url = "file:///the seed is not in the store: any command through ./nixw adds it";
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
    outputHash = lock.seed.hash;
  };
in
{
  inherit busybox;

  # A derivation whose builder is a script. This busybox finds its applets without PATH.
  run = { name, script, ... }@attributes: derivation (
    {
      system = "x86_64-linux";
      builder = "${busybox}/bin/busybox";
      args = [ "sh" "-eu" script ];
    } // removeAttrs attributes [ "script" ]
  );
}
