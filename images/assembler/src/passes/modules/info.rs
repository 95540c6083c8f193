//! Reads what a kernel module says about itself: the `.modinfo` section of an ELF object.

use crate::elf;

/// What it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Names of modules that must be there first.
    pub depends: Vec<String>,
    /// Patterns of devices and other things it serves.
    pub aliases: Vec<String>,
    /// `pre:` and `post:` lists.
    pub soft: Vec<String>,
}

impl Info {
    /// Reads a module; none when it is no 64-bit little-endian ELF object with that section.
    pub fn read(elf: &[u8]) -> Option<Self> {
        let mut info = Self::default();
        for entry in elf::section(elf, b".modinfo")?.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(entry);
            let Some((key, value)) = text.split_once('=') else { continue };
            match key {
                "depends" => info.depends.extend(
                    value
                        .split(',')
                        .filter(|name| !name.is_empty())
                        .map(|name| name.replace('-', "_")),
                ),
                "alias" => info.aliases.push(value.to_owned()),
                "softdep" => info.soft.push(value.to_owned()),
                _ => {}
            }
        }
        Some(info)
    }

    /// `loop-control c10:237`: the device node that would load the module on first use, when it has one.
    pub fn device_node(&self) -> Option<String> {
        let name = self.aliases.iter().find_map(|a| a.strip_prefix("devname:"))?;
        let number = self.aliases.iter().find_map(|a| {
            let (kind, rest) = match a.strip_prefix("char-major-") {
                Some(rest) => ('c', rest),
                None => ('b', a.strip_prefix("block-major-")?),
            };
            let (major, minor) = rest.split_once('-')?;
            Some(format!("{kind}{}:{}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
        })?;
        Some(format!("{name} {number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_node_needs_both_name_and_number() {
        let mut info = Info { aliases: vec!["devname:loop-control".to_owned()], ..Info::default() };
        assert_eq!(info.device_node(), None);
        info.aliases.push("char-major-10-237".to_owned());
        assert_eq!(info.device_node().as_deref(), Some("loop-control c10:237"));
    }
}
