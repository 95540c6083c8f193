//! From what was measured to rows of the table: medians beside aims, and whether each aim is met.
//!
//! Invariant: pure. Whoever measures says what and why; this file alone compares.

use ballast_machines::error::chain;
use serde::Serialize;

use crate::error::Error;
use crate::samples::{Samples, Unit};

/// One measured thing, ours and, where it has one, its stock counterpart.
#[derive(Debug, Clone)]
pub struct Measured {
    /// What: `power-on to passing, first boot`.
    pub name: String,
    /// In which unit.
    pub unit: Unit,
    /// Ours.
    pub ours: Side,
    /// A stock Debian's, from the same run.
    pub stock: Side,
    /// What is aimed at, all of it.
    pub aims: Vec<Aim>,
    /// What is compared with what, or what the number is made of: said when an aim is missed, and in the JSON always.
    pub because: String,
}

/// One side of a row.
#[derive(Debug, Clone)]
pub enum Side {
    /// It was measured.
    Seen(Samples),
    /// It cannot be measured here, and why not.
    Missing(String),
    /// It should have been measured and was not, and why not.
    Failed(String),
    /// There is nothing to measure.
    Nothing,
}

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// At most this, in the row's unit.
    AtMost(f64),
    /// At most one part in this many of the stock side.
    PartOfStock(f64),
}

impl Measured {
    /// Whether nothing failed that should have worked.
    pub fn is_whole(&self) -> bool {
        !matches!(self.ours, Side::Failed(_)) && !matches!(self.stock, Side::Failed(_))
    }

    /// A thing measured on our side alone, without an aim yet.
    pub fn ours(name: impl Into<String>, unit: Unit, ours: Side) -> Self {
        let because = String::new();
        Self { name: name.into(), unit, ours, stock: Side::Nothing, aims: Vec::new(), because }
    }

    /// Beside a stock counterpart.
    pub fn beside(self, stock: Side) -> Self {
        Self { stock, ..self }
    }

    /// With an aim.
    pub fn aiming(mut self, aim: Aim) -> Self {
        self.aims.push(aim);
        self
    }

    /// With its explanation.
    pub fn because(self, because: impl Into<String>) -> Self {
        Self { because: because.into(), ..self }
    }
}

impl Side {
    /// The side of a measurement that ended in an error.
    pub fn from_error(error: &Error) -> Self {
        let reason = chain(error);
        if matches!(error, Error::Lacking(_)) {
            Self::Missing(reason)
        } else {
            Self::Failed(reason)
        }
    }
}

impl From<Option<Samples>> for Side {
    fn from(samples: Option<Samples>) -> Self {
        samples.map_or_else(|| Self::Failed("no run came that far".into()), Self::Seen)
    }
}

/// One row, ready to print and to keep.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// [`Measured::name`].
    pub name: String,
    /// [`Measured::unit`].
    pub unit: Unit,
    /// Our side.
    pub ours: Option<Summary>,
    /// The stock side.
    pub stock: Option<Summary>,
    /// The aims, and whether each is met; none can be said where a side is missing.
    pub aims: Vec<Verdict>,
    /// Why an aim is missed or a side is missing.
    pub why: String,
    /// [`Measured::because`].
    pub note: String,
}

/// What one side came to.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Median.
    pub median: f64,
    /// Smallest sample.
    pub least: f64,
    /// Largest sample.
    pub most: f64,
    /// All samples, smallest first.
    pub samples: Vec<f64>,
}

/// One aim and whether it is met.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The aim in words: `within 7.00 s`.
    pub aim: String,
    /// The limit in the row's unit, once it is known.
    pub limit: Option<f64>,
    /// Whether our median keeps it, once both are known.
    pub met: Option<bool>,
}

