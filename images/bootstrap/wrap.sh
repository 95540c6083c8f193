# Writes one wrapper per program: the kernel would look for its loader at a path that does not exist here.
mkdir -p "$out/bin"
printf '%s\n' "$programs" | while read -r name path arguments; do
  [ -f "$tree/$path" ] || { echo "no package of $tree has $path" >&2; exit 1; }
  cat > "$out/bin/$name" <<END
#!$busybox/bin/busybox sh
exec $tree/usr/lib64/ld-linux-x86-64.so.2 --library-path $libraries --argv0 $tree/$path $tree/$path $arguments "\$@"
END
done
chmod 555 "$out"/bin/*
