# Writes a file whose content names store paths.
cp "$contentPath" "$out"
