# Fetches one .deb by its path in the pool, from the first of the mirrors that has it as it was locked.
for mirror in ${BALLAST_MIRROR:-}; do
  for place in "$mirror/$path" "$mirror/$archive/$path"; do
    case $mirror in
      *://*) wget -q -T 60 --no-check-certificate -O got "$place" || continue ;;
      *) cp "$place" got || continue ;;
    esac
    if [ "$(sha256sum < got)" = "$outputHash  -" ]; then
      cp got "$out"
      exit 0
    fi
    echo "$place is not the package that was locked"
  done
done > refusals 2>&1
tail -n 4 refusals >&2
echo "cannot fetch $path: BALLAST_MIRROR names no mirror that has it (./nixw sets it from this machine's package manager)" >&2
exit 1
