//! A disk with both slots filled, as an update leaves it: the same root in slot B under another root hash, and an entry for
//! it that the boot loader prefers.
//!
//! Discoverable Partitions Specification for the types; the partitions' UUIDs are the halves of the root hash.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use crate::images::Image;
use crate::programs::{Programs, output, tail};

const SECTOR: u64 = 512;
/// Partitions start on whole mebibytes, and the copy of the table stands in the last one.
const ALIGN: u64 = 1 << 20;
/// Newer than whatever the image is: the boot loader tries it first.
const NEWER: &str = "99.0.0";

/// A partition's type, as the table holds it (UEFI specification, section 5.3) and as it is written.
pub struct Type {
    bytes: [u8; 16],
    text: &'static str,
}

/// Where the boot loader and its entries are.
pub const ESP: Type = Type {
    bytes: [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9,
        0x3b,
    ],
    text: "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
};
/// The root of an x86-64 machine.
pub const ROOT: Type = Type {
    bytes: [
        0xe3, 0xbc, 0x68, 0x4f, 0xcd, 0xe8, 0xb1, 0x4d, 0x96, 0xe7, 0xfb, 0xca, 0xf9, 0x84, 0xb7,
        0x09,
    ],
    text: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
};
/// Its hash tree.
const ROOT_VERITY: Type = Type {
    bytes: [
        0xed, 0x57, 0x73, 0x2c, 0xd2, 0xeb, 0xd9, 0x46, 0xae, 0xc1, 0x23, 0xd4, 0x37, 0xec, 0x2b,
        0xf5,
    ],
    text: "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5",
};

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub start: u64,
    /// Its length.
    pub length: u64,
}

/// A disk with two slots.
pub struct TwoSlots {
    /// The disk.
    pub disk: PathBuf,
    /// The root hash of the image's own slot, A.
    pub a: String,
    /// The root hash of slot B.
    pub b: String,
}

impl TwoSlots {
    /// Makes such a disk of an image in `dir`.
    ///
    /// # Errors
    /// When a program that writes formats is missing or fails.
    pub fn save(programs: &Programs, image: &Image, dir: &Path) -> Result<Self> {
        fs::create_dir(dir).map_err(Error::file("making", dir))?;
        let disk = dir.join("disk.raw");
        copy_sparse(&image.disk()?, &disk)?;
        let parts = image.parts()?;
        let hash_file = parts.join("roothash");
        let a = fs::read_to_string(&hash_file).map_err(Error::file("reading", &hash_file))?;
        let a = a.trim().to_owned();
        let root = parts.join("root.erofs");
        let tree = dir.join("b.verity");
        let b = save_tree(programs, &root, &tree)?;
        add_partitions(programs, &disk, &root, &tree, &b)?;
        add_entry(programs, &disk, &parts.join("esp.vfat"), dir, (&a, &b))?;
        Ok(Self { disk, a, b })
    }
}

/// Writes a hash tree with a salt of its own, so that the same root has another root hash.
fn save_tree(programs: &Programs, root: &Path, tree: &Path) -> Result<String> {
    let mut command = programs.command("veritysetup");
    command
        .args(["format", "--hash=sha256", "--data-block-size=4096", "--hash-block-size=4096"])
        .arg(format!("--salt={}", "b".repeat(64)))
        .arg("--uuid=ba11a570-0000-4000-8000-00000000000b")
        .args([root, tree]);
    let said = output(&mut command)?.stdout;
    let said = String::from_utf8_lossy(&said);
    let hash = said.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim);
    let read = || Error::Answer { what: "a root hash".into(), answer: tail(&said, 3) };
    hash.filter(|hash| hash.len() == 64).map(str::to_owned).ok_or_else(read)
}

/// Slot B as slot A is, behind it.
fn add_partitions(
    programs: &Programs,
    disk: &Path,
    root: &Path,
    tree: &Path,
    hash: &str,
) -> Result<()> {
    let (a, a_tree) = (find(disk, &ROOT)?, find(disk, &ROOT_VERITY)?);
    let b = Place { start: a_tree.start + a_tree.length, length: a.length };
    let b_tree = Place { start: b.start + b.length, length: a_tree.length };
    let changing = || Error::file("changing", disk);
    let file = File::options().write(true).open(disk).map_err(changing())?;
    file.set_len(b_tree.start + b_tree.length + ALIGN).map_err(changing())?;

    let (data_half, hash_half) = hash.split_at_checked(32).unwrap_or_default();
    let line = |place: Place, kind: &Type, half: &str| {
        let (start, size) = (place.start / SECTOR, place.length / SECTOR);
        let (kind, uuid) = (kind.text, uuid(half));
        format!(
            "start={start}, size={size}, type={kind}, uuid={uuid}, name=\"b\", attrs=\"GUID:60\"\n"
        )
    };
    let script = line(b, &ROOT, data_half) + &line(b_tree, &ROOT_VERITY, hash_half);
    feed(programs.command("sfdisk").arg("--append").arg(disk), &script)?;
    place_file(root, disk, b)?;
    place_file(tree, disk, b_tree)
}

