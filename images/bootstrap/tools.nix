# Programs of locked packages, by what they are for.
{ trees }:
{
  # What the assembler calls.
  assembling = trees.wrap {
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

  # What judges formats and configurations that we wrote.
  judges = trees.wrap {
    name = "judges";
    tree = trees.closure "judges";
    libraries = [ "usr/lib/x86_64-linux-gnu/systemd" ];
    programs = {
      "bootctl" = "usr/bin/bootctl";
      "consul" = "usr/bin/consul";
      "fsck.erofs" = "usr/bin/fsck.erofs";
      "fsck.vfat" = "usr/sbin/fsck.vfat";
      "nft" = "usr/sbin/nft";
      "qemu-img" = "usr/bin/qemu-img";
      "sfdisk" = "usr/sbin/sfdisk";
      "veritysetup" = "usr/sbin/veritysetup";
      "zstd" = "usr/bin/zstd";
    };
  };

  # What our own tests of a Redis group run.
  redis = trees.wrap {
    name = "redis";
    tree = trees.tree "redis-server" [
      "libatomic1" "libc6" "libcap2" "libgcc-s1" "libjemalloc2" "liblzf1" "libssl3t64" "libstdc++6" "libsystemd0" "libzstd1"
      "redis-server" "redis-tools" "zlib1g"
    ];
    programs.redis-server = "usr/bin/redis-server";
  };

  # What judges when backups are made: the events of systemd's timers.
  timers = trees.wrap {
    name = "timers";
    tree = trees.closure "containers";
    libraries = [ "usr/lib/x86_64-linux-gnu/systemd" ];
    programs.systemd-analyze = "usr/bin/systemd-analyze";
  };

  # `nix develop` starts no other builder than a bash.
  bash = trees.wrap { name = "bash"; tree = trees.closure "shell"; programs.bash = "usr/bin/bash"; };

  # What verifies a signed index, and the keys it accepts.
  signatures = rec {
    tree = trees.closure "signatures";
    keyring = "${tree}/usr/share/keyrings/debian-archive-keyring.pgp";
    programs = trees.wrap { name = "signatures"; inherit tree; programs.gpgv = "usr/bin/gpgv"; };
  };
}
