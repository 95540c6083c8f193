# Lays fetched files out as a mirror has them.
mkdir -p "$out/crates"
while read -r path file; do mkdir -p "$out/$(dirname "$path")"; ln -s "$file" "$out/$path"; done < "$debsPath"
while read -r name checksum file; do ln -s "$file" "$out/crates/$name.crate"; done < "$cratesPath"