/// Compares one measured thing with its aims.
pub fn row(measured: Measured) -> Row {
    let Measured { name, unit, ours, stock, aims, because } = measured;
    let mut why = Vec::new();
    for (side, label) in [(&ours, "ours"), (&stock, "stock")] {
        if let Side::Missing(reason) | Side::Failed(reason) = side {
            why.push(format!("{label} not measured: {}", one_line(reason)));
        }
    }
    let aims: Vec<Verdict> = aims.iter().map(|aim| judge(*aim, unit, &ours, &stock)).collect();
    if !because.is_empty() && aims.iter().any(|verdict| verdict.met == Some(false)) {
        why.push(because.clone());
    }
    Row {
        name,
        unit,
        ours: summary(&ours),
        stock: summary(&stock),
        aims,
        why: why.join("; "),
        note: because,
    }
}

/// A reason for a cell of the table; all of it was shown while it was measured.
fn one_line(reason: &str) -> String {
    const LONGEST: usize = 200;
    let line = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    let start: String = line.chars().take(LONGEST).collect();
    format!("{start} …")
}

fn summary(side: &Side) -> Option<Summary> {
    let Side::Seen(samples) = side else { return None };
    let (least, most) = samples.spread();
    Some(Summary { median: samples.median(), least, most, samples: samples.all().to_vec() })
}

fn median(side: &Side) -> Option<f64> {
    summary(side).map(|summary| summary.median)
}

fn judge(aim: Aim, unit: Unit, ours: &Side, stock: &Side) -> Verdict {
    let (words, limit) = match aim {
        Aim::AtMost(limit) => (format!("within {}", unit.show(limit)), Some(limit)),
        Aim::PartOfStock(parts) => {
            let limit = median(stock).map(|stock| stock / parts);
            let shown = limit.map_or_else(String::new, |limit| format!(", {}", unit.show(limit)));
            (format!("1/{parts} of stock{shown}"), limit)
        }
    };
    let met = median(ours).zip(limit).map(|(ours, limit)| ours <= limit);
    Verdict { aim: words, limit, met }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(samples: &[f64]) -> Side {
        Samples::new(samples.to_vec()).into()
    }

    fn assembling(ours: Side, stock: Side) -> Row {
        row(Measured::ours("assembling", Unit::Seconds, ours)
            .beside(stock)
            .aiming(Aim::AtMost(7.0))
            .aiming(Aim::PartOfStock(5.0))
            .because("compressing takes 3 s"))
    }

    #[test]
    fn a_missed_aim_stands_with_its_reason() {
        let row = assembling(seconds(&[5.0]), seconds(&[20.0, 21.0, 19.0]));
        let met: Vec<_> = row.aims.iter().map(|verdict| verdict.met).collect();
        assert_eq!(met, [Some(true), Some(false)]);
        assert_eq!(row.aims[1].aim, "1/5 of stock, 4.00 s");
        assert_eq!(row.why, "compressing takes 3 s");
    }

    #[test]
    fn an_aim_that_is_met_needs_no_reason() {
        assert_eq!(assembling(seconds(&[3.0]), seconds(&[20.0])).why, "");
    }

    #[test]
    fn an_aim_against_a_side_that_is_missing_is_neither_met_nor_missed() {
        let row = assembling(seconds(&[3.0]), Side::Missing("needs root".into()));
        let met: Vec<_> = row.aims.iter().map(|verdict| verdict.met).collect();
        assert_eq!(met, [Some(true), None]);
        assert_eq!(row.why, "stock not measured: needs root");
    }

    #[test]
    fn what_failed_is_told_from_what_cannot_be_measured_here() {
        let late = Error::Failed { program: "sh".into(), status: "1".into(), said: "a\nb".into() };
        let failed = Measured::ours("x", Unit::Bytes, Side::from_error(&late));
        assert!(!failed.is_whole());
        assert_eq!(row(failed).why, "ours not measured: sh ended with 1: a b");
        let lacking = Side::from_error(&Error::Lacking("needs root".into()));
        assert!(Measured::ours("x", Unit::Bytes, lacking).is_whole());
    }

    #[test]
    fn a_side_without_a_single_sample_is_missing_and_not_zero() {
        let row = assembling(seconds(&[]), Side::Nothing);
        assert!(row.ours.is_none());
        assert!(row.aims.iter().all(|verdict| verdict.met.is_none()));
    }
}
