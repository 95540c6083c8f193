# What `nix run` starts: our programs, told by the environment where the image and the locked tools are.
{ lock, locked, seed, trees, tools, workspace }:
let
  inherit (builtins) attrNames concatStringsSep map;

  app = name: { program, arguments ? "", environment ? { } }:
    let
      script = seed.run {
        name = "ballast-app-${name}";
        script = ./app.sh;
        busybox = seed.busybox;
        inherit program arguments;
        called = name;
        # What the caller's environment says wins.
        exports = concatStringsSep "\n" (map (key: "export ${key}=\"\${${key}:-${environment.${key}}}\"") (attrNames environment));
      };
    in { type = "app"; program = "${script}/bin/${name}"; };

  # Where the machine driver finds what it boots and what it boots it with.
  machines = image: {
    BALLAST_IMAGE = "${image}";
    BALLAST_PARTS = "${image.parts}";
    BALLAST_QEMU = "${trees.closure "qemu"}:${trees.closure "assembling"}";
    BALLAST_NSPAWN = "${trees.closure "containers"}:${trees.closure "assembling"}";
    BALLAST_COMMAND = "${workspace.operator}/bin/ballast";
  };
in
{
  inherit app machines;

  apps = image: {
    ballast = app "ballast" { program = "${workspace.operator}/bin/ballast"; };

    lab = app "lab" {
      program = "${workspace.machines}/bin/ballast-machines";
      arguments = "lab";
      environment = machines image;
    };

    bench = app "bench" {
      program = "${workspace.bench}/bin/ballast-bench";
      environment = machines image // {
        BALLAST_SPEC = image.specFile;
        BALLAST_PACKAGES = image.packagesFile;
        BALLAST_ASSEMBLE = "${workspace.assembler}/bin/ballast-assemble";
        BALLAST_ASSEMBLING_TOOLS = "${tools.assembling}/bin";
        BALLAST_CHARSETS = "${trees.closure "assembling"}/usr/lib/x86_64-linux-gnu/gconv";
        BALLAST_AGENT = "${workspace.agent}/bin/ballast-agent";
        BALLAST_INIT = "${workspace.agent}/bin/ballast-init";
        BALLAST_STOCK_TOOLS = "${trees.closure "stock-tools"}";
        BALLAST_STOCK_PACKAGES = locked.list lock "stock" lock.closures.stock.packages;
      };
    };

    lock = app "lock" {
      program = "${workspace.lock}/bin/ballast-lock";
      arguments = "--gpgv ${tools.signatures.programs}/bin/gpgv --keyring ${tools.signatures.keyring}";
    };
  };
}
