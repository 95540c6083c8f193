//! Calendar events, as systemd's timers take them (systemd.time(7)): whether a text is one, decided before a node sees it.
//!
//! Times are of the node's clock, which keeps UTC. Another zone is refused here, because whether a node knows it cannot be.

use std::ops::RangeInclusive;

/// Words that stand for a whole event.
const WORDS: [&str; 9] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "yearly",
    "annually",
];
const DAYS: [&str; 7] =
    ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// What systemd takes for a year.
const YEARS: RangeInclusive<u16> = 1970..=2199;

/// Why a text is no calendar event, if it is none.
pub fn refuse_event(text: &str) -> Option<String> {
    event(text).err()
}

fn event(text: &str) -> Result<(), String> {
    let text = text.to_ascii_lowercase();
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if words.last() == Some(&"utc") {
        words.pop();
    }
    if let [word] = words.as_slice() {
        if WORDS.contains(word) {
            return Ok(());
        }
    }
    let mut parts = words.into_iter().peekable();
    let is_empty = parts.peek().is_none();
    if let Some(days) = parts.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
        weekdays(days)?;
    }
    if let Some(date) = parts.next_if(|word| !word.contains(':')) {
        calendar_date(date)?;
    }
    if let Some(time) = parts.next() {
        time_of_day(time)?;
    }
    match parts.next() {
        _ if is_empty => Err("it is empty".to_owned()),
        Some(rest) => Err(format!("{rest:?} is one word too many")),
        None => Ok(()),
    }
}

/// `mon`, `mon..fri`, `mon,wed..sun`.
fn weekdays(text: &str) -> Result<(), String> {
    let day = |name: &str| {
        let known = DAYS.iter().position(|day| *day == name || day.get(..3) == Some(name));
        known.ok_or_else(|| format!("{name:?} is neither a weekday nor a word for an event"))
    };
    // A comma may stand between the days and the date.
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        match part.split_once("..") {
            None => day(part).map(|_| ())?,
            Some((first, last)) if day(first)? < day(last)? => {}
            Some(_) => return Err(format!("{part:?} runs backwards")),
        }
    }
    Ok(())
}

/// `2026-01-31`, `*-01-31`, `01-31`; `~` in place of the last hyphen counts days from the month's end.
fn calendar_date(text: &str) -> Result<(), String> {
    let (rest, day) = text.rsplit_once(['-', '~']).ok_or_else(|| {
        format!("{text:?} is neither a date, year-month-day, nor a time, hour:minute")
    })?;
    let month = match rest.split_once('-') {
        Some((year, month)) => {
            component("year", year, YEARS)?;
            month
        }
        None => rest,
    };
    component("month", month, 1..=12)?;
    component("day", day, 1..=31)
}

/// `02:00`, `02:00:30`.
fn time_of_day(text: &str) -> Result<(), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (hour, minute, "0"),
        [hour, minute, second] => (hour, minute, *second),
        _ => return Err(format!("{text:?} is not a time, hour:minute or hour:minute:second")),
    };
    component("hour", hour, 0..=23)?;
    component("minute", minute, 0..=59)?;
    component("second", second, 0..=59)
}

/// `*`, or one or several of `2`, `2..5`, each as it is or again and again: `2/6`.
fn component(what: &str, text: &str, range: RangeInclusive<u16>) -> Result<(), String> {
    let number = |text: &str| match text.parse::<u16>() {
        Ok(number) if range.contains(&number) && text.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(number)
        }
        _ => Err(format!(
            "{what} {text:?} is not a number from {} to {}",
            range.start(),
            range.end()
        )),
    };
    for part in text.split(',') {
        let (values, step) = match part.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (part, None),
        };
        match values.split_once("..") {
            _ if values == "*" => {}
            None => number(values).map(|_| ())?,
            Some((first, last)) if number(first)? <= number(last)? => {}
            Some(_) => return Err(format!("{what} {values:?} runs backwards")),
        }
        if step.is_some_and(|step| !step.parse::<u16>().is_ok_and(|n| n > 0)) {
            return Err(format!("{what} {part:?} is repeated by no number"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 20] = [
        "Sun 02:00",
        "Mon..Sat 02:00",
        "minutely",
        "daily",
        "Yearly",
        "Sunday",
        "mon,Wed..fri *-*-* 00:30:15",
        "*-*-01 04:00",
        "2026-11-22 20:55:00",
        "12-24 18:00",
        "*-02~01 03:00",
        "*:0/15",
        "*:*",
        "8..18/2:00",
        "00,12:30",
        "*-*-1/7 02:00 UTC",
        "Sat, 02:00",
        "2026..2030-1-1",
        "*-*-*",
        "02:00:59",
    ];
    const WRONG: [&str; 20] = [
        "",
        "  ",
        "sometimes",
        "Sun 25:00",
        "Sun 2",
        "02:60",
        "02:00:60",
        "Sunn 02:00",
        "Sat..Mon 02:00",
        "*-13-01",
        "*-00-01",
        "*-*-32",
        "1969-01-01",
        "02:00 Sun",
        "12..8:00",
        "*:0/0",
        "*:0/x",
        "+2:00",
        "02:00 02:00",
        "daily 02:00",
    ];

    #[test]
    fn what_systemd_takes_is_taken_and_what_it_refuses_is_refused() {
        for text in GOOD {
            assert_eq!(refuse_event(text), None, "{text:?}");
        }
        for text in WRONG {
            assert!(refuse_event(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_part_that_is_wrong() {
        let reason = refuse_event("Sun 25:00").unwrap();
        assert_eq!(reason, "hour \"25\" is not a number from 0 to 23");
        assert!(refuse_event("02:00 Europe/Berlin").is_some());
    }

    /// The program that the timers' events are for is the judge.
    #[test]
    #[ignore = "needs BALLAST_SYSTEMD_ANALYZE, a command that runs systemd-analyze"]
    fn systemd_agrees() {
        let words = std::env::var("BALLAST_SYSTEMD_ANALYZE").unwrap();
        let mut words = words.split_whitespace();
        let (program, arguments) = (words.next().unwrap(), words.collect::<Vec<_>>());
        for (texts, is_good) in [(GOOD, true), (WRONG, false)] {
            for text in texts {
                let mut judge = std::process::Command::new(program);
                let said = judge.args(&arguments).args(["calendar", "--", text]).output().unwrap();
                assert_eq!(said.status.success(), is_good, "{text:?}: {said:?}");
            }
        }
    }
}
