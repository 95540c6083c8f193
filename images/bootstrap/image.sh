# Assembles one image from files alone.
export PATH="$tools/bin" GCONV_PATH="$charsets"
"$assembler/bin/ballast-assemble" image --spec "$spec" --packages "$packages" \
  --agent "$agent/bin/ballast-agent" --init "$agent/bin/ballast-init" --out "$out" --parts "$parts"
