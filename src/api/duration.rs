//! Durations as Go and Kubernetes write them: `2m`, `1h30m`, `1.5s`, `500ms`.
//!
//! Pure functions, called by [`GoDuration`](super::go_duration::GoDuration) and by the options. Both directions are
//! exact to the nanosecond, so that a printed duration parses as the same duration.

use std::{fmt::Write as _, time::Duration};

/// Units from large to small, with their length in nanoseconds. `µs` and `μs` are read as well.
const UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The maximum of Go's durations, about 292 years.
pub(crate) const MAX: Duration = Duration::from_nanos(i64::MAX.cast_unsigned());

/// Parses a duration: numbers, each with its unit, without blanks; or `0`.
///
/// Returns `None` for every other text: with a sign, without a unit, with an unknown unit, above the maximum, or with
/// fractions of a nanosecond.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut rest = text;
    let mut nanos = 0u128;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        nanos = nanos.checked_add(in_nanos(number, unit)?)?;
        rest = next;
    }
    (nanos <= MAX.as_nanos()).then(|| Duration::from_nanos_u128(nanos))
}

fn in_nanos(number: &str, unit: &str) -> Option<u128> {
    let unit = if matches!(unit, "µs" | "μs") { "us" } else { unit };
    let (_, scale) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Every accepted duration has at most nineteen digits. With more, the sums below could overflow.
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.len() > 19 {
        return None;
    }
    let digits = |text: &str| {
        if text.is_empty() { Some(0u128) } else { text.parse().ok() }
    };
    let tenths = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = digits(fraction)? * scale;
    (part % tenths == 0).then_some(())?;
    Some(digits(whole)? * scale + part / tenths)
}

/// Prints a duration in whole units, the largest first: `1h30m`, `1s500ms`, `0s`.
pub(crate) fn format(duration: Duration) -> String {
    let mut left = duration.as_nanos();
    let mut text = String::new();
    for (name, scale) in UNITS {
        if left >= scale {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{name}", left / scale);
            left %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_writes() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("2m0s", 120_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("2000us", 2),
            ("2000µs", 2),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in
            ["", "5", "-5s", "+5s", "5 s", "s", ".s", "1.2.3s", "5d", "5sec", "ms5", "0.1ns", "9999999h"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("99999999999999999999999999h"), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(nanos in 0..=i64::MAX.cast_unsigned()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }

        #[test]
        fn never_panics(text in ".*") {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_near_misses(text in "[0-9.hmsnuµ]{0,40}") {
            let _ = parse(&text);
        }
    }
}
