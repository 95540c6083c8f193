//! The table that `ballast status` prints.

use std::fmt;

use super::{Health, Status};

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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: [&str; 7] = ["NODE", "ROLE", "ADDRESS", "HEALTH", "LEADER", "VERSION", ""];
        let dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(self.nodes.iter().map(|row| {
            [
                row.node.clone(),
                row.role.clone(),
                row.address.to_string(),
                row.health.to_string(),
                dash(&row.leader),
                dash(&row.version),
                row.reasons.join("; "),
            ]
        }));
        let mut widths = [0; 7];
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
        Ok(())
    }
}
