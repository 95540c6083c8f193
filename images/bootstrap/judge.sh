# Asks programs we did not write whether what we wrote is what it claims to be.
export PATH="$tools/bin"
holds() { name=$1; shift; "$@" > said 2>&1 || { cat said; echo "test $name ... FAILED"; exit 1; }; echo "test $name ... ok" | tee -a results; }
refuses() { name=$1; shift; if "$@" > said 2>&1; then cat said; echo "test $name ... FAILED"; exit 1; fi; echo "test $name ... ok" | tee -a results; }
shows() { name=$1 text=$2; shift 2; holds "$name" "$@"; grep -q -- "$text" said || { cat said; echo "$name: shows no $text"; exit 1; }; }
unpacks() { zstd -q -d -c "$1" | cmp - "$2"; }
root_hash=$(cat "$parts/roothash")

holds "fsck.erofs takes the root" fsck.erofs "$parts/root.erofs"
holds "veritysetup verifies the root" veritysetup verify "$parts/root.erofs" "$parts/root.verity" "$root_hash"
cp "$parts/root.erofs" flipped
chmod u+w flipped
printf 'x' | dd of=flipped bs=1 seek=123457 conv=notrunc 2> /dev/null
refuses "veritysetup refuses the root with one byte changed" veritysetup verify flipped "$parts/root.verity" "$root_hash"
holds "sfdisk verifies the partition table" sfdisk --verify "$image/disk.raw"
holds "fsck.vfat takes the ESP" fsck.vfat -n "$parts/esp.vfat"
holds "qemu-img takes disk.qcow2" qemu-img check "$image/disk.qcow2"
holds "disk.qcow2 holds disk.raw" qemu-img compare -f raw -F qcow2 "$image/disk.raw" "$image/disk.qcow2"
holds "disk.raw.zst holds disk.raw" unpacks "$image/disk.raw.zst" "$image/disk.raw"
shows "bootctl calls netboot.efi a UKI" uki bootctl kernel-identify "$image/netboot.efi"
shows "bootctl finds the root hash in the command line" "$root_hash" bootctl kernel-inspect "$image/netboot.efi"
holds "the initrd is zstd" zstd -t "$parts/initrd.zst"
mkdir "$out"
cp results "$out/results"
