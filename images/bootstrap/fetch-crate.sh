# Fetches one crate: from a mirror's folder `crates` if a mirror is a directory, else with cargo, whose registry only it knows.
for mirror in ${BALLAST_MIRROR:-}; do
  [ -f "$mirror/crates/$crate-$version.crate" ] && cp "$mirror/crates/$crate-$version.crate" "$out" && exit 0
done
# A network may answer with an authority of its own, which only the machine's bundle knows; Debian's own is the last resort.
for bundle in "${NIX_SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt "$PWD/debian.crt"; do
  [ -f "$bundle" ] && break
  cat "$tree"/usr/share/ca-certificates/mozilla/*.crt > debian.crt
done
export HOME="$PWD" CARGO_HOME="$PWD/cargo" CARGO="$toolchain/bin/cargo" RUSTC="$toolchain/bin/rustc" CARGO_HTTP_CAINFO="$bundle"
"$CARGO" --quiet info "$crate@$version" > /dev/null || { echo "cannot fetch the crate $crate $version" >&2; exit 1; }
cp cargo/registry/cache/*/"$crate-$version.crate" "$out"
