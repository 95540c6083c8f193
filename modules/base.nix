# What every machine has: systemd, the network, the agent, Consul, and a root that holds nothing else.
final: {
  packages = [
    "base-files" "base-passwd" "ca-certificates" "coreutils" "dash" "dbus" "e2fsprogs" "iproute2" "kmod" "netbase"
    "nftables" "systemd" "systemd-boot" "systemd-boot-efi" "systemd-boot-tools" "systemd-cryptsetup" "systemd-repart"
    "systemd-resolved" "systemd-sysv" "systemd-timesyncd" "udev" "util-linux"
    "consul"
  ];

  kernel = {
    # The last console is /dev/console: where units that say `console` write.
    commandLine = [ "console=tty0" "console=ttyS0,115200" "loglevel=4" "panic=10" ];
    initrdModules = [ "virtio_pci" "virtio_blk" "nvme" "sha256_ssse3" "dm_mod" "dm_verity" "erofs" "loop" ];
    # What a server in a cloud talks to disks, networks, clocks and its firmware with. Other file systems stay out.
    keepModules = [
      "arch/x86/crypto" "crypto" "lib"
      "drivers/ata" "drivers/block/virtio_blk" "drivers/block/xen-blkfront" "drivers/cdrom" "drivers/char/hw_random"
      "drivers/char/tpm" "drivers/firmware" "drivers/hv" "drivers/net/ethernet" "drivers/net/hyperv"
      "drivers/net/net_failover" "drivers/net/virtio_net" "drivers/net/vmxnet3" "drivers/net/xen-netfront"
      "drivers/nvme/host" "drivers/ptp" "drivers/scsi/hv_storvsc" "drivers/scsi/sd_mod" "drivers/scsi/sr_mod"
      "drivers/scsi/virtio_scsi" "drivers/scsi/vmw_pvscsi" "drivers/virt" "drivers/virtio" "drivers/watchdog"
      "fs/autofs" "fs/configfs" "fs/efivarfs" "fs/fat" "fs/fuse" "fs/isofs" "fs/nls/nls_ascii"
      "fs/nls/nls_cp437" "fs/nls/nls_utf8" "fs/overlayfs"
      "net/core" "net/ipv4/netfilter" "net/ipv6/netfilter" "net/netfilter" "net/packet"
      "net/sched/sch_fq" "net/sched/sch_fq_codel" "net/vmw_vsock"
    ];
  };

  groups.consul.gid = 900;
  users.consul = { uid = 900; group = "consul"; home = "/var/lib/consul"; shell = "/usr/sbin/nologin"; };

  files."/usr/lib/tmpfiles.d/ballast.conf".text = ''
    d /var/lib/ballast 0700 root root -
    # The initrd looks here first, so that a machine keeps its id.
    C /var/lib/ballast/machine-id 0444 root root - /etc/machine-id
    d /var/lib/consul 0700 consul consul -
  '';

  # The agent knows the node's name; the root, which every node shares, does not.
  links."/etc/hosts" = "/run/ballast/hosts";

  # The root is slot A; slot B and the state partition are made on first boot. The agent and its data survive an
  # update in the last one. Slots have their sizes for good: what is next to a full one cannot grow.
  files."/usr/lib/repart.d/10-esp.conf".text = ''
    [Partition]
    Type=esp
  '';
  files."/usr/lib/repart.d/20-root-a.conf".text = ''
    [Partition]
    Type=root
    SizeMinBytes=${toString final.partitions.slotBytes}
    SizeMaxBytes=${toString final.partitions.slotBytes}
  '';
  files."/usr/lib/repart.d/21-verity-a.conf".text = ''
    [Partition]
    Type=root-verity
    SizeMinBytes=${toString final.partitions.hashBytes}
    SizeMaxBytes=${toString final.partitions.hashBytes}
  '';
  files."/usr/lib/repart.d/30-root-b.conf".text = ''
    [Partition]
    Type=root
    Label=_empty
    SizeMinBytes=${toString final.partitions.slotBytes}
    SizeMaxBytes=${toString final.partitions.slotBytes}
  '';
  files."/usr/lib/repart.d/31-verity-b.conf".text = ''
    [Partition]
    Type=root-verity
    Label=_empty
    SizeMinBytes=${toString final.partitions.hashBytes}
    SizeMaxBytes=${toString final.partitions.hashBytes}
  '';
  files."/usr/lib/repart.d/40-state.conf".text = ''
    [Partition]
    Type=var
    Label=state
    Format=ext4
    SizeMinBytes=${toString final.partitions.stateBytes}
  '';

  # The initrd leaves this file when the root is on a disk: a root that came over the network has no disk to divide, nor
  # has a container.
  files."/usr/lib/systemd/system/systemd-repart.service.d/ballast.conf".text = ''
    [Unit]
    ConditionPathExists=/run/ballast/root-disk
  '';

  # Time comes from the servers that the bundle names (the agent writes them to the link), and from no others.
  files."/usr/lib/systemd/timesyncd.conf.d/ballast.conf".text = ''
    [Time]
    NTP=
    FallbackNTP=
  '';

  # A slow host takes its time to divide the disk and to make a file system on first boot.
  files."/usr/lib/systemd/system/dev-disk-by\\x2dpartlabel-state.device.d/ballast.conf".text = ''
    [Unit]
    JobRunningTimeoutSec=600
  '';

  files."/usr/lib/systemd/system/systemd-bless-boot.service.d/ballast.conf".text = ''
    [Unit]
    RequiresMountsFor=/efi
  '';

  units = {
    # The initrd has local-fs.target require it when there is a disk for it; a container's /var is its host's affair.
    "var.mount" = {
      text = ''
        [Unit]
        Description=State partition
        DefaultDependencies=no
        Requires=systemd-fsck@dev-disk-by\x2dpartlabel-state.service
        After=systemd-repart.service systemd-fsck@dev-disk-by\x2dpartlabel-state.service
        Before=local-fs.target
        Conflicts=umount.target
        Before=umount.target

        [Mount]
        What=/dev/disk/by-partlabel/state
        Where=/var
        Type=ext4
        Options=nosuid,nodev,noatime
      '';
    };

    # Mounted for whom it concerns: the program that blesses a boot.
    "efi.mount" = {
      text = ''
        [Unit]
        Description=EFI system partition

        [Mount]
        What=/dev/disk/by-partlabel/esp
        Where=/efi
        Type=vfat
        Options=nosuid,nodev,noexec,umask=0077
      '';
    };

    "ballast-boot.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Take the node's bundle and write what it says
        DefaultDependencies=no
        # Generations of the bundle live on the state partition.
        RequiresMountsFor=/var/lib/ballast
        After=systemd-tmpfiles-setup.service systemd-udev-trigger.service
        # Address, host name and firewall must stand before any link comes up.
        Before=network-pre.target systemd-networkd.service systemd-resolved.service
        Wants=network-pre.target
        Conflicts=shutdown.target
        Before=shutdown.target

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/bin/ballast-agent boot
        ImportCredential=ballast.*
        StandardOutput=journal+console
        StandardError=journal+console

        [Install]
        WantedBy=multi-user.target
      '';
    };

    "ballast-firewall.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Open only what the role needs
        DefaultDependencies=no
        # The agent writes the ruleset, a closed one when it has no bundle.
        After=ballast-boot.service
        Before=network-pre.target systemd-networkd.service
        Wants=network-pre.target
        Conflicts=shutdown.target
        Before=shutdown.target

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/sbin/nft -f /run/ballast/firewall.nft

        [Install]
        # Without its firewall a node has no network.
        RequiredBy=systemd-networkd.service
      '';
    };

    "ballast-fetch.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Fetch the node's bundle from the URL on the kernel command line
        # Needs an address: DHCP's on a first boot, the bundle's own on later ones.
        After=ballast-boot.service systemd-networkd.service systemd-resolved.service
        ConditionKernelCommandLine=ballast.bundle

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        # Restarts consul.service and ballast.service when there is another bundle: neither waits for the URL's server.
        ExecStart=/usr/bin/ballast-agent fetch
        # The agent keeps its own, shorter deadline and says what it waited for.
        TimeoutStartSec=300
        ImportCredential=ballast.*
        StandardOutput=journal+console
        StandardError=journal+console

        [Install]
        WantedBy=multi-user.target
      '';
    };

    "consul.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Consul agent
        # It binds to every address and joins when it can, so it need not wait for the network.
        After=ballast-boot.service
        # No bundle, no Consul.
        ConditionPathExists=/run/ballast/consul/agent.json
        # Comes back however often it must; RestartSec paces it.
        StartLimitIntervalSec=0

        [Service]
        User=consul
        Group=consul
        ExecStart=/usr/bin/consul agent -config-dir=/run/ballast/consul
        ExecReload=/bin/kill -HUP $MAINPID
        # Neither signal makes the agent leave: see leave_on_terminate and skip_leave_on_interrupt.
        KillSignal=SIGTERM
        Restart=always
        RestartSec=2
        LimitNOFILE=65536
        NoNewPrivileges=yes
        ProtectSystem=strict
        ReadWritePaths=/var/lib/consul
        ProtectHome=yes
        PrivateTmp=yes

        [Install]
        WantedBy=multi-user.target
      '';
    };

    "ballast.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Check the node's health and keep Consul informed
        # After Consul only so that the first round finds it: neither needs the other to be up.
        After=ballast-boot.service consul.service
        # No bundle, nothing to check or to register.
        ConditionPathExists=/run/ballast/consul/agent.json
        StartLimitIntervalSec=0

        [Service]
        Type=notify
        ExecStart=/usr/bin/ballast-agent run
        # The agent's main loop answers it, as long as every check is being asked.
        WatchdogSec=30
        Restart=always
        RestartSec=2
        # A machine with too much to do still says that it lives.
        Nice=-10
        CPUWeight=1000
        OOMScoreAdjust=-950

        [Install]
        WantedBy=multi-user.target
      '';
    };

    "ballast-gate.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Wait until the role is healthy
        # A first bundle may still be on its way.
        After=ballast.service ballast-fetch.service
        # What follows boot-complete.target (the boot loader's blessing) waits for this.
        Before=boot-complete.target

        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/usr/bin/ballast-agent gate
        # The agent keeps its own, shorter deadline and names the check that missed it.
        TimeoutStartSec=${toString (final.role.healthyWithinSecs + 60)}
        StandardError=journal+console

        [Install]
        RequiredBy=boot-complete.target
        # Asked on machines without boot counting too.
        WantedBy=multi-user.target
      '';
    };

    # Debian's own holds up every boot until it runs, for machines without a clock.
    "systemd-timesyncd.service" = {
      enable = true;
      text = ''
        [Unit]
        Description=Network time
        # The link says whom to ask.
        After=ballast-boot.service systemd-networkd.service
        ConditionCapability=CAP_SYS_TIME
        ConditionVirtualization=!container

        [Service]
        Type=notify
        User=systemd-timesync
        AmbientCapabilities=CAP_SYS_TIME
        CapabilityBoundingSet=CAP_SYS_TIME
        ExecStart=/usr/lib/systemd/systemd-timesyncd
        RuntimeDirectory=systemd/timesync
        StateDirectory=systemd/timesync
        WatchdogSec=180
        Restart=always
        NoNewPrivileges=yes
        ProtectSystem=strict
        ProtectHome=yes
        PrivateTmp=yes
        PrivateDevices=yes

        [Install]
        WantedBy=multi-user.target
      '';
    };

    # Where a boot ends that could not mount its state partition. Nobody can log in to mend it, so it is tried again, and
    # boot counting may choose the other slot.
    "emergency.service" = {
      text = ''
        [Unit]
        Description=Start the machine again, because this boot failed
        DefaultDependencies=no
        Conflicts=shutdown.target
        Before=shutdown.target
        SuccessAction=reboot-force
        FailureAction=reboot-force

        [Service]
        Type=oneshot
        # Time to read the console, and a pace for a machine that fails for ever.
        ExecStart=/usr/bin/sleep 30
      '';
    };

    "systemd-networkd.service".enable = true;
    "systemd-resolved.service".enable = true;
    "systemd-networkd-wait-online.service".mask = true;
    "systemd-firstboot.service".mask = true;
    # The cache of shared libraries is part of the image, and the program that writes it is not.
    "ldconfig.service".mask = true;
    # The boot loader comes with the image and not from the running system, and an image's random seed would be everyone's.
    "systemd-boot-update.service".mask = true;
    "systemd-boot-random-seed.service".mask = true;
    "systemd-bootctl.socket".mask = true;
    # Each costs a process or a mount in every boot, and nothing here uses them: the initrd has loaded the modules,
    # the root needs no second mount, and messages are explained where they are read.
    "dev-hugepages.mount".mask = true;
    "dev-mqueue.mount".mask = true;
    "modprobe@configfs.service".mask = true;
    "modprobe@dm_mod.service".mask = true;
    "modprobe@drm.service".mask = true;
    "modprobe@fuse.service".mask = true;
    "modprobe@loop.service".mask = true;
    "proc-sys-fs-binfmt_misc.automount".mask = true;
    "sys-fs-fuse-connections.mount".mask = true;
    "sys-kernel-config.mount".mask = true;
    "sys-kernel-debug.mount".mask = true;
    "sys-kernel-tracing.mount".mask = true;
    "systemd-journal-catalog-update.service".mask = true;
    "systemd-remount-fs.service".mask = true;
    "systemd-update-done.service".mask = true;
    "systemd-user-sessions.service".mask = true;
    # No account has a password and none may log in.
    "getty@.service".mask = true;
    "serial-getty@.service".mask = true;
    "console-getty.service".mask = true;
    "container-getty@.service".mask = true;
  };

  leaveOut = [
    "/boot"
    # Programs that nobody runs on a node, and libraries only they use: other initrds, local passwords, traffic shaping.
    "/usr/bin/lslogins"
    "/usr/bin/openssl"
    "/usr/lib/x86_64-linux-gnu/libdb-5.3.so"
    "/usr/lib/x86_64-linux-gnu/liblastlog2.so*"
    "/usr/lib/x86_64-linux-gnu/libmvec.so.1"
    "/usr/lib/x86_64-linux-gnu/libsemanage.so*"
    "/usr/lib/x86_64-linux-gnu/libsepol.so*"
    "/usr/lib/x86_64-linux-gnu/libsqlite3.so*"
    "/usr/lib/x86_64-linux-gnu/security/pam_lastlog2.so"
    "/usr/lib/x86_64-linux-gnu/security/pam_userdb.so"
    "/usr/sbin/arpd"
    "/usr/sbin/debugfs"
    "/usr/sbin/tc"
    "/usr/sbin/useradd"
    "/usr/sbin/userdel"
    "/usr/sbin/usermod"
    "/usr/sbin/groupadd"
    "/usr/sbin/groupdel"
    "/usr/sbin/groupmod"
    "/etc/initramfs"
    "/etc/kernel"
    # Nothing here is found by guessing: the initrd verified the root, and units name the rest.
    "/usr/lib/systemd/system-generators/systemd-cryptsetup-generator"
    "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator"
    "/usr/lib/systemd/system-generators/systemd-hibernate-resume-generator"
    "/usr/lib/systemd/system-generators/systemd-integritysetup-generator"
    "/usr/lib/systemd/system-generators/systemd-rc-local-generator"
    "/usr/lib/systemd/system-generators/systemd-system-update-generator"
    "/usr/lib/systemd/system-generators/systemd-sysv-generator"
    "/usr/lib/systemd/system-generators/systemd-tpm2-generator"
    "/usr/lib/systemd/system-generators/systemd-veritysetup-generator"
    "/usr/lib/udev/hwdb.d"
    "/usr/lib/x86_64-linux-gnu/gconv"
    "/usr/share/bash-completion"
    # What builds other initrds, and what dash and consul do not use.
    "/usr/lib/dracut"
    "/usr/lib/klibc"
    "/usr/lib/klibc-*.so"
    "/usr/share/initramfs-tools"
    "/usr/share/bug"
    "/usr/share/doc"
    "/usr/share/doc-base"
    "/usr/share/i18n"
    "/usr/share/info"
    "/usr/share/lintian"
    "/usr/share/locale"
    "/usr/share/man"
    "/usr/share/polkit-1"
    "/usr/share/zsh"
  ];

  # Every node runs a Consul agent, and all of them gossip.
  role.ports = {
    consul-lan = { port = 8301; protocol = "tcp"; from = "site"; };
    consul-lan-udp = { port = 8301; protocol = "udp"; from = "site"; };
  };

  role.checks = {
    disk = {
      intervalSecs = 30;
      timeoutSecs = 5;
      kind = { type = "disk"; path = "/var"; warning_percent = 85; critical_percent = 95; };
    };
    memory = {
      intervalSecs = 30;
      timeoutSecs = 5;
      kind = { type = "memory"; warning_percent = 90; critical_percent = 97; };
    };
    consul-agent = {
      gate = true;
      intervalSecs = 5;
      timeoutSecs = 3;
      kind = { type = "consul_agent"; };
    };
    consul-leader = {
      intervalSecs = 5;
      timeoutSecs = 3;
      kind = { type = "consul_leader"; };
    };
  };
}
