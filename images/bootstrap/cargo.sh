# Runs cargo over the workspace with the vendored crates; members whose sources are not given are empty.
place() { while read -r path file; do [ -z "$path" ] || { mkdir -p "$(dirname "$path")"; cp -r "$file" "$path"; chmod -R u+w "$path"; }; done; }
printf '%s\n' "$sources" | place
for member in $members; do
  [ -d "$member/src" ] || { mkdir -p "$member/src"; echo '//! Empty.' > "$member/src/lib.rs"; printf '//! Empty.\nfn main() {}\n' > "$member/src/main.rs"; }
done
printf '%s\n' "$manifests" | place

export HOME="$PWD" CARGO_HOME="$PWD/.cargo" CARGO_TARGET_DIR="$PWD/target" CARGO_NET_OFFLINE=true
export PATH="$toolchain/bin" CARGO="$toolchain/bin/cargo" RUSTC="$toolchain/bin/rustc" CARGO_INCREMENTAL=0
export CARGO_BUILD_TARGET=x86_64-unknown-linux-gnu CARGO_BUILD_JOBS="${NIX_BUILD_CORES:-2}" SOURCE_DATE_EPOCH=1
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER="$toolchain/bin/cc"
# Static, so that a program runs in any image and on any host; no path of this build is left in it.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-Ctarget-feature=+crt-static --remap-path-prefix=$crates=/crates --remap-path-prefix=$PWD=/ballast"
mkdir -p .cargo
printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "%s"\n' "$crates" > .cargo/config.toml

if [ -n "$dependencies" ]; then cp -a "$dependencies/target" target; chmod -R u+w target; fi
applets=$PWD/applets
mkdir "$applets"
for applet in cat sh sleep true unshare; do ln -s "$busybox/bin/busybox" "$applets/$applet"; done
export PATH="$PATH:$applets"

set -o pipefail
"$CARGO" --locked $commands 2>&1 | tee said

if [ -n "${keep:-}" ]; then
  # Empty members must not pass for the real ones.
  find target -name '*ballast*' -prune -exec rm -rf {} +
  mkdir "$out"
  mv target "$out"
fi
for binary in ${binaries:-}; do
  mkdir -p "$out/bin"
  cp "target/x86_64-unknown-linux-gnu/release/$binary" "$out/bin"
done
[ -z "${results:-}" ] || { mkdir "$out"; grep '^test .* ok$' said > "$out/results"; }
[ -z "${passed:-}" ] || { mkdir "$out"; echo "test $passed ... ok" > "$out/results"; }
