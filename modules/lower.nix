# Lowers one composed image to the spec's own form: names in snake_case, collections as lists sorted by name.
image:
let
  inherit (builtins) attrNames filter map;

  list = set: each: map (name: each name set.${name}) (attrNames set);
  unitsThat = field: filter (name: image.units.${name}.${field} or false) (attrNames image.units);
  withText = filter (name: image.units.${name} ? text) (attrNames image.units);
in
{
  version = 1;
  image = {
    inherit (image) name version;
    packages = builtins.sort (a: b: a < b) (image.packages ++ [ image.kernel.package ]);
    kernel = {
      command_line = image.kernel.commandLine;
      initrd_modules = image.kernel.initrdModules;
      keep_modules = image.kernel.keepModules;
    };
    users = list image.users (name: user: { inherit name; inherit (user) uid group home shell; });
    groups = list image.groups (name: group: { inherit name; inherit (group) gid; });
    files = list image.files (path: file: { inherit path; inherit (file) text; mode = file.mode or "0644"; })
      ++ map (name: {
        path = "/usr/lib/systemd/system/${name}";
        mode = "0644";
        inherit (image.units.${name}) text;
      }) withText;
    links = list image.links (path: target: { inherit path target; });
    units = {
      enable = unitsThat "enable";
      mask = unitsThat "mask";
      default_target = image.defaultTarget;
    };
    leave_out = filter (path: path != null) image.leaveOut;
    partitions = {
      esp_bytes = image.partitions.espBytes;
      slot_bytes = image.partitions.slotBytes;
      hash_bytes = image.partitions.hashBytes;
      state_bytes = image.partitions.stateBytes;
    };
    site_keys = image.siteKeys;
    scripts_without_effect = image.scriptsWithoutEffect;
  };
  role = {
    inherit (image.role) name;
    service = image.role.service or null;
    ports = list image.role.ports (name: port: { inherit name; inherit (port) port protocol from; });
    checks = list image.role.checks (name: check: {
      inherit name;
      inherit (check) kind;
      gate = check.gate or false;
      interval_secs = check.intervalSecs;
      timeout_secs = check.timeoutSecs;
    });
    healthy_within_secs = image.role.healthyWithinSecs;
  };
}