/// The image's own UKI with the other root hash, newer and with its tries counted.
fn add_entry(
    programs: &Programs,
    disk: &Path,
    esp: &Path,
    dir: &Path,
    (a, b): (&str, &str),
) -> Result<()> {
    const ENTRIES: &str = "::EFI/Linux";
    let mtools = |program: &str, volume: String| {
        let mut command = programs.command(program);
        if let Some(charsets) = programs.file("usr/lib/x86_64-linux-gnu/gconv") {
            command.env("GCONV_PATH", charsets);
        }
        command.arg("-i").arg(volume);
        command
    };
    let own = || esp.display().to_string();
    let listed = output(mtools("mdir", own()).args(["-b", ENTRIES]))?.stdout;
    let listed = String::from_utf8_lossy(&listed).trim().to_owned();
    let (name, counter) = listed
        .rsplit_once('/')
        .and_then(|(_, file)| file.split_once('_'))
        .and_then(|(name, rest)| Some((name, rest.split_once('+')?.1)))
        .ok_or_else(|| Error::Answer { what: "an entry".into(), answer: listed.clone() })?;
    let file = dir.join("entry.efi");
    output(mtools("mcopy", own()).arg(&listed).arg(&file))?;
    let mut uki = fs::read(&file).map_err(Error::file("reading", &file))?;
    let places: Vec<usize> = uki
        .windows(a.len())
        .enumerate()
        .filter_map(|(place, window)| (window == a.as_bytes()).then_some(place))
        .collect();
    let [place] = places.as_slice() else {
        return Err(Error::Broken(format!("the UKI has its root hash {} times", places.len())));
    };
    if let Some(bytes) = uki.get_mut(*place..place + b.len()) {
        bytes.copy_from_slice(b.as_bytes());
    }
    fs::write(&file, uki).map_err(Error::file("writing", &file))?;
    let volume = format!("{}@@{}", disk.display(), find(disk, &ESP)?.start);
    let entry = format!("{ENTRIES}/{name}_{NEWER}+{counter}");
    output(mtools("mcopy", volume).arg(&file).arg(entry)).map(drop)
}

/// Runs a program that reads its orders from stdin.
fn feed(command: &mut Command, orders: &str) -> Result<()> {
    let starting = |source| Error::Start { program: "sfdisk".into(), source };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(starting)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(orders.as_bytes()).map_err(Error::system("writing to sfdisk"))?;
    }
    let done = child.wait_with_output().map_err(Error::system("waiting for sfdisk"))?;
    if done.status.success() {
        return Ok(());
    }
    let stderr = tail(&String::from_utf8_lossy(&done.stderr), 4);
    Err(Error::Failed { program: "sfdisk".into(), status: done.status.to_string(), stderr })
}

/// Copies a file to where a partition is.
fn place_file(from: &Path, disk: &Path, place: Place) -> Result<()> {
    let length = fs::metadata(from).map_err(Error::file("reading", from))?.len();
    if length > place.length {
        let from = from.display();
        return Err(Error::Broken(format!(
            "{from} is longer than its partition, {}",
            place.length
        )));
    }
    let mut file = File::options().write(true).open(disk).map_err(Error::file("changing", disk))?;
    copy_into(from, disk, &mut file, place.start).map(drop)
}

/// Copies a file and leaves holes where it holds nothing.
///
/// # Errors
/// When either file fails.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    let mut copy = File::create(to).map_err(Error::file("making", to))?;
    let length = copy_into(from, to, &mut copy, 0)?;
    copy.set_len(length).map_err(Error::file("writing", to))
}

fn copy_into(from: &Path, to: &Path, copy: &mut File, start: u64) -> Result<u64> {
    let mut source = File::open(from).map_err(Error::file("opening", from))?;
    let mut block = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let count = source.read(&mut block).map_err(Error::file("reading", from))?;
        let Some(bytes) = block.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        if bytes.iter().any(|byte| *byte != 0) {
            copy.seek(SeekFrom::Start(start + length)).map_err(Error::file("writing", to))?;
            copy.write_all(bytes).map_err(Error::file("writing", to))?;
        }
        length += u64::try_from(count).unwrap_or(0);
    }
    Ok(length)
}

/// Where the first partition of a type is.
///
/// # Errors
/// When there is none.
pub fn find(disk: &Path, kind: &Type) -> Result<Place> {
    let mut file = File::open(disk).map_err(Error::file("opening", disk))?;
    file.seek(SeekFrom::Start(2 * SECTOR)).map_err(Error::file("reading", disk))?;
    let mut entries = [0; 128 * 128];
    file.read_exact(&mut entries).map_err(Error::file("reading", disk))?;
    let number = |entry: &[u8], at: usize| {
        entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    };
    let entry = entries.chunks(128).find(|entry| entry.starts_with(&kind.bytes));
    entry
        .and_then(|entry| Some((number(entry, 32)?, number(entry, 40)?)))
        .map(|(first, last)| Place { start: first * SECTOR, length: (last + 1 - first) * SECTOR })
        .ok_or_else(|| Error::Broken(format!("{} has no partition {}", disk.display(), kind.text)))
}

/// 32 digits as a UUID is written.
fn uuid(half: &str) -> String {
    let mut text = String::new();
    for (place, digit) in half.chars().enumerate() {
        if [8, 12, 16, 20].contains(&place) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}
