# What a module may say, and what holds when none says it. `any` stands for names the author chooses.
{
  tree = {
    name = "the image's name: lower case, digits, hyphens";
    version = "the image's version, shown by the node";
    packages = "Debian packages asked for; the lock holds their closure";
    withoutPackages.any = "why a package of the closure stays out, though another depends on it";
    kernel = {
      package = "the kernel's package";
      commandLine = "words; the assembler adds the root hash";
      initrdModules = "kernel modules the initrd loads; dependencies are added";
      keepModules = "directories of kernel modules, or modules, the root keeps; empty keeps all";
    };
    users.any = { uid = "fixed"; group = "primary group"; home = "directory"; shell = "program"; };
    groups.any = { gid = "fixed"; };
    # By absolute path.
    files.any = { text = "content"; mode = "octal, 0644 unless told"; };
    # By absolute path of the link: its target.
    links.any = "target";
    units.any = {
      text = "the unit file's content; without it, the package's own unit is meant";
      enable = "start it, by its [Install] section";
      mask = "link it to /dev/null";
    };
    defaultTarget = "what the machine boots into";
    # An element may be null, for a module that decides it from the composed result.
    leaveOut = "paths left out of the root";
    partitions = { espBytes = ""; slotBytes = ""; hashBytes = ""; stateBytes = ""; };
    siteKeys = "public keys of sites whose bundles are accepted; empty: the first bundle pins its own";
    scriptsWithoutEffect = "packages whose maintainer scripts were read and do nothing needed here";
    role = {
      name = "what the node is for";
      service = "the Consul service it registers";
      ports.any = { port = "number"; protocol = "tcp or udp"; from = "site, clients or any"; };
      checks.any = {
        gate = "a boot is good only once it passes";
        intervalSecs = "between probes";
        timeoutSecs = "until an unanswered probe is critical";
        # `type` and its arguments, as `CheckKind` of the contract says.
        kind.any = "";
      };
      healthyWithinSecs = "how long a boot may take to become healthy";
    };
    # { check = bool; message = "…"; }
    assertions = "rules between options, checked when the image is evaluated";
  };

  defaults = {
    version = "0.1.0";
    packages = [ ];
    withoutPackages = { };
    kernel = { package = "linux-image-cloud-amd64"; commandLine = [ ]; initrdModules = [ ]; keepModules = [ ]; };
    users = { };
    groups = { };
    files = { };
    links = { };
    units = { };
    defaultTarget = "multi-user.target";
    leaveOut = [ ];
    partitions = {
      # Room for the UKIs of two slots and their successors; firmware takes it for FAT32 from 33 MiB on.
      espBytes = 128 * 1024 * 1024;
      slotBytes = 512 * 1024 * 1024;
      hashBytes = 8 * 1024 * 1024;
      stateBytes = 1024 * 1024 * 1024;
    };
    siteKeys = [ ];
    scriptsWithoutEffect = [ ];
    role = { ports = { }; checks = { }; healthyWithinSecs = 300; };
    assertions = [ ];
  };
}
