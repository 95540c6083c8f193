//! The report for people: a table, then each scenario with its picture and what was done.

use std::fmt::Write;
use std::time::Duration;

use super::{Outcome, Report};
use crate::clients::Store;

/// The whole report.
pub fn write_report(report: &Report) -> String {
    let mut text = format!(
        "# Faults\n\n{}. Availability `{}`, {}, seed {}. {} passed, {} failed.\n\n",
        report.host,
        report.availability,
        if report.peer_detection {
            "silent primaries given up by their peers' agreement"
        } else {
            "silent primaries given up when their session ends"
        },
        report.seed,
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
            outcome.name,
            outcome.load,
            gap(Store::Postgres),
            gap(Store::Redis),
            outcome.whole.map_or_else(|| "never".to_owned(), seconds),
        );
    }
    for outcome in &report.scenarios {
        write_outcome(&mut text, outcome);
    }
    text
}

fn write_outcome(text: &mut String, outcome: &Outcome) {
    let Outcome { name, tells, events, stores, broken, late, .. } = outcome;
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
    fn the_table_says_gap_and_bound_and_what_is_broken_or_late() {
        let text = write_report(&sample::report(sample::outcome(1_000, Vec::new())));
        assert!(text.contains("seed 7. 1 passed, 0 failed."), "{text}");
        assert!(
            text.contains("| primary-killed | 1.2 | 1.40 s (1.00 s) |  | 0.70 s | holds, late |"),
            "{text}"
        );
        assert!(text.contains("- 1.00 s: postgres-1: power cut"), "{text}");
        let text = write_report(&sample::report(sample::outcome(2_000, vec![9])));
        assert!(text.contains("0 passed, 1 failed."), "{text}");
        assert!(
            text.contains("| primary-killed | 1.2 | 1.40 s (2.00 s) |  | 0.70 s | **broken** |"),
            "{text}"
        );
    }
}
