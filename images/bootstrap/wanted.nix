# What is asked of Debian by name: the suites, and one closure each for the build's own tools, beside those of the images.
{
  suites = [
    { archive = "debian"; suite = "trixie"; components = [ "main" "non-free-firmware" ]; }
    { archive = "debian-security"; suite = "trixie-security"; components = [ "main" "non-free-firmware" ]; }
    # The last release that has a Consul.
    { archive = "debian"; suite = "bullseye"; components = [ "main" ]; only = [ "consul" ]; }
  ];

  # What every Debian has: its packages marked essential.
  essential = [
    "base-files" "base-passwd" "bash" "bsdutils" "coreutils" "dash" "debianutils" "diffutils" "dpkg" "findutils" "grep" "gzip"
    "hostname" "init-system-helpers" "libc-bin" "ncurses-base" "ncurses-bin" "perl-base" "sed" "sysvinit-utils" "tar"
    "util-linux"
  ];

  seed = { name = "ballast-seed"; package = "busybox-static"; file = "usr/bin/busybox"; };

  roots = {
    seed = [ "busybox-static" ];
    rust = [ "ca-certificates" "cargo" "gcc" "libc6-dev" "rust-clippy" "rustc" "rustfmt" ];
    assembling = [ "cryptsetup-bin" "dosfstools" "erofs-utils" "fdisk" "mtools" "qemu-utils" "zstd" ];
    qemu = [ "ovmf" "qemu-system-x86" "seabios" ];
    containers = [ "iproute2" "nftables" "systemd-container" "util-linux" ];
    # Programs that judge what we wrote, and that our own tests run against.
    judges = [
      "consul" "cryptsetup-bin" "dosfstools" "erofs-utils" "fdisk" "mtools" "nftables"
      "qemu-utils" "systemd-boot-tools" "zstd"
    ];
    # What `nix develop` asks of a shell.
    shell = [ "bash" ];
    signatures = [ "debian-archive-keyring" "gpgv" ];
    # What a stock Debian is made with, to be measured beside.
    stock-tools = [
      "apt" "apt-utils" "bash" "coreutils" "dash" "dosfstools" "dpkg" "e2fsprogs" "fdisk" "findutils" "grep" "gzip" "mmdebstrap"
      "mount" "mtools" "perl-base" "sed" "systemd-boot-efi" "tar" "util-linux" "xz-utils" "zstd"
    ];
  };
}
