# What is asked of Debian by name: the suites, and one closure each for the build's own tools, beside those of the images.
{
  suites = [
    { archive = "debian"; suite = "trixie"; components = [ "main" "non-free-firmware" ]; }
    { archive = "debian-security"; suite = "trixie-security"; components = [ "main" "non-free-firmware" ]; }
    # The last release that has a Consul.
    { archive = "debian"; suite = "bullseye"; components = [ "main" ]; only = [ "consul" ]; }
  ];

  seed = { name = "ballast-seed"; package = "busybox-static"; file = "usr/bin/busybox"; };

  roots = {
    seed = [ "busybox-static" ];
    rust = [ "ca-certificates" "cargo" "gcc" "libc6-dev" "rust-clippy" "rustc" "rustfmt" ];
    assembling = [ "cryptsetup-bin" "dosfstools" "erofs-utils" "fdisk" "mtools" "qemu-utils" "zstd" ];
    qemu = [ "ovmf" "qemu-system-x86" "seabios" ];
    containers = [ "iproute2" "nftables" "systemd-container" "util-linux" ];
    signatures = [ "debian-archive-keyring" "gpgv" ];
  };
}
