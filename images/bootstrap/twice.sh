# Assembles the image again under hostile differences and compares every file of both outputs.
umask 077
mkdir -p "elsewhere/with a space"
cd "elsewhere/with a space"
export PATH="$tools/bin:/nowhere" GCONV_PATH="$charsets" TZ=Pacific/Kiritimati LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 HOME=/nowhere SOURCE_DATE_EPOCH=4102444800
"$assembler/bin/ballast-assemble" image --spec "$spec" --packages "$packages" \
  --agent "$agent/bin/ballast-agent" --init "$agent/bin/ballast-init" --out out --parts parts
compare() {
  (cd "$1" && find . -type f) | sort | while read -r file; do
    cmp "$1/$file" "$2/$file"
    echo "test ${file#./} is the same twice ... ok" | tee -a results
  done
}
compare "$image" out
compare "$parts" parts
mkdir "$out"
cp results "$out/results"
