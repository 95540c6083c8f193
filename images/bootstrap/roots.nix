# What is asked of Debian by name: one closure each for the build's own tools, beside those of the images.
{
  seed = [ "busybox-static" ];
  rust = [ "ca-certificates" "cargo" "gcc" "libc6-dev" "rust-clippy" "rustc" "rustfmt" ];
  assembling = [ "cryptsetup-bin" "dosfstools" "erofs-utils" "fdisk" "mtools" "qemu-utils" "zstd" ];
  qemu = [ "ovmf" "qemu-system-x86" "seabios" ];
  containers = [ "iproute2" "nftables" "systemd-container" "util-linux" ];
  signatures = [ "debian-archive-keyring" "gpgv" ];
}
