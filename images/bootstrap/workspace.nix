# The workspace, compiled in the sandbox: its dependencies once, then each group of programs from only its own sources.
#
# Every group is resolved as part of the whole workspace, so that all of them share one compilation of each dependency.
{ seed, toolchain, crates, judges, redis, signatures, timers }:
let
  inherit (builtins) concatStringsSep fromTOML map readFile;

  root = ../../.;
  members = (fromTOML (readFile ../../Cargo.toml)).workspace.members;
  place = path: "${path} ${root + "/${path}"}";
  manifests = map place ([ "Cargo.toml" "Cargo.lock" ] ++ map (member: "${member}/Cargo.toml") members);

  cargo = { name, sources ? [ ], commands, dependencies ? "", ... }@attributes: seed.run ({
    script = ./cargo.sh;
    busybox = seed.busybox;
    inherit toolchain crates dependencies members;
    manifests = concatStringsSep "\n" manifests;
    sources = concatStringsSep "\n" (map place sources);
  } // removeAttrs attributes [ "sources" ]);

  # What cargo compiled of other people's crates, for `profile`.
  compiled = name: commands: attributes: cargo ({
    name = "ballast-dependencies-${name}";
    inherit commands;
    keep = true;
  } // attributes);
  released = compiled "release" "build --workspace --release" { };

  # A failing test says its lines; more would double the time to link them all.
  lines = { CARGO_PROFILE_DEV_DEBUG = "line-tables-only"; };

  programs = { name, sources, binaries }: cargo {
    inherit name;
    sources = [ "modules/contract" ] ++ sources;
    dependencies = released;
    commands = "build --workspace --release ${concatStringsSep " " (map (binary: "--bin ${binary}") binaries)}";
    inherit binaries;
  };
in
{
  dependencies = released;

  # Baked into images.
  agent = programs {
    name = "ballast-agent";
    sources = [ "agent/bundle" "agent/node" "images/init" ];
    binaries = [ "ballast-agent" "ballast-init" ];
  };
  assembler = programs {
    name = "ballast-assemble";
    sources = [ "images/assembler" ];
    binaries = [ "ballast-assemble" ];
  };
  operator = programs {
    name = "ballast";
    sources = [ "agent/bundle" "agent/operator" ];
    binaries = [ "ballast" ];
  };
  lock = programs {
    name = "ballast-lock";
    sources = [ "images/lock" ];
    binaries = [ "ballast-lock" ];
  };
  machines = programs {
    name = "ballast-machines";
    sources = [ "agent/bundle" "tests/driver" ];
    binaries = [ "ballast-machines" ];
  };
  bench = programs {
    name = "ballast-bench";
    sources = [ "agent/bundle" "tests/driver" "tests/bench" ];
    binaries = [ "ballast-bench" ];
  };
  faults = programs {
    name = "ballast-faults";
    sources = [ "agent/bundle" "tests/driver" "tests/faults" ];
    binaries = [ "ballast-faults" ];
  };

  tests = {
    # All tests of all crates, with nothing ignored: the programs they ask for are here.
    workspace = cargo (lines // {
      name = "ballast-tests";
      sources = members ++ [ "ARCHITECTURE.md" "images/debian.lock.json" ];
      dependencies = compiled "test" "test --workspace --no-run" lines;
      commands = "test --workspace --no-fail-fast -- --include-ignored";
      results = true;
      BALLAST_CONSUL = "${judges}/bin/consul";
      BALLAST_NFT = "${judges}/bin/nft";
      BALLAST_REDIS = "${redis}/bin/redis-server";
      BALLAST_SYSTEMD_ANALYZE = "${timers}/bin/systemd-analyze";
      BALLAST_GPGV = "${signatures.programs}/bin/gpgv";
      BALLAST_KEYRING = signatures.keyring;
    });

    clippy = cargo {
      name = "ballast-clippy";
      sources = members ++ [ "clippy.toml" "images/debian.lock.json" ];
      dependencies = compiled "check" "check --workspace --all-targets" { };
      commands = "check --workspace --all-targets --keep-going";
      RUSTC_WORKSPACE_WRAPPER = "${toolchain}/bin/clippy-driver";
      # A short text may be collected from its parts; later clippys no longer mind.
      CLIPPY_ARGS = "-Dwarnings__CLIPPY_HACKERY__-Aclippy::format_collect__CLIPPY_HACKERY__";
      passed = "clippy finds nothing";
    };

    format = seed.run {
      name = "ballast-format";
      script = ./format.sh;
      inherit toolchain;
      sources = map (member: root + "/${member}") members;
      configuration = root + "/rustfmt.toml";
    };
  };
}
