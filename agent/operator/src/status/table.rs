//! The table that `ballast status` prints.

use std::fmt;

use super::{Health, Row, Status};

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Absent => "absent",
            Self::Unreachable => "unreachable",
        })
    }
}

/// The columns; the last one says why a node is not passing.
const HEAD: [&str; 12] = [
    "NODE", "ROLE", "ADDRESS", "HEALTH", "STATE", "LAG", "SYNC", "QUORUM", "CONSUL", "IMAGE",
    "SLOT", "",
];

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.nodes.iter().map(cells));
        let mut widths = [0; HEAD.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.len().max(*width);
            }
        }
        for row in rows {
            let cells: Vec<_> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        for line in self.problems.iter().chain(&self.notes) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn cells(row: &Row) -> [String; HEAD.len()] {
    let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    [
        row.node.clone(),
        row.role.clone(),
        row.address.to_string(),
        row.health.to_string(),
        dash(&row.state),
        dash(&row.lag_bytes.map(bytes)),
        dash(&row.sync),
        dash(&row.sentinel_quorum),
        dash(&row.consul_version),
        dash(&row.image_version),
        dash(&row.slot),
        row.reasons.join("; "),
    ]
}

/// A number of bytes for people: three digits are enough to see whether a replica keeps up.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let (mut rest, mut unit) = (count, "B");
    for next in UNITS {
        if rest < 1024 {
            break;
        }
        (rest, unit) = (rest / 1024, next);
    }
    format!("{rest} {unit}")
}
