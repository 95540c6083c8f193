# Writes the script behind `nix fmt`.
mkdir -p "$out/bin"
cat > "$out/bin/ballast-format-sources" <<END
#!$busybox/bin/busybox sh
[ \$# -gt 0 ] || set -- .
find "\$@" -name target -prune -o -name '*.rs' -print | xargs $toolchain/bin/rustfmt --edition 2024
END
chmod 555 "$out"/bin/*
