//! The report for people: a table, then each scenario with its picture and what was done.

use std::fmt::Write;
use std::time::Duration;

use super::{Gaps, Outcome, Report};
use crate::clients::Store;

/// The whole report.
pub fn write_report(report: &Report) -> String {
    let mut text = format!(
        "# Faults\n\n{}. Availability `{}`{}, {}, seed {}. Whole {} after all nodes were switched on{}. {} passed, {} failed.\n\n",
        report.host,
        report.availability,
        if report.stock { " with the programs' own timings" } else { "" },
        if report.peer_detection {
            "silent primaries given up by their peers' agreement"
        } else {
            "silent primaries given up when their session ends"
        },
        report.seed,
        seconds(report.ready),
        memory(report),
        report.passed(),
        report.failed(),
    );
    text.push_str(
        "| scenario | load | PostgreSQL: longest gap (bound) | Redis: longest gap (bound) | whole after | |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for outcome in &report.scenarios {
        let gap = |store| {
            outcome.stores.get(&store).map_or_else(String::new, |seen| {
                let bound = seen.bound.map_or_else(|| "none".to_owned(), seconds);
                format!("{} ({bound})", seconds(seen.gap.length()))
            })
        };
        let verdict = match (outcome.broken.is_empty(), outcome.late.is_empty()) {
            (true, true) => "holds",
            (true, false) => "holds, late",
            (false, _) => "**broken**",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {} | {} | {} | {verdict} |",
            outcome.title(),
            outcome.load,
            gap(Store::Postgres),
            gap(Store::Redis),
            outcome.whole.map_or_else(|| "never".to_owned(), seconds),
        );
    }
    write_gaps(&mut text, report);
    for outcome in &report.scenarios {
        write_outcome(&mut text, outcome);
    }
    text
}

/// What the agents hold in memory.
fn memory(report: &Report) -> String {
    let each: Vec<String> =
        report.memory.iter().map(|(role, kib)| format!("{role} {:.1} MB", mb(*kib))).collect();
    if each.is_empty() { String::new() } else { format!("; agents resident: {}", each.join(", ")) }
}

/// Kibibytes as megabytes, to a tenth.
fn mb(kib: u64) -> f64 {
    f64::from(u32::try_from(kib * 1_024 / 100_000).unwrap_or(u32::MAX)) / 10.0
}

/// Median and worst, where a scenario was tried several times.
fn write_gaps(text: &mut String, report: &Report) {
    let gaps = report.gaps();
    if gaps.values().all(|gaps| gaps.count < 2) {
        return;
    }
    text.push_str(
        "\n| scenario | store | times | longest gap, median | worst |\n| --- | --- | --- | --- | --- |\n",
    );
    for ((name, store), Gaps { count, median, worst }) in gaps {
        let _ = writeln!(
            text,
            "| {name} | {} | {count} | {} | {} |",
            store.name(),
            seconds(median),
            seconds(worst)
        );
    }
}

fn write_outcome(text: &mut String, outcome: &Outcome) {
    let Outcome { tells, events, stores, broken, late, .. } = outcome;
    let name = outcome.title();
    let _ = writeln!(text, "\n## {name}\n\nHere {tells}.\n\n![{name}]({name}.svg)\n");
    for reason in broken {
        let _ = writeln!(text, "- **broken:** {reason}");
    }
    for reason in late {
        let _ = writeln!(text, "- late: {reason}");
    }
    for event in events {
        let _ = writeln!(text, "- {}: {}: {}", seconds(event.at), event.node, event.what);
    }
    for (store, seen) in stores {
        let _ = writeln!(
            text,
            "- {}: {} writes acknowledged, {} refused, {} without an answer that binds; no write from {} to {}; \
             {} reads, {} of them stale; sessions found {} times by name, {} times by asking",
            store.name(),
            seen.acknowledged,
            seen.refused,
            seen.unknown,
            seconds(seen.gap.from),
            seconds(seen.gap.until),
            seen.reads + seen.stale_reads,
            seen.stale_reads,
            seen.by_name,
            seen.by_asking,
        );
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_scenario_that_was_tried_again_has_a_median_and_a_picture_of_each_time() {
        let mut report = sample::report(sample::outcome(2_000, Vec::new()));
        report.scenarios.push(Outcome { turn: 2, ..sample::outcome(2_000, Vec::new()) });
        let text = write_report(&report);
        assert!(text.contains("| primary-killed | PostgreSQL | 2 | 1.40 s | 1.40 s |"), "{text}");
        assert!(text.contains("![primary-killed-2](primary-killed-2.svg)"), "{text}");
    }

    #[test]
    fn the_table_says_gap_and_bound_and_what_is_broken_or_late() {
        let text = write_report(&sample::report(sample::outcome(1_000, Vec::new())));
        assert!(
            text.contains(
                "seed 7. Whole 15.00 s after all nodes were switched on; agents resident: redis 4.1 MB. 1 passed, 0 failed."
            ),
            "{text}"
        );
        assert!(!text.contains("median"), "{text}");
        assert!(
            text.contains("| primary-killed | 1.2 | 1.40 s (1.00 s) |  | 0.70 s | holds, late |"),
            "{text}"
        );
        assert!(text.contains("- 1.00 s: postgres-1: power cut"), "{text}");
        let text = write_report(&sample::report(sample::outcome(2_000, vec![9])));
        assert!(text.contains(" 0 passed, 1 failed."), "{text}");
        assert!(
            text.contains("| primary-killed | 1.2 | 1.40 s (2.00 s) |  | 0.70 s | **broken** |"),
            "{text}"
        );
    }
}
