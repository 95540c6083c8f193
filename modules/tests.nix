# Promises of the composition, as names and truths; `flake.nix` makes a check of them.
let
  modules = import ./default.nix;
  evaluate = list: modules.evaluate { modules = list; };
  refused = value: ! (builtins.tryEval (builtins.deepSeq value value)).success;
  server = [ ./consul-server.nix { name = "a"; } ];
  plain = evaluate server;
  jitFiles = spec: builtins.filter (path: builtins.match ".*/llvmjit.*" path != null) spec.image.leave_out;
  database = [ "postgres" { name = "a"; } ];
in
{
  "a later plain value wins" =
    (evaluate (server ++ [ { role.healthyWithinSecs = 7; } ])).role.healthy_within_secs == 7;

  "lists append" =
    let spec = evaluate (server ++ [ { packages = [ "tcpdump" ]; } ]);
    in builtins.length spec.image.packages == builtins.length plain.image.packages + 1
      && builtins.elem "tcpdump" spec.image.packages;

  "null takes an attribute away" =
    builtins.length (evaluate (server ++ [ { role.checks.memory = null; } ])).role.checks
      == builtins.length plain.role.checks - 1;

  "a module may read the composed result" =
    (evaluate (server ++ [ (final: { files."/etc/motd".text = final.role.name; }) ])).image.files
      != plain.image.files;

  "a unit with text becomes a file and is enabled" =
    let spec = evaluate (server ++ [ { units."a.service" = { enable = true; text = "[Unit]\n"; }; } ]);
    in builtins.elem "a.service" spec.image.units.enable
      && builtins.any (file: file.path == "/usr/lib/systemd/system/a.service") spec.image.files;

  "the order in which attributes are written changes nothing" =
    evaluate (server ++ [ { groups = { x.gid = 1001; y.gid = 1002; }; } ])
      == evaluate (server ++ [ { groups = { y.gid = 1002; x.gid = 1001; }; } ]);

  "a package that stays out is named once, and a module may take it back" =
    modules.withoutPackages { modules = server ++ [ { withoutPackages = { a = "why"; b = "why"; }; } { withoutPackages.a = null; } ]; }
      == [ "b" ];

  "PostgreSQL has its JIT where it is asked for, and nowhere else" =
    let without = list: modules.withoutPackages { modules = list; };
        asked = database ++ [ "postgres-jit" ];
    in builtins.elem "libllvm19" (without database) && ! builtins.elem "libllvm19" (without asked)
      && jitFiles (evaluate database) != [ ] && jitFiles (evaluate asked) == [ ];

  "an unknown option is refused" = refused (evaluate (server ++ [ { pakcages = [ "tcpdump" ]; } ]));

  "an unknown option inside a unit is refused" =
    refused (evaluate (server ++ [ { units."a.service".enabled = true; } ]));

  "a list where a set stood is refused" = refused (evaluate (server ++ [ { users = [ "a" ]; } ]));

  "one user id for two users is refused" =
    refused (evaluate (server ++ [ {
      users.other = { uid = 900; group = "consul"; home = "/"; shell = "/usr/sbin/nologin"; };
    } ]));

  "a user in a group nobody declares is refused" =
    refused (evaluate (server ++ [ { users.consul.group = "nobody-declares-me"; } ]));

  "a check that outlives its interval is refused" =
    refused (evaluate (server ++ [ { role.checks.disk.timeoutSecs = 31; } ]));

  "a gate that asks other nodes is refused" =
    refused (evaluate (server ++ [ { role.checks.consul-leader.gate = true; } ]));

  "an assertion of the author's own is kept" =
    refused (evaluate (server ++ [ { assertions = [ { check = false; message = "no"; } ]; } ]));
}
