# Unpacks the .debs into one tree whose /bin, /sbin, /lib and /lib64 are links into /usr.
mkdir -p "$out/usr/bin" "$out/usr/sbin" "$out/usr/lib" "$out/usr/lib64"
ln -s usr/bin usr/sbin usr/lib usr/lib64 "$out"
printf '%s\n' $debs | xargs -n 1 -P "${NIX_BUILD_CORES:-2}" sh -eu -o pipefail -c 'ar p "$1" data.tar.xz | tar -x -J -o -f - -C "$0"' "$out"
chmod -R u+w "$out"
rm -rf "$out/usr/share/doc" "$out/usr/share/man" "$out/usr/share/locale" "$out/usr/share/info"
