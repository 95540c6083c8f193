//! Reads what a kernel module says about itself: the `.modinfo` section of an ELF object.

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
        for entry in section(elf, b".modinfo")?.split(|byte| *byte == 0) {
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

fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let u16_at = |at: usize| {
        Some(usize::from(u16::from_le_bytes(elf.get(at..at.checked_add(2)?)?.try_into().ok()?)))
    };
    let u32_at = |at: usize| {
        usize::try_from(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?)).ok()
    };
    let u64_at = |at: usize| {
        usize::try_from(u64::from_le_bytes(elf.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok()
    };
    let table = u64_at(0x28)?;
    let (size, count, names) = (u16_at(0x3a)?, u16_at(0x3c)?, u16_at(0x3e)?);
    let header = |index: usize| table.checked_add(index.checked_mul(size)?);
    let content = |at: usize| {
        let start = u64_at(at.checked_add(0x18)?)?;
        elf.get(start..start.checked_add(u64_at(at.checked_add(0x20)?)?)?)
    };
    let names = content(header(names)?)?;
    for index in 0..count {
        let at = header(index)?;
        let found = names.get(u32_at(at)?..)?.split(|byte| *byte == 0).next()?;
        if found == name {
            return content(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_node_needs_both_name_and_number() {
        let mut info = Info { aliases: vec!["devname:loop-control".to_owned()], ..Info::default() };
        assert_eq!(info.device_node(), None);
        info.aliases.push("char-major-10-237".to_owned());
        assert_eq!(info.device_node().as_deref(), Some("loop-control c10:237"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut elf = b"\x7fELF\x02\x01".to_vec();
            elf.extend_from_slice(&bytes);
            let _ = Info::read(&elf);
        }
    }
}
