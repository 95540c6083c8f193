# Adds `cc` to the wrapped tools: what it links dynamically (build scripts) starts without /lib64.
mkdir -p "$out/bin"
cp "$tools"/bin/* "$out/bin"
cat > "$out/bin/cc" <<END
#!$busybox/bin/busybox sh
case " \$* " in
  *" -static"* | *" -c "*) ;;
  *) set -- "\$@" -Wl,--dynamic-linker=$tree/usr/lib64/ld-linux-x86-64.so.2 -Wl,-rpath,$tree/usr/lib/x86_64-linux-gnu ;;
esac
exec $tools/bin/gcc -B$tools/bin "\$@"
END
chmod 555 "$out"/bin/cc
