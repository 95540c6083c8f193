# Fails where rustfmt would write another line.
cp "$configuration" rustfmt.toml
for source in $sources; do
  find "$source" -name '*.rs'
done | xargs "$toolchain/bin/rustfmt" --check --config-path "$PWD/rustfmt.toml" --edition 2024
mkdir "$out"
echo "test rustfmt would change nothing ... ok" > "$out/results"
