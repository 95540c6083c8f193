# A PostgreSQL node: Patroni keeps one node of its cluster primary and the others following it, by what Consul holds.
# The agent writes Patroni's configuration from the bundle; without it Patroni does not start.
final: {
  imports = [ ./base.nix ];

  packages = [
    # Has the locale C.UTF-8.
    "libc-bin"
    "patroni" "pgbackrest" "postgresql-17" "postgresql-client-17" "python3-consul" "tzdata"
  ];

  withoutPackages =
    let
      each = why: names: builtins.listToAttrs (map (name: { inherit name; value = why; }) names);
    in
    each "just-in-time compilation of queries: `postgres-jit` brings it" [ "libllvm19" "libz3-4" ]
    // each "Debian's own way to make and start clusters; Patroni is ours" [
      "postgresql-client-common" "postgresql-common" "postgresql-common-dev" "ssl-cert" "sysvinit-utils"
    ]
    // each "Perl, and what is written in it" [
      "libgdbm-compat4t64" "libgdbm6t64" "libio-pty-perl" "libipc-run-perl" "libjson-perl" "libperl5.40"
      "libtext-charwidth-perl" "libtext-wrapi18n-perl" "perl" "perl-base" "perl-modules-5.40" "ucf"
    ]
    // each "languages beside C.UTF-8" [ "libc-l10n" "locales" ]
    // each "nothing is installed on a node" [ "dpkg" "sensible-utils" "tar" ]
    // each "no one asks for it" [ "libsasl2-modules-db" "media-types" ];

  # A slot has room for a root with JIT; the data is on the state partition.
  partitions.slotBytes = 768 * 1024 * 1024;
  partitions.stateBytes = 4 * 1024 * 1024 * 1024;

  groups.postgres.gid = 910;
  users.postgres = { uid = 910; group = "postgres"; home = "/var/lib/postgresql"; shell = "/usr/sbin/nologin"; };

  files."/usr/lib/tmpfiles.d/ballast-postgres.conf".text = ''
    d /run/postgresql 2775 postgres postgres -
    d /var/lib/postgresql 0700 postgres postgres -
    d /run/pgbackrest 0750 postgres postgres -
    d /var/lib/pgbackrest 0750 postgres postgres -
    d /var/log/pgbackrest 0750 postgres postgres -
    d /var/spool/pgbackrest 0750 postgres postgres -
  '';

  # Patroni holds the watchdog, and not systemd.
  files."/usr/lib/udev/rules.d/60-ballast-postgres.rules".text = ''
    KERNEL=="watchdog", SUBSYSTEM=="misc", OWNER="postgres", GROUP="postgres", MODE="0600"
  '';
  files."/usr/lib/systemd/system.conf.d/ballast-postgres.conf".text = ''
    [Manager]
    RuntimeWatchdogSec=off
  '';

  links = {
    "/etc/pgbackrest.conf" = "/run/ballast/postgres/pgbackrest.conf";
    "/usr/bin/pg_basebackup" = "../lib/postgresql/17/bin/pg_basebackup";
    "/usr/bin/pg_dump" = "../lib/postgresql/17/bin/pg_dump";
    "/usr/bin/pg_isready" = "../lib/postgresql/17/bin/pg_isready";
    "/usr/bin/pg_restore" = "../lib/postgresql/17/bin/pg_restore";
    "/usr/bin/pgbench" = "../lib/postgresql/17/bin/pgbench";
    "/usr/bin/psql" = "../lib/postgresql/17/bin/psql";
  };

  units."ballast-watchdog.service" = {
    enable = true;
    text = ''
      [Unit]
      Description=The kernel's own watchdog, where the machine has none
      After=systemd-udev-trigger.service
      Before=patroni.service
      # A container cannot load modules.
      ConditionVirtualization=!container

      [Service]
      Type=oneshot
      RemainAfterExit=yes
      # The first driver is the one behind /dev/watchdog: the machine's own gets its time to be found.
      ExecCondition=-/usr/bin/udevadm settle --timeout=20
      ExecCondition=/usr/bin/test ! -e /dev/watchdog
      ExecStart=/usr/sbin/modprobe softdog

      [Install]
      WantedBy=multi-user.target
    '';
  };

  units."patroni.service" = {
    enable = true;
    text = ''
      [Unit]
      Description=Patroni, which runs PostgreSQL
      # After Consul so that it stops first: its leader key must be released through an agent that still runs. Nothing
      # more than an order, so that a restart of the agent costs nothing.
      # After the agent for the same reason: it sees the role go, and takes the node out of DNS.
      After=ballast-boot.service consul.service ballast.service
      RequiresMountsFor=/var/lib/postgresql
      # No bundle, no PostgreSQL.
      ConditionPathExists=/run/ballast/postgres/patroni.yml
      # Comes back however often it must; RestartSec paces it.
      StartLimitIntervalSec=0

      [Service]
      Type=exec
      User=postgres
      Group=postgres
      Environment=LANG=C.UTF-8
      # Where Patroni leaves a password for PostgreSQL's own use, off the disk: `postgresql.pgpass`.
      RuntimeDirectory=patroni
      RuntimeDirectoryMode=0700
      RuntimeDirectoryPreserve=restart
      ExecStart=/usr/bin/patroni /run/ballast/postgres/patroni.yml
      ExecReload=/bin/kill -HUP $MAINPID
      # Told to stop, Patroni stops PostgreSQL itself. When it is gone, nothing of PostgreSQL goes on without it: a primary
      # that nobody watches would take writes that the next one does not know.
      KillMode=mixed
      # PostgreSQL writes all dirty buffers before it stops; killed in between it would have to recover at its next start.
      TimeoutStopSec=300
      # One that died gives its key up at once, if nothing is to wait for it: by now its PostgreSQL is gone too.
      ExecStopPost=+-/usr/bin/ballast-agent release
      Restart=always
      # At once, and more slowly each time that it doesn't help.
      RestartSec=200ms
      RestartSteps=5
      RestartMaxDelaySec=10
      # The kernel takes a session's process before it takes the server, and the server resets it for its sessions.
      OOMScoreAdjust=-900
      Environment=PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj PG_OOM_ADJUST_VALUE=0
      LimitNOFILE=65536
      NoNewPrivileges=yes
      ProtectHome=yes
      PrivateTmp=yes

      [Install]
      WantedBy=multi-user.target
    '';
  };

  # A backup of the kind that its instance names, `full` or `incr`: started by the agent's timers, or when an operator asks.
  units."ballast-backup@.service".text = ''
    [Unit]
    Description=Back PostgreSQL up (%i)
    After=patroni.service
    ConditionPathExists=/run/ballast/postgres/pgbackrest.env

    [Service]
    Type=oneshot
    User=postgres
    Group=postgres
    EnvironmentFile=/run/ballast/postgres/pgbackrest.env
    # The timers run on every member, and the primary alone is backed up.
    ExecCondition=/usr/bin/ballast-agent primary
    # One after the other: of two at a time pgBackRest refuses one.
    ExecStart=/usr/bin/flock /run/pgbackrest/turn /usr/bin/pgbackrest --type=%i --log-level-console=info backup
    # Nobody waits for it: what clients ask for comes first.
    Nice=10
    IOSchedulingClass=idle
    NoNewPrivileges=yes
    ProtectHome=yes
    PrivateTmp=yes
  '';

  leaveOut = [
    # Debian's way to configure and start Patroni and clusters.
    "/etc/init.d/patroni"
    "/etc/patroni"
    "/usr/bin/patroni_aws"
    "/usr/bin/patroni_barman"
    "/usr/bin/patroni_raft_controller"
    "/usr/bin/patroni_wale_restore"
    "/usr/bin/pg_createconfig_patroni"
    "/usr/lib/systemd/system/patroni@.service"
    "/usr/share/patroni"
    # Needs Perl, or makes what the image has already.
    "/usr/bin/py3clean"
    "/usr/bin/py3compile"
    "/usr/sbin/iconvconfig"
    "/usr/sbin/ldconfig"
    "/usr/sbin/zic"
    "/usr/bin/localedef"
    # What Python brings for its own tests and for people at a terminal.
    "/usr/lib/python3/dist-packages/psutil/tests"
    "/usr/lib/python3.13/pydoc_data"
    "/usr/lib/python3.13/test"
    "/usr/lib/python3.13/turtle.py"
    "/usr/lib/python3.13/unittest"
    "/usr/lib/python3.13/_pyrepl"
    "/usr/share/python3/runtime.d"
    "/usr/share/postgresql/17/man"
  ]
  # PostgreSQL goes without JIT when its provider is not there.
  ++ map (path: if final.withoutPackages ? libllvm19 then path else null) [
    "/usr/lib/postgresql/17/lib/bitcode"
    "/usr/lib/postgresql/17/lib/llvmjit.so"
    "/usr/lib/postgresql/17/lib/llvmjit_types.bc"
  ];

  role = {
    name = "postgres";
    healthyWithinSecs = 300;
    ports = {
      # Observers ask the agent here whether the machine lives.
      peers = { port = 8511; protocol = "udp"; from = "site"; };
      patroni = { port = 8008; protocol = "tcp"; from = "site"; };
      postgresql = { port = 5432; protocol = "tcp"; from = "clients"; };
    };
    checks = {
      patroni-unit = {
        gate = true;
        intervalSecs = 5;
        timeoutSecs = 3;
        kind = { type = "unit"; unit = "patroni.service"; };
      };
      postgres-role = {
        intervalSecs = 2;
        timeoutSecs = 1;
        kind = { type = "database_role"; };
      };
      postgres-data = {
        intervalSecs = 10;
        timeoutSecs = 5;
        kind = { type = "postgres_data"; };
      };
      postgres-replication = {
        intervalSecs = 5;
        timeoutSecs = 5;
        kind = { type = "postgres_replication"; lag_warning_bytes = 64 * 1024 * 1024; };
      };
      postgres-synchronous = {
        intervalSecs = 5;
        timeoutSecs = 5;
        kind = { type = "postgres_synchronous"; };
      };
      postgres-archiver = {
        intervalSecs = 30;
        timeoutSecs = 5;
        kind = { type = "postgres_archiver"; };
      };
      # Of a week and a day: a backup a day is the default, and a week the least that anyone would call backed up.
      postgres-backup = {
        intervalSecs = 30;
        timeoutSecs = 5;
        kind = { type = "postgres_backup"; age_warning_hours = 8 * 24; };
      };
      postgres-settings = {
        intervalSecs = 30;
        timeoutSecs = 5;
        kind = { type = "postgres_settings"; };
      };
      clock = {
        intervalSecs = 60;
        timeoutSecs = 5;
        kind = { type = "clock"; };
      };
    };
  };
}
