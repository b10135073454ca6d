//! Ages as people read them: `12s`, `5m30s`, `3d4h`, `2y30d`.

use jiff::Timestamp;

/// The longest duration of Go, in seconds.
const MAX_SECONDS: i64 = i64::MAX / 1_000_000_000;

const UNKNOWN: &str = "<unknown>";
const INVALID: &str = "<invalid>";

/// The age of a time in an object. It is `<unknown>` for an empty text and for the zero time of Go.
pub(super) fn age(then: &str, now: Timestamp) -> String {
    if then.is_empty() {
        return UNKNOWN.to_owned();
    }
    match parse(then) {
        None => INVALID.to_owned(),
        Some(then) if then == zero() => UNKNOWN.to_owned(),
        Some(then) => since(then, now),
    }
}

/// The age of a time.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().min(MAX_SECONDS);
    // Two clocks may differ by less than two seconds.
    if seconds < -1 { INVALID.to_owned() } else { human(seconds.max(0)) }
}

/// Parses a time of RFC 3339, which is stricter than the parser of the library.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    let has = |(at, separator): (usize, u8)| text.as_bytes().get(at) == Some(&separator);
    separators.into_iter().all(has).then(|| text.parse().ok())?
}

/// The zero time of Go.
fn zero() -> Timestamp {
    parse("0001-01-01T00:00:00Z").unwrap_or(Timestamp::MIN)
}

/// A duration in two units as long as both matter, then in one.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |large: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{small_unit}"),
    };
    match hours {
        _ if seconds < 120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        0..3 => format!("{minutes}m"),
        3..8 => two(hours, 'h', minutes % 60, 'm'),
        8..48 => format!("{hours}h"),
        48..192 => two(days, 'd', hours % 24, 'h'),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    #[test]
    fn durations_have_two_units_while_they_matter() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (8 * 3600 - 1, "7h59m"),
            (8 * 3600, "8h"),
            (2 * DAY - 1, "47h"),
            (2 * DAY, "2d"),
            (2 * DAY + 3 * 3600, "2d3h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY, "8d"),
            (2 * 365 * DAY - 1, "729d"),
            (2 * 365 * DAY, "2y"),
            (3 * 365 * DAY + 5 * DAY, "3y5d"),
            (8 * 365 * DAY - 1, "7y364d"),
            (8 * 365 * DAY, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn ages_that_make_no_sense_say_so() {
        let now = parse("2026-01-01T00:00:10Z").unwrap();
        let cases = [
            ("", "<unknown>"),
            ("0001-01-01T00:00:00Z", "<unknown>"),
            ("2026-01-01T00:00:05.5Z", "4s"),
            ("2026-01-01T08:00:05+08:00", "5s"),
            ("2026-01-01T00:00:11.9Z", "0s"),
            ("2026-01-01T00:00:12Z", "<invalid>"),
            ("0002-01-01T00:00:00Z", "292y"),
            ("yesterday", "<invalid>"),
            ("2026-01-01", "<invalid>"),
            ("2026-01-01 00:00:00Z", "<invalid>"),
            ("2026-01-01T00:00:00", "<invalid>"),
        ];
        for (then, text) in cases {
            assert_eq!(age(then, now), text, "{then:?}");
        }
    }
}
