# Debian's Rust and C compilers as they run in the sandbox, and the workspace built with them.
{ seed, trees }:
let
  tree = trees.closure "rust";
  libexec = "usr/libexec/gcc/x86_64-linux-gnu/14";

  # What the drivers start by name, which they find through `-B`.
  tools = trees.wrap {
    name = "rust-tools";
    inherit tree;
    programs = {
      ar = "usr/bin/x86_64-linux-gnu-ar";
      as = "usr/bin/x86_64-linux-gnu-as";
      cc1 = "${libexec}/cc1";
      collect2 = "${libexec}/collect2";
      gcc = { path = "usr/bin/x86_64-linux-gnu-gcc-14"; arguments = "--sysroot=${tree}"; };
      ld = "usr/bin/x86_64-linux-gnu-ld.bfd";
      objcopy = "usr/bin/x86_64-linux-gnu-objcopy";
      ranlib = "usr/bin/x86_64-linux-gnu-ranlib";
      rustc = { path = "usr/bin/rustc"; arguments = "--sysroot ${tree}/usr"; };
      rustdoc = { path = "usr/bin/rustdoc"; arguments = "--sysroot ${tree}/usr"; };
      cargo = "usr/bin/cargo";
      rustfmt = "usr/bin/rustfmt";
      cargo-fmt = "usr/bin/cargo-fmt";
      clippy-driver = "usr/bin/clippy-driver";
      cargo-clippy = "usr/bin/cargo-clippy";
    };
  };

  # `cc` beside them: a program it links names the tree's own loader, unless it is static.
  toolchain = seed.run {
    name = "ballast-rust";
    script = ./toolchain.sh;
    busybox = seed.busybox;
    inherit tree tools;
  };
in
{ inherit tree toolchain; }
