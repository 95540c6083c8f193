//! The spec of one image, as the Nix modules lower it and as the assembler and the agent read it.

use serde::{Deserialize, Serialize};

use crate::{Check, CheckKind, Refused, SPEC_VERSION};

/// One image, wholly described: what goes in, what it is for, and how its health is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// [`SPEC_VERSION`].
    pub version: u32,
    /// What the assembler makes.
    pub image: Image,
    /// What the node is for.
    pub role: Role,
}

/// What the assembler makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The image's name, `consul-server-metal`: lower case, digits and hyphens.
    pub name: String,
    /// The image's version, shown by the node and used in slot labels: `0.1.0`.
    pub version: String,
    /// The packages asked for; their closure, with digests, is the lock's.
    pub packages: Vec<String>,
    /// The kernel and its command line.
    pub kernel: Kernel,
    /// Accounts beside those that Debian's base-passwd defines.
    #[serde(default)]
    pub users: Vec<User>,
    /// Groups beside those that Debian's base-passwd defines.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Files with their whole content; they replace a package's file of the same path.
    #[serde(default)]
    pub files: Vec<File>,
    /// Symbolic links.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Which units start.
    pub units: Units,
    /// Paths left out: an absolute path leaves out what is at and below it; `*` matches within one component.
    #[serde(default)]
    pub leave_out: Vec<String>,
    /// Sizes on the disk.
    pub partitions: Partitions,
    /// Site keys (hexadecimal Ed25519 public keys) whose bundles this image accepts. Empty: the first bundle pins its own.
    #[serde(default)]
    pub site_keys: Vec<String>,
    /// Packages whose maintainer scripts an image author has read and found without effect here.
    #[serde(default)]
    pub scripts_without_effect: Vec<String>,
}

/// The kernel and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Command line words; the assembler adds the root hash.
    pub command_line: Vec<String>,
    /// Kernel modules the initrd holds and loads, without suffix; dependencies are added.
    pub initrd_modules: Vec<String>,
    /// What the root keeps below `/usr/lib/modules/<release>/kernel`: directories (`drivers/scsi`) or modules
    /// (`drivers/net/virtio_net`), with what they depend on; empty keeps all.
    #[serde(default)]
    pub keep_modules: Vec<String>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id, fixed so that a data volume survives image updates.
    pub uid: u32,
    /// Primary group's name.
    pub group: String,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id, fixed like [`User::uid`].
    pub gid: u32,
}

/// A file owned by root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Permission bits in octal, `"0644"`.
    pub mode: String,
    /// Content.
    pub text: String,
}

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Absolute path of the link.
    pub path: String,
    /// What it holds, verbatim.
    pub target: String,
}

/// Which systemd units start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Units {
    /// Enabled by their own `[Install]` section, as `systemctl --root enable` would. All others stay disabled.
    pub enable: Vec<String>,
    /// Linked to `/dev/null`.
    #[serde(default)]
    pub mask: Vec<String>,
    /// What `default.target` links to.
    pub default_target: String,
}

/// Sizes on the disk, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partitions {
    /// EFI system partition.
    pub esp_bytes: u64,
    /// Each slot's data partition: room for this root and for later, larger ones.
    pub slot_bytes: u64,
    /// Each slot's hash partition.
    pub hash_bytes: u64,
    /// The state partition's least size; it grows to fill the disk on first boot.
    pub state_bytes: u64,
}

/// What the node is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// `consul-server`, or a name of the author's own: the agent then applies what every node gets, and these declarations.
    pub name: String,
    /// The Consul service the node registers, if any.
    #[serde(default)]
    pub service: Option<String>,
    /// Everything the firewall opens.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The node's health.
    pub checks: Vec<Check>,
    /// Seconds within which every gate must be passing for a boot to count as good.
    pub healthy_within_secs: u64,
}

/// One opened port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What it is, for the ruleset's comment.
    pub name: String,
    /// Port number.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
    /// Who may connect.
    pub from: Opened,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Who may connect to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    /// Addresses of the site's networks, as the bundle names them.
    Site,
    /// Those, and the networks that the bundle says clients come from.
    Clients,
    /// Anyone.
    Any,
}

impl Spec {
    /// Checks what types cannot: names, ranges and the rules between fields.
    ///
    /// # Errors
    /// The first rule broken, with its place in the document.
    pub fn validate(&self) -> Result<(), Refused> {
        if self.version != SPEC_VERSION {
            return Err(Refused::new(
                "version",
                format!("is {}, and this program reads {SPEC_VERSION}", self.version),
            ));
        }
        self.image.validate()?;
        self.role.validate()
    }
}

impl Image {
    fn validate(&self) -> Result<(), Refused> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            return Err(Refused::new(
                "image.name",
                format!("{:?} is not lower-case letters, digits and hyphens", self.name),
            ));
        }
        for (i, file) in self.files.iter().enumerate() {
            absolute(&file.path).map_err(|r| Refused::new(format!("image.files[{i}].path"), r))?;
            match u32::from_str_radix(&file.mode, 8) {
                Ok(mode) if mode <= 0o7777 => {}
                _ => {
                    return Err(Refused::new(
                        format!("image.files[{i}].mode"),
                        format!("{:?} is not an octal mode such as \"0644\"", file.mode),
                    ));
                }
            }
        }
        for (i, link) in self.links.iter().enumerate() {
            absolute(&link.path).map_err(|r| Refused::new(format!("image.links[{i}].path"), r))?;
        }
        Ok(())
    }
}

impl Role {
    fn validate(&self) -> Result<(), Refused> {
        if self.healthy_within_secs == 0 {
            return Err(Refused::new(
                "role.healthy_within_secs",
                "is 0: no role is healthy at once",
            ));
        }
        for (i, check) in self.checks.iter().enumerate() {
            let at = |field: &str| format!("role.checks[{i}].{field}");
            if self.checks.iter().take(i).any(|c| c.name == check.name) {
                return Err(Refused::new(at("name"), format!("{:?} stands twice", check.name)));
            }
            if check.interval_secs == 0 || check.timeout_secs == 0 {
                return Err(Refused::new(
                    at("interval_secs"),
                    "interval and timeout are at least 1 s",
                ));
            }
            if check.gate && !check.kind.is_local() {
                return Err(Refused::new(
                    at("gate"),
                    format!("{:?} asks other nodes, so it may not gate a boot", check.name),
                ));
            }
            if let CheckKind::Disk { warning_percent, critical_percent, .. }
            | CheckKind::Memory { warning_percent, critical_percent }
            | CheckKind::RedisMemory { warning_percent, critical_percent } = &check.kind
            {
                if warning_percent > critical_percent || *critical_percent > 100 {
                    return Err(Refused::new(
                        at("kind"),
                        format!(
                            "warning {warning_percent} % and critical {critical_percent} % are not in order below 100"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn absolute(path: &str) -> Result<(), String> {
    let plain = path.starts_with('/') && !path.split('/').any(|c| c == ".." || c == ".");
    if plain { Ok(()) } else { Err(format!("{path:?} is not an absolute path without dots")) }
}
