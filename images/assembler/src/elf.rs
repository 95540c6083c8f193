//! Reads what we need of ELF objects: a section by name, a library's own name, and the names of those it asks for (System V
//! ABI, gABI 4.1).
//!
//! Only 64-bit little-endian objects are read; whatever else the bytes are, the answer is none.

/// The content of the section of this name.
pub fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (_, content) = sections(elf)?.find(|(found, _)| found.name == name)?;
    content
}

/// `DT_SONAME` of a shared library for x86-64.
pub fn soname(elf: &[u8]) -> Option<String> {
    const SHARED: usize = 3;
    const X86_64: usize = 62;
    const DT_SONAME: usize = 14;
    if u16_at(elf, 0x10)? != SHARED || u16_at(elf, 0x12)? != X86_64 {
        return None;
    }
    dynamic_names(elf, DT_SONAME)?.into_iter().next()
}

/// `DT_NEEDED` of a program or a library; none of what is no ELF object.
pub fn needed(elf: &[u8]) -> Vec<String> {
    const DT_NEEDED: usize = 1;
    dynamic_names(elf, DT_NEEDED).unwrap_or_default()
}

/// The names that entries with this tag of the dynamic section stand for, in their order.
fn dynamic_names(elf: &[u8], tag: usize) -> Option<Vec<String>> {
    let all: Vec<(Section<'_>, Option<&[u8]>)> = sections(elf)?.collect();
    let (dynamic, table) = all.iter().find(|(section, _)| section.name == b".dynamic")?;
    let strings = all.get(dynamic.link)?.1?;
    let entries = (*table)?.chunks_exact(16).filter(|entry| u64_at(entry, 0) == Some(tag));
    let name = |entry: &[u8]| {
        let text = strings.get(u64_at(entry, 8)?..)?.split(|byte| *byte == 0).next()?;
        let name = String::from_utf8(text.to_vec()).ok()?;
        (!name.is_empty() && !name.contains('/')).then_some(name)
    };
    Some(entries.filter_map(name).collect())
}

struct Section<'a> {
    name: &'a [u8],
    link: usize,
}

type Found<'a> = (Section<'a>, Option<&'a [u8]>);

fn sections(elf: &[u8]) -> Option<impl Iterator<Item = Found<'_>>> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = u64_at(elf, 0x28)?;
    let (size, count, names) = (u16_at(elf, 0x3a)?, u16_at(elf, 0x3c)?, u16_at(elf, 0x3e)?);
    let header = move |index: usize| {
        let at = table.checked_add(index.checked_mul(size)?)?;
        elf.get(at..at.checked_add(0x40)?)
    };
    let content = move |header: &[u8]| {
        let start = u64_at(header, 0x18)?;
        elf.get(start..start.checked_add(u64_at(header, 0x20)?)?)
    };
    let names = content(header(names)?)?;
    Some((0..count).filter_map(move |index| {
        let header = header(index)?;
        let name = names.get(u32_at(header, 0)?..)?.split(|byte| *byte == 0).next()?;
        Some((Section { name, link: u32_at(header, 0x28)? }, content(header)))
    }))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?)))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?)).ok()
}

fn u64_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut elf = b"\x7fELF\x02\x01".to_vec();
            elf.extend_from_slice(&bytes);
            let _ = (section(&elf, b".modinfo"), soname(&elf), needed(&elf));
        }
    }
}
