# Writes the script that starts one of our programs.
mkdir -p "$out/bin"
cat > "$out/bin/$called" <<END
#!$busybox/bin/busybox sh
$exports
exec $program $arguments "\$@"
END
chmod 555 "$out/bin/$called"
