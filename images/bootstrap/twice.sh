# Assembles the image again under hostile differences and compares every file of both outputs.
umask 077
mkdir -p "elsewhere/with a space"
cd "elsewhere/with a space"
export PATH="$tools/bin:/nowhere" TZ=Pacific/Kiritimati LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8 HOME=/nowhere SOURCE_DATE_EPOCH=4102444800
"$assembler/bin/ballast-assemble" image --spec "$spec" --packages "$packagesPath" \
  --agent "$agent/bin/ballast-agent" --init "$agent/bin/ballast-init" --out "$PWD/out" --parts "$PWD/parts"
for file in $(cd "$image" && find . -type f); do
  cmp "$image/$file" "out/$file"
  echo "ok $file is the same twice" >> "$NIX_BUILD_TOP/results"
done
mkdir "$out"
cp "$NIX_BUILD_TOP/results" "$out/results"
