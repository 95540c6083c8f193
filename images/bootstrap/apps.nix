# What `nix run` starts: our programs, told by the environment where the image and the locked tools are.
{ lock, locked, seed, trees, tools, workspace }:
let
  inherit (builtins) attrNames concatStringsSep intersectAttrs map;

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

  # The lab's site: three nodes of each of these that there is an image for.
  roles = intersectAttrs { consul-server = null; postgres = null; redis = null; };

  # Where the machine driver finds what it boots, by role, and what it boots it with.
  machines = images:
    let
      each = path: concatStringsSep ":" (map (role: "${role}=${path images.${role}}") (attrNames images));
    in {
      BALLAST_IMAGE = each (image: image);
      BALLAST_PARTS = each (image: image.parts);
      BALLAST_QEMU = "${trees.closure "qemu"}:${trees.closure "assembling"}";
      BALLAST_NSPAWN = "${trees.closure "containers"}:${trees.closure "assembling"}";
      BALLAST_COMMAND = "${workspace.operator}/bin/ballast";
    };
in
{
  inherit app machines;

  apps = images: {
    ballast = app "ballast" { program = "${workspace.operator}/bin/ballast"; };

    lab = app "lab" {
      program = "${workspace.machines}/bin/ballast-machines";
      arguments = "lab";
      environment = machines (roles images);
    };

    containers = app "containers" {
      program = "${workspace.machines}/bin/ballast-machines";
      arguments = "test --backend nspawn";
      environment = machines { inherit (images) consul-server postgres; };
    };

    bench = let image = images.consul-server; in app "bench" {
      program = "${workspace.bench}/bin/ballast-bench";
      environment = machines (roles images) // {
        BALLAST_FAULTS = "${workspace.faults}/bin/ballast-faults";
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

    faults = app "faults" {
      program = "${workspace.faults}/bin/ballast-faults";
      environment = machines (roles images);
    };

    lock = app "lock" {
      program = "${workspace.lock}/bin/ballast-lock";
      arguments = "--gpgv ${tools.signatures.programs}/bin/gpgv --keyring ${tools.signatures.keyring}";
    };
  };
}
