//! Writes a unified kernel image: systemd's stub with the kernel, the initrd and the command line as PE sections
//! (UAPI.5 Unified Kernel Image; Microsoft PE format).

use crate::error::AssembleError;

/// What goes into one image.
#[derive(Debug, Clone, Copy)]
pub struct Uki<'a> {
    /// `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// The content of `os-release`.
    pub os_release: &'a str,
    /// The kernel's release.
    pub release: &'a str,
    /// The kernel command line.
    pub command_line: &'a str,
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initrd, compressed.
    pub initrd: &'a [u8],
}

const DATA_READ: u32 = 0x4000_0040;
const CODE_READ: u32 = 0x4000_0020;
const NX_COMPAT: u16 = 0x0100;

/// Writes the image.
///
/// # Errors
/// A stub that is no PE image, or has no room left for our sections.
pub fn write_uki(parts: Uki<'_>) -> Result<Vec<u8>, AssembleError> {
    write(parts).ok_or_else(|| AssembleError::Format {
        format: "UKI",
        reason: "the stub is not a PE image with room for six sections".to_owned(),
    })
}

/// Offsets of the fields we change, from the start of the PE signature's headers.
struct Headers {
    /// Number of sections (u16), in the file header.
    count: usize,
    /// The optional header.
    optional: usize,
    /// The section table.
    table: usize,
}

fn headers(pe: &[u8]) -> Option<Headers> {
    let start = usize::try_from(u32_at(pe, 0x3c)?).ok()?;
    if pe.get(start..start + 4)? != b"PE\0\0" {
        return None;
    }
    let optional = start + 24;
    // PE32+ alone: every firmware we boot from is 64-bit.
    if u16_at(pe, optional)? != 0x20b {
        return None;
    }
    let table = optional + usize::from(u16_at(pe, start + 20)?);
    Some(Headers { count: start + 6, optional, table })
}

fn write(parts: Uki<'_>) -> Option<Vec<u8>> {
    let mut pe = parts.stub.to_vec();
    let at = headers(&pe)?;
    let section_alignment = u32_at(&pe, at.optional + 32)?;
    let file_alignment = u32_at(&pe, at.optional + 36)?;
    let header_size = usize::try_from(u32_at(&pe, at.optional + 60)?).ok()?;
    let file_align = usize::try_from(file_alignment).ok()?;

    // The firmware loads the kernel with the stub's rights: where it wants no strict ones, neither may the stub.
    let inner = headers(parts.kernel)?;
    if u16_at(parts.kernel, inner.optional + 70)? & NX_COMPAT == 0 {
        let flags = u16_at(&pe, at.optional + 70)? & !NX_COMPAT;
        put(&mut pe, at.optional + 70, &flags.to_le_bytes())?;
    }

    let mut count = usize::from(u16_at(&pe, at.count)?);
    let last = at.table + 40 * count.checked_sub(1)?;
    let mut next = (u32_at(&pe, last + 12)?.checked_add(u32_at(&pe, last + 8)?)?)
        .checked_next_multiple_of(section_alignment)?;
    let sections: [(&[u8; 8], &[u8], u32); 5] = [
        (b".osrel\0\0", parts.os_release.as_bytes(), DATA_READ),
        (b".uname\0\0", parts.release.as_bytes(), DATA_READ),
        (b".cmdline", parts.command_line.as_bytes(), DATA_READ),
        (b".initrd\0", parts.initrd, DATA_READ),
        (b".linux\0\0", parts.kernel, CODE_READ),
    ];
    for (name, content, flags) in sections {
        let header = at.table + 40 * count;
        if header + 40 > header_size {
            return None;
        }
        let size = u32::try_from(content.len()).ok()?;
        pe.resize(pe.len().next_multiple_of(file_align), 0);
        let place = u32::try_from(pe.len()).ok()?;
        put(&mut pe, header, name)?;
        put(&mut pe, header + 8, &size.to_le_bytes())?;
        put(&mut pe, header + 12, &next.to_le_bytes())?;
        put(&mut pe, header + 16, &size.checked_next_multiple_of(file_alignment)?.to_le_bytes())?;
        put(&mut pe, header + 20, &place.to_le_bytes())?;
        put(&mut pe, header + 24, &[0; 12])?;
        put(&mut pe, header + 36, &flags.to_le_bytes())?;
        pe.extend_from_slice(content);
        next = next.checked_add(size)?.checked_next_multiple_of(section_alignment)?;
        count += 1;
    }
    pe.resize(pe.len().next_multiple_of(file_align), 0);
    put(&mut pe, at.count, &u16::try_from(count).ok()?.to_le_bytes())?;
    // Size of the image in memory; no checksum, which firmware does not ask for.
    put(&mut pe, at.optional + 56, &next.to_le_bytes())?;
    put(&mut pe, at.optional + 64, &[0; 4])?;
    Some(pe)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    bytes.get_mut(at..at + value.len())?.copy_from_slice(value);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_stub_makes_the_writer_panic(stub in proptest::collection::vec(any::<u8>(), 0..600)) {
            let parts = Uki { stub: &stub, os_release: "", release: "", command_line: "", kernel: &stub, initrd: b"" };
            let _ = write_uki(parts);
        }
    }
}
