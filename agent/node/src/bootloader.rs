//! What becomes of a boot that is not good: back to the other slot, once, or stay.
//!
//! The boot loader's part is the UAPI group's Automatic Boot Assessment: an entry's file name counts its tries,
//! `name+LEFT-DONE.efi`; with none left it is bad and sorts last; without a counter it is good. Rolling back marks this
//! boot's entry bad and needs another one that is not, so each time there is one less: it cannot go round.

use std::fs;

use crate::error::{Error, chain};
use crate::log;
use crate::root::Root;
use crate::spawn;

/// The entry that was booted, with the counter it had then; set by the boot loader only where tries are counted.
const COUNTED: &str =
    "/sys/firmware/efi/efivars/LoaderBootCountPath-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Where the EFI system partition is mounted, by systemd-gpt-auto-generator(8).
const ESP: [&str; 2] = ["/efi", "/boot"];
const BLESS: &str = "/usr/lib/systemd/systemd-bless-boot";

/// What to do about a boot that is not good.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Another entry can be tried.
    RollBack { to: String },
    /// There is nothing better than staying up and saying so.
    Stay { because: &'static str },
}

/// Marks this boot as bad and starts the other slot, where there is one to start.
///
/// # Errors
/// What kept the boot loader or systemd from being told; the machine then stays up.
pub(crate) fn give_up(root: &Root) -> Result<(), Error> {
    let verdict = match load_counted(root)? {
        None => Verdict::Stay { because: "its tries are not counted" },
        Some(booted) => decide(&booted, &list_entries(root)),
    };
    match verdict {
        Verdict::Stay { because } => {
            log::warn(&format!("this boot is not good and stays up: {because}"));
            Ok(())
        }
        Verdict::RollBack { to } => {
            log::error(&format!("this boot is not good: marking it bad and starting {to} instead"));
            if root.is_live() {
                spawn::run(&[BLESS, "bad"])?;
                spawn::run(&["systemctl", "reboot", "--no-block"])?;
            }
            Ok(())
        }
    }
}

fn decide(booted: &str, entries: &[String]) -> Verdict {
    if !entries.iter().any(|e| e == booted) {
        // Renamed since: systemd-bless-boot has had its say, and it stands for the whole boot.
        return Verdict::Stay { because: "it was judged before" };
    }
    let (this, _) = split(booted);
    let other = entries.iter().find(|entry| {
        let (name, tries_left) = split(entry);
        name != this && tries_left != Some(0)
    });
    match other {
        Some(entry) => Verdict::RollBack { to: entry.clone() },
        None => Verdict::Stay { because: "there is no other slot that could be better" },
    }
}

/// An entry's name without its counter, and the tries it has left where they are counted.
fn split(entry: &str) -> (&str, Option<u32>) {
    let stem = entry.strip_suffix(".efi").unwrap_or(entry);
    let Some((name, counter)) = stem.rsplit_once('+') else { return (stem, None) };
    let left = counter.split('-').next().and_then(|left| left.parse().ok());
    // A plus sign that no number follows belongs to the name.
    left.map_or((stem, None), |left| (name, Some(left)))
}

/// The file name of the entry that was booted, where tries are counted.
fn load_counted(root: &Root) -> Result<Option<String>, Error> {
    let Some(bytes) = root.load(COUNTED)? else { return Ok(None) };
    // Four bytes of attributes, then UTF-16 that ends in a zero (efivarfs, UEFI 2.10).
    let units: Vec<u16> = bytes
        .get(4..)
        .unwrap_or_default()
        .chunks_exact(2)
        .filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)))
        .take_while(|unit| *unit != 0)
        .collect();
    let path = String::from_utf16_lossy(&units);
    Ok(path.rsplit('\\').next().map(str::to_owned))
}

/// The file names of the boot loader's entries.
fn list_entries(root: &Root) -> Vec<String> {
    let list = |esp: &str| {
        let entries = fs::read_dir(root.at(esp).join("EFI/Linux"))?;
        entries.map(|e| Ok(e?.file_name().to_string_lossy().into_owned())).collect()
    };
    ESP.iter()
        .map(|esp| -> std::io::Result<Vec<String>> { list(esp) })
        .find_map(Result::ok)
        .unwrap_or_default()
}

/// Gives up, and says it where even that fails.
pub(crate) fn give_up_or_say_why(root: &Root) {
    if let Err(error) = give_up(root) {
        log::error(&format!("this boot is not good and could not be given up: {}", chain(&error)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    #[test]
    fn a_new_slot_that_is_not_healthy_gives_way_to_the_old_one() {
        let verdict = decide("a_2+2-1.efi", &entries(&["a_2+2-1.efi", "a_1.efi"]));
        assert_eq!(verdict, Verdict::RollBack { to: "a_1.efi".to_owned() });
    }

    #[test]
    fn the_only_slot_stays() {
        assert!(matches!(decide("a_1+2-1.efi", &entries(&["a_1+2-1.efi"])), Verdict::Stay { .. }));
    }

    #[test]
    fn a_slot_known_to_be_bad_is_not_gone_back_to() {
        let both = entries(&["a_2+2-1.efi", "a_1+0-3.efi"]);
        assert!(matches!(decide("a_2+2-1.efi", &both), Verdict::Stay { .. }));
    }

    #[test]
    fn a_boot_that_was_blessed_is_never_given_up() {
        let blessed = entries(&["a_2.efi", "a_1.efi"]);
        assert!(matches!(decide("a_2+2-1.efi", &blessed), Verdict::Stay { .. }));
    }

    /// Whatever the slots are at first, and though no boot is ever good: the machine comes to rest.
    #[test]
    fn it_never_goes_round() {
        let counters = ["", "+3", "+1-2", "+0-3"];
        for a in counters {
            for b in counters {
                let mut slots = [format!("a{a}.efi"), format!("b{b}.efi")];
                let mut rollbacks = 0;
                loop {
                    // The boot loader takes the first that is not bad, and counts this try.
                    let at = slots.iter().position(|s| split(s).1 != Some(0)).unwrap_or(0);
                    let (name, left) = split(&slots[at]);
                    let Some(left) = left else { break };
                    let (name, left) = (name.to_owned(), left.saturating_sub(1));
                    slots[at] = format!("{name}+{left}-1.efi");
                    let Verdict::RollBack { .. } = decide(&slots[at], &slots) else { break };
                    slots[at] = format!("{name}+0-1.efi");
                    rollbacks += 1;
                    assert!(rollbacks <= 1, "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn the_booted_entry_is_read_as_the_firmware_keeps_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        assert_eq!(load_counted(&root).unwrap(), None);
        let mut bytes = vec![6, 0, 0, 0];
        for unit in "\\EFI\\Linux\\consul-server_0.1.0+2-1.efi\0".encode_utf16() {
            bytes.extend(unit.to_le_bytes());
        }
        let path = root.at(COUNTED);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        assert_eq!(load_counted(&root).unwrap().unwrap(), "consul-server_0.1.0+2-1.efi");
        assert_eq!(split("consul-server_0.1.0+2-1.efi"), ("consul-server_0.1.0", Some(2)));
        assert_eq!(split("a+b_1.efi"), ("a+b_1", None));
    }
}
