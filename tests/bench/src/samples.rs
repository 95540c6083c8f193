//! What was measured of one thing, several times: the samples, their median and their spread.

use serde::Serialize;

/// The unit of a number, as JSON names it and as a table prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Wall-clock seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Percent of one core.
    PercentOfACore,
}

impl Unit {
    /// The number for a reader: `4.21 s`, `58.3 MB`, `0.042 %`.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes if value < 1e5 => format!("{:.1} kB", value / 1e3),
            Self::Bytes => format!("{:.1} MB", value / 1e6),
            Self::PercentOfACore => format!("{value:.3} %"),
        }
    }
}

/// The samples of one thing, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// None without a single sample.
    pub fn new(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        if samples.is_empty() { None } else { Some(Self(samples)) }
    }

    /// A thing that is the same each time, such as a file's size.
    pub fn one(sample: f64) -> Self {
        Self(vec![sample])
    }

    /// A size.
    pub fn bytes(bytes: u64) -> Self {
        // Exact up to 2^53, far beyond any disk here.
        #[allow(clippy::cast_precision_loss)]
        Self::one(bytes as f64)
    }

    /// All of them, smallest first.
    pub fn all(&self) -> &[f64] {
        &self.0
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        let at = |i: usize| self.0.get(i).copied().unwrap_or(f64::NAN);
        if self.0.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle - 1), at(middle)) }
    }

    /// The smallest and the largest.
    pub fn spread(&self) -> (f64, f64) {
        let end = |sample: Option<&f64>| sample.copied().unwrap_or(f64::NAN);
        (end(self.0.first()), end(self.0.last()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_follow_one_slow_run() {
        let samples = Samples::new(vec![4.0, 90.0, 5.0]).unwrap();
        assert_eq!(samples.median(), 5.0);
        assert_eq!(samples.spread(), (4.0, 90.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Samples::new(vec![1.0, 8.0, 2.0, 4.0]).unwrap().median(), 3.0);
    }

    #[test]
    fn nothing_measured_is_no_sample_and_not_zero() {
        assert!(Samples::new(vec![]).is_none());
    }
}
