# Boots machines from the image and tries what must hold between them.
export HOME="$PWD" TMPDIR="$PWD"
set -o pipefail
mkdir "$out"
"$machines/bin/ballast-machines" test --report "$out/report.json" 2>&1 | tee said
grep '^test .* ok' said > "$out/results"
