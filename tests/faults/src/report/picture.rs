//! The picture of a scenario (SVG): a lane per node with what was done to it and when it acknowledged, a lane per writer
//! with its gap.

use std::fmt::Write;
use std::time::Duration;

use super::Outcome;
use crate::clients::Store;
use crate::timeline::{Gap, State, states};

const LEFT: f64 = 130.0;
const WIDTH: f64 = 860.0;
const RIGHT: f64 = 30.0;
const LANE: f64 = 24.0;
const BAR: f64 = 14.0;
const TOP: f64 = 34.0;
const FOOT: f64 = 46.0;

const ACKNOWLEDGED: &str = "#2e7d32";
const MISSED: &str = "#c62828";

/// The picture.
pub fn write_picture(outcome: &Outcome, nodes: &[String]) -> String {
    let writers = nodes.len();
    let height = TOP + middle(writers + Store::ALL.len()) - middle(0) + FOOT;
    let mut picture = Picture { text: String::new(), whole: outcome.end, height };
    picture.begin(outcome);
    for (lane, node) in nodes.iter().enumerate() {
        picture.name(lane, node);
        for (state, during) in states(&outcome.events, node, outcome.end) {
            picture.bar(lane, during, colour(state), BAR);
        }
        for seen in outcome.stores.values() {
            for (_, served) in seen.served.iter().filter(|(name, _)| name == node) {
                picture.bar(lane, *served, ACKNOWLEDGED, BAR / 2.0);
            }
        }
    }
    for (lane, store) in (writers..).zip(Store::ALL) {
        picture.name(lane, &format!("{} writer", store.name()));
        let Some(seen) = outcome.stores.get(&store) else { continue };
        picture.bar(lane, seen.gap, MISSED, BAR);
        for served in &seen.writer {
            picture.bar(lane, *served, ACKNOWLEDGED, BAR);
        }
        let length = format!("{:.2} s", seen.gap.length().as_secs_f64());
        picture.label(lane, seen.gap.until, &length);
    }
    picture.end(outcome)
}

fn colour(state: State) -> &'static str {
    match state {
        State::Well => "#e0e6ec",
        State::Hurt => "#ffcc80",
        State::Cut => "#ce93d8",
        State::Frozen => "#90caf9",
        State::Off => "#37474f",
    }
}

fn middle(lane: usize) -> f64 {
    // A site has a handful of lanes.
    TOP + LANE * (f64::from(u32::try_from(lane).unwrap_or(u32::MAX)) + 0.5)
}

struct Picture {
    text: String,
    whole: Duration,
    height: f64,
}

impl Picture {
    fn begin(&mut self, outcome: &Outcome) {
        let (width, height) = (LEFT + WIDTH + RIGHT, self.height);
        self.line(&format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
        ));
        self.line("<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>");
        self.words(8.0, 20.0, &format!("{}: {}", outcome.name, outcome.tells));
        let seconds = outcome.end.as_secs();
        // A dozen marks at most, whole seconds apart.
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600];
        let step = steps.into_iter().find(|step| seconds / step <= 12).unwrap_or(3_600);
        let mut mark = 0;
        while mark <= seconds {
            let x = self.place(Duration::from_secs(mark));
            let bottom = height - FOOT;
            self.line(&format!(
                "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"#eceff1\"/>"
            ));
            self.words(x - 6.0, bottom + 14.0, &format!("{mark} s"));
            mark += step;
        }
    }

    fn end(mut self, outcome: &Outcome) -> String {
        let x = self.place(outcome.fault);
        self.line(&format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"{MISSED}\" stroke-dasharray=\"3 3\"/>",
            self.height - FOOT
        ));
        let mut x = LEFT;
        for (colour, meaning) in [
            (ACKNOWLEDGED, "acknowledges"),
            (MISSED, "longest gap"),
            (colour(State::Off), "off"),
            (colour(State::Frozen), "frozen"),
            (colour(State::Cut), "cut off"),
            (colour(State::Hurt), "hurt"),
        ] {
            let y = self.height - 20.0;
            self.line(&format!(
                "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"
            ));
            self.words(x + 16.0, y + 10.0, meaning);
            x += 110.0;
        }
        self.line("</svg>");
        self.text
    }

    fn place(&self, at: Duration) -> f64 {
        let whole = self.whole.as_secs_f64().max(0.001);
        LEFT + WIDTH * (at.as_secs_f64() / whole).clamp(0.0, 1.0)
    }

    fn name(&mut self, lane: usize, name: &str) {
        self.words(8.0, middle(lane) + 4.0, name);
    }

    fn label(&mut self, lane: usize, at: Duration, text: &str) {
        let x = (self.place(at) + 3.0).min(LEFT + WIDTH - 40.0);
        let y = middle(lane) - BAR / 2.0 - 1.0;
        let text = escape(text);
        self.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"9\">{text}</text>"));
    }

    fn bar(&mut self, lane: usize, during: Gap, colour: &str, thickness: f64) {
        let (from, until) = (self.place(during.from), self.place(during.until));
        // What is over in a moment is still to be seen.
        let width = (until - from).max(1.0);
        let y = middle(lane) - thickness / 2.0;
        self.line(&format!(
            "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{thickness:.1}\" fill=\"{colour}\"/>"
        ));
    }

    fn words(&mut self, x: f64, y: f64, text: &str) {
        self.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escape(text)));
    }

    fn line(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_picture_has_a_lane_for_each_node_and_writer_and_shows_the_gap() {
        let outcome = sample::outcome(2_000, Vec::new());
        let text = write_picture(&outcome, &["postgres-1".into(), "a<b&c".into()]);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{text}");
        for lane in ["postgres-1", "a&lt;b&amp;c", "PostgreSQL writer", "Redis writer"] {
            assert!(text.contains(&format!(">{lane}</text>")), "{lane} in {text}");
        }
        assert!(text.contains(">1.40 s</text>"), "{text}");
        // Off from 1 s to 3 s of 4 s, on a lane of 860.
        assert!(text.contains("<rect x=\"345.0\" y=\"39.0\" width=\"430.0\""), "{text}");
        assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
    }
}
