# Fetches one .deb by its path in the pool, from the first of the mirrors that has it.
for mirror in ${BALLAST_MIRROR:-}; do
  for place in "$path" "$archive/$path"; do
    case $mirror in
      http://* | https://* | ftp://*) wget -q -T 60 --no-check-certificate -O "$out" "$mirror/$place" && exit 0 ;;
      *) cp "$mirror/$place" "$out" && exit 0 ;;
    esac
  done
done 2>> refusals
tail -n 3 refusals >&2 || true
echo "cannot fetch $path: BALLAST_MIRROR names no mirror that has it (./nixw sets it from this machine's package manager)" >&2
exit 1
