//! Release files: which indexes a suite has, with digests, and for how long they are true (DebianRepository/Format).

use crate::control::read_stanzas;
use crate::error::{Error, Result};

/// What a suite's signed Release file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// When it was made, in seconds since 1970.
    pub date: u64,
    /// Its last good moment, if it has one, in seconds and as written.
    pub valid_until: Option<(u64, String)>,
    /// Indexes: path below the suite, SHA-256, size.
    pub indexes: Vec<(String, String, u64)>,
}

/// Reads a Release file whose signature has been taken off.
pub fn read_release(suite: &str, text: &str) -> Result<Release> {
    let missing = |field| Error::Release { suite: suite.to_owned(), field };
    let stanzas = read_stanzas(&format!("the Release file of {suite}"), text)?;
    let stanza = stanzas.first().ok_or_else(|| missing("content"))?;
    let date = stanza.field("Date").and_then(read_date).ok_or_else(|| missing("Date"))?;
    let valid_until = match stanza.field("Valid-Until") {
        None => None,
        Some(text) => {
            Some((read_date(text).ok_or_else(|| missing("Valid-Until"))?, text.to_owned()))
        }
    };
    let lines = stanza.lines("SHA256").ok_or_else(|| missing("SHA256"))?;
    let indexes = lines.iter().skip(1).map(|line| read_index(line)).collect::<Option<_>>();
    Ok(Release { date, valid_until, indexes: indexes.ok_or_else(|| missing("SHA256"))? })
}

fn read_index(line: &str) -> Option<(String, String, u64)> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    let whole = digest.len() == 64
        && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        && words.next().is_none();
    whole.then_some(())?;
    Some((path.to_owned(), digest.to_ascii_lowercase(), size.parse().ok()?))
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Reads `Sat, 12 Sep 2026 07:55:41 UTC` as seconds since 1970.
pub fn read_date(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut time = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let zone = words.next()?;
    let plain = matches!(zone, "UTC" | "GMT" | "+0000") && time.next().is_none();
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second < 61;
    (plain && in_range)
        .then(|| days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March put the leap day last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 719_469
}

/// Writes a moment as the snapshot service names it, `20260912T135541Z`.
pub fn write_timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut month, mut first) = (1970, 1, 0);
    while days_before(year + 1, 1, 1) <= days {
        year += 1;
    }
    for candidate in 1..=12 {
        let start = days_before(year, candidate, 1);
        if start <= days {
            (month, first) = (candidate, start);
        }
    }
    let day = days - first + 1;
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        // date -u -d … +%s
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Tue, 29 Feb 2000 12:00:00 UTC", 951_825_600),
            ("Sat, 12 Sep 2026 07:55:41 UTC", 1_789_199_741),
            ("Wed, 31 Dec 2025 23:59:59 GMT", 1_767_225_599),
        ] {
            assert_eq!(read_date(text), Some(seconds), "{text}");
        }
        assert_eq!(write_timestamp(1_789_199_741), "20260912T075541Z");
        assert_eq!(write_timestamp(951_825_600), "20000229T120000Z");
    }

    #[test]
    fn a_release_names_its_indexes() {
        let digest = "a".repeat(64);
        let text = format!(
            "Suite: stable\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n {digest} 12 main/x.xz\n"
        );
        let release = read_release("trixie", &text).unwrap();
        assert_eq!(release.indexes, [("main/x.xz".to_owned(), digest, 12)]);
        assert_eq!(release.valid_until, None);
    }

    #[test]
    fn a_release_without_a_date_or_digests_is_refused() {
        assert!(read_release("trixie", "").is_err());
        assert!(read_release("trixie", "Date: tomorrow\nSHA256:\n").is_err());
        assert!(read_release("trixie", "Date: Sat, 12 Sep 2026 07:55:41 UTC\n").is_err());
        assert!(
            read_release("trixie", "Date: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n xyz 1 a\n")
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = read_release("trixie", &text);
            let _ = read_date(&text);
        }

        #[test]
        fn any_date_is_read_or_refused(day in 0u64..99, month in "[A-Z][a-z]{2}", year in 0u64..99999, hour in 0u64..99) {
            let _ = read_date(&format!("Sat, {day} {month} {year} {hour}:00:00 UTC"));
        }

        #[test]
        fn a_timestamp_is_the_date_it_was_made_from(seconds in 0u64..20_000_000_000) {
            let text = write_timestamp(seconds);
            let month = MONTHS[text[4..6].parse::<usize>().unwrap() - 1];
            let date = format!(
                "Mon, {} {month} {} {}:{}:{} UTC", &text[6..8], &text[..4], &text[9..11], &text[11..13], &text[13..15]
            );
            prop_assert_eq!(read_date(&date), Some(seconds));
        }
    }
}
