//! Debian versions and their order (deb-version(7)).

use std::cmp::Ordering;
use std::fmt;

/// A version as text, ordered as dpkg orders it.
#[derive(Debug, Clone, Eq)]
pub struct Version(String);

impl Version {
    /// Any text is a version: what has no digits or dashes still has a place in the order.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    fn split(&self) -> (&str, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.split(), other.split());
        compare(a.0, b.0).then_with(|| compare(a.1, b.1)).then_with(|| compare(a.2, b.2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

/// Compares runs of non-digits and runs of digits in turn.
fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = a.split_at(run(a, |byte| !byte.is_ascii_digit()));
        let (text_b, rest_b) = b.split_at(run(b, |byte| !byte.is_ascii_digit()));
        let (number_a, rest_a) = rest_a.split_at(run(rest_a, |byte| byte.is_ascii_digit()));
        let (number_b, rest_b) = rest_b.split_at(run(rest_b, |byte| byte.is_ascii_digit()));
        let order = compare_text(text_a, text_b).then_with(|| compare_number(number_a, number_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn run(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !belongs(*byte)).unwrap_or(bytes.len())
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn weight(byte: Option<&u8>) -> i32 {
    match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    }
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    (0..a.len().max(b.len()))
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Of any length: without leading zeros the longer number is the greater.
fn compare_number(a: &[u8], b: &[u8]) -> Ordering {
    let (_, a) = a.split_at(run(a, |byte| byte == b'0'));
    let (_, b) = b.split_at(run(b, |byte| byte == b'0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        // Each line: lesser, greater. Answers of `dpkg --compare-versions` 1.22.
        for (lesser, greater) in [
            ("1.0~rc1", "1.0"),
            ("1.0~~", "1.0~"),
            ("1.0~", "1.0"),
            ("1.0", "1.0+b1"),
            ("1.0", "1.0a"),
            ("1.0a", "1.0+"),
            ("1.9", "1.10"),
            ("9", "1:0"),
            ("1:9", "2:0"),
            ("1.0-1", "1.0-1.1"),
            ("1.0-1~deb13u1", "1.0-1"),
            ("1.0-1", "1.0-1+deb13u1"),
            ("2.41-12+deb13u3", "2.41-12+deb13u4"),
            ("257.9-1~deb13u1", "257.13-1~deb13u1"),
            ("1.0-9", "1.0-10"),
            ("1.0.0", "1.0.0.1"),
            ("3.6.6-0.1~deb13u1", "3.6.6-0.1"),
            ("20230311", "20250419"),
            ("1.0-1", "1.0.1-1"),
            ("1.2.3-a-1", "1.2.3-b-1"),
        ] {
            assert!(Version::new(lesser) < Version::new(greater), "{lesser} < {greater}");
            assert!(Version::new(greater) > Version::new(lesser), "{greater} > {lesser}");
        }
    }

    #[test]
    fn leading_zeros_an_absent_epoch_and_an_absent_revision_mean_nothing() {
        for (a, b) in [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1"), ("1.0-00", "1.0")] {
            assert_eq!(Version::new(a), Version::new(b), "{a} = {b}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-9a-c.+~:-]{0,8}", b in "[0-9a-c.+~:-]{0,8}", c in "[0-9a-c.+~:-]{0,8}") {
            let (a, b, c) = (Version::new(&a), Version::new(&b), Version::new(&c));
            prop_assert_eq!(a.cmp(&a), Ordering::Equal);
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            if a <= b && b <= c {
                prop_assert!(a <= c);
            }
        }

        #[test]
        fn a_tilde_comes_before_the_version_it_is_put_behind(version in "[0-9]{1,3}(\\.[0-9a-z]{1,3}){0,2}") {
            let (before, after) = (format!("{version}~x"), format!("{version}+x"));
            prop_assert!(Version::new(&before) < Version::new(&version));
            prop_assert!(Version::new(&version) < Version::new(&after));
        }

        #[test]
        fn any_text_has_a_place(a in any::<String>(), b in any::<String>()) {
            let _ = Version::new(&a).cmp(&Version::new(&b));
        }
    }
}
