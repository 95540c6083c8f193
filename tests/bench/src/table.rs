//! The table: one line per row, in the notation of Markdown tables, so that it can be pasted into a document.

use crate::row::{Row, Summary};
use crate::samples::Unit;

const HEADINGS: [&str; 5] = ["what", "ours", "stock", "aim", "why"];

/// The rows as text.
pub fn write_table(rows: &[Row]) -> String {
    let cells: Vec<[String; 5]> = rows.iter().map(cells).collect();
    let widths: Vec<usize> = HEADINGS
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            let longest =
                cells.iter().filter_map(|line| line.get(column)).map(|c| c.chars().count());
            longest.chain([heading.len()]).max().unwrap_or_default()
        })
        .collect();
    let mut text = line(&HEADINGS.map(str::to_owned), &widths);
    text.push_str(&line(&HEADINGS.map(|_| "---".to_owned()), &widths));
    for cells in &cells {
        text.push_str(&line(cells, &widths));
    }
    text
}

fn line(cells: &[String; 5], widths: &[usize]) -> String {
    let mut text = String::new();
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        // The last column is prose; padding it would only wrap.
        let width = if column + 1 == cells.len() { 0 } else { *width };
        text.push_str(&format!("| {cell:width$} "));
    }
    text.push_str("|\n");
    text
}

fn cells(row: &Row) -> [String; 5] {
    let side = |summary: &Option<Summary>| {
        summary.as_ref().map_or_else(|| "–".into(), |s| show(row.unit, s))
    };
    let aims: Vec<String> = row
        .aims
        .iter()
        .map(|verdict| {
            let mark = match verdict.met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "open",
            };
            format!("{}: {mark}", verdict.aim)
        })
        .collect();
    [
        row.name.clone(),
        side(&row.ours),
        side(&row.stock),
        aims.join("; "),
        row.why.replace('|', "/"),
    ]
}

fn show(unit: Unit, summary: &Summary) -> String {
    let median = unit.show(summary.median);
    if summary.samples.len() == 1 {
        return median;
    }
    let runs = summary.samples.len();
    format!("{median} ({} to {}, {runs} runs)", unit.show(summary.least), unit.show(summary.most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Aim, Measured, Side, row};
    use crate::samples::Samples;

    #[test]
    fn the_table_shows_median_spread_aim_and_reason() {
        let rows = [
            row(Measured::ours(
                "evaluating",
                Unit::Seconds,
                Samples::new(vec![0.5, 0.75, 0.25]).into(),
            )
            .aiming(Aim::AtMost(0.25))
            .because("a | b")),
            row(Measured::ours("disk.raw.zst", Unit::Bytes, Side::Seen(Samples::one(58e6)))),
        ];
        assert_eq!(
            write_table(&rows),
            "\
| what         | ours                              | stock | aim                   | why |
| ---          | ---                               | ---   | ---                   | --- |
| evaluating   | 0.50 s (0.25 s to 0.75 s, 3 runs) | –     | within 0.25 s: MISSED | a / b |
| disk.raw.zst | 58.0 MB                           | –     |                       |  |
"
        );
    }
}
