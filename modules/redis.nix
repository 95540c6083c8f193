# A Redis node: Redis, and beside it one of the Sentinels that agree on which node is the primary.
# Both rewrite their configuration when that changes, so it stands on the state partition; the agent settles it at each boot.
{
  imports = [ ./base.nix ];

  packages = [ "redis-sentinel" "redis-server" "redis-tools" ];

  groups.redis.gid = 911;
  users.redis = { uid = 911; group = "redis"; home = "/var/lib/redis"; shell = "/usr/sbin/nologin"; };

  files."/usr/lib/tmpfiles.d/ballast-redis.conf".text = ''
    d /var/lib/redis 0700 redis redis -
    d /var/lib/redis/data 0700 redis redis -
    # Huge pages would be copied whole for each byte written while a snapshot is made. A container may not.
    w- /sys/kernel/mm/transparent_hugepage/enabled - - - - never
  '';
  # The child that writes a snapshot shares its parent's memory, which strict accounting would count twice and refuse.
  files."/usr/lib/sysctl.d/60-ballast-redis.conf".text = "vm.overcommit_memory = 1\n";

  units =
    let
      service = ''
        User=redis
        Group=redis
        Type=notify
        # Redis does not start in a locale that the root does not have, and systemd would name one.
        Environment=LANG=C
        WorkingDirectory=/var/lib/redis
        # Ready once the data is read, which takes as long as there is data.
        TimeoutStartSec=infinity
        # Waits for replicas to have everything (10 s unless told otherwise), then for the disk.
        TimeoutStopSec=60
        # Soon after a crash, and ever later where it does not help: a damaged file stays damaged.
        Restart=always
        RestartSec=1
        RestartSteps=8
        RestartMaxDelaySec=30
        UMask=0077
        LimitNOFILE=65536
        NoNewPrivileges=yes
        ProtectSystem=strict
        ReadWritePaths=/var/lib/redis
        ProtectHome=yes
        PrivateTmp=yes
        PrivateDevices=yes
      '';
    in
    {
      "redis.service" = {
        enable = true;
        text = ''
          [Unit]
          Description=Redis
          # After Consul so that it stops first, while the node can still say so.
          After=ballast-boot.service consul.service
          RequiresMountsFor=/var/lib/redis
          # No bundle, no Redis.
          ConditionPathExists=/var/lib/redis/redis.conf
          # Comes back however often it must; RestartSec paces it.
          StartLimitIntervalSec=0

          [Service]
          ExecStart=/usr/bin/redis-server /var/lib/redis/redis.conf --supervised systemd --daemonize no
          # Holds the socket on which the agent asks.
          RuntimeDirectory=redis
          RuntimeDirectoryMode=0700
          # The kernel takes anything else before it takes the data.
          OOMScoreAdjust=-900
          ${service}
          [Install]
          WantedBy=multi-user.target
        '';
      };
      "redis-sentinel.service" = {
        enable = true;
        text = ''
          [Unit]
          Description=Redis Sentinel
          # It watches other nodes' Redis as well: it neither waits for this one's nor goes with it.
          After=ballast-boot.service consul.service
          RequiresMountsFor=/var/lib/redis
          ConditionPathExists=/var/lib/redis/sentinel.conf
          StartLimitIntervalSec=0

          [Service]
          ExecStart=/usr/bin/redis-sentinel /var/lib/redis/sentinel.conf --supervised systemd --daemonize no
          RuntimeDirectory=redis-sentinel
          RuntimeDirectoryMode=0700
          OOMScoreAdjust=-500
          ${service}
          [Install]
          WantedBy=multi-user.target
        '';
      };
    };

  leaveOut = [
    # Debian's configuration and its ways to start what we start.
    "/etc/default/redis-sentinel"
    "/etc/default/redis-server"
    "/etc/init.d/redis-sentinel"
    "/etc/init.d/redis-server"
    "/etc/redis"
    "/usr/lib/systemd/system/redis-sentinel@.service"
    "/usr/lib/systemd/system/redis-server.service"
    "/usr/lib/systemd/system/redis-server@.service"
  ];

  role = {
    name = "redis";
    healthyWithinSecs = 300;
    ports = {
      redis = { port = 6379; protocol = "tcp"; from = "clients"; };
      sentinel = { port = 26379; protocol = "tcp"; from = "site"; };
    };
    checks =
      let
        every = intervalSecs: type: { inherit intervalSecs; timeoutSecs = 3; kind = { inherit type; }; };
      in
      {
        # Local questions: whether this machine's boot is good. A new node waits for its group with both passing.
        redis-unit = { gate = true; intervalSecs = 5; timeoutSecs = 3; kind = { type = "unit"; unit = "redis.service"; }; };
        sentinel-unit = {
          gate = true;
          intervalSecs = 5;
          timeoutSecs = 3;
          kind = { type = "unit"; unit = "redis-sentinel.service"; };
        };
        redis-persistence = every 5 "redis_persistence" // { gate = true; };
        redis-memory = {
          intervalSecs = 5;
          timeoutSecs = 3;
          kind = { type = "redis_memory"; warning_percent = 85; critical_percent = 98; };
        };
        # What the group makes of it. Nothing is asked anew: the agent asks all of them several times a second.
        redis-role = every 3 "redis_role";
        redis-replication = every 3 "redis_replication";
        redis-sentinel = every 3 "redis_sentinel";
      };
  };
}
