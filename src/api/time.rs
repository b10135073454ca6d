//! [`Time`]: an instant that is written back exactly as it was read.
//!
//! The API server stores a `date-time` of a custom resource as text and validates only its form. So
//! `2030-01-01T00:00:00.5Z` and `2030-01-01T08:00:00+08:00` are both legal. The `Time` of k8s-openapi drops
//! the fraction and the offset when it is written. That would change a spec, and its generation, although
//! the caller changed another field.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::{self, Write};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::from_text::from_text;

/// An RFC 3339 date and time.
///
/// Two values are equal if they are the same instant, even if their texts differ.
#[derive(Clone)]
pub struct Time(Form);

#[derive(Clone)]
enum Form {
    /// The second since 1970 of a time in the form `2030-01-02T03:04:05Z`: UTC, `Z` and no fraction.
    Second(i64),
    /// Any other form. The box keeps `Time` small, because this form is rare and every object has times.
    Verbatim(Box<(Timestamp, Box<str>)>),
}

impl Time {
    /// Returns the instant.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        match &self.0 {
            // The second was taken from a `Timestamp`, so it is within the range.
            Form::Second(second) => Timestamp::from_second(*second).unwrap_or_default(),
            Form::Verbatim(form) => form.0,
        }
    }

    /// Returns the instant without the fraction of a second, as Kubernetes writes times.
    pub(crate) fn whole_seconds(instant: Timestamp) -> Self {
        Timestamp::from_second(instant.as_second()).unwrap_or(instant).into()
    }
}

impl From<Timestamp> for Time {
    fn from(instant: Timestamp) -> Self {
        match instant.subsec_nanosecond() {
            0 => Self(Form::Second(instant.as_second())),
            _ => Self(Form::Verbatim(Box::new((instant, instant.to_string().into())))),
        }
    }
}

impl std::str::FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let instant = text.parse().or_else(|error| beyond_the_range(text).ok_or(error))?;
        Ok(Self(if instant.subsec_nanosecond() == 0 && displays_as(instant, text) {
            Form::Second(instant.as_second())
        } else {
            Form::Verbatim(Box::new((instant, text.into())))
        }))
    }
}

/// Returns the nearest instant to a valid date and time that `Timestamp` cannot hold (behaviour V9): its range ends
/// 26 hours before the year 9999 does, and `9999-12-31T23:59:59Z` is a common way to write "never".
fn beyond_the_range(text: &str) -> Option<Timestamp> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    pieces.offset()?;
    pieces.time()?;
    match pieces.date().year() {
        9999 => Some(Timestamp::MAX),
        -9999 => Some(Timestamp::MIN),
        _ => None,
    }
}

/// Returns true if `instant` displays as exactly `text`. Allocates nothing.
fn displays_as(instant: Timestamp, text: &str) -> bool {
    struct Expected<'a>(&'a str);
    impl Write for Expected<'_> {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0 = self.0.strip_prefix(part).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    let mut expected = Expected(text);
    write!(expected, "{instant}").is_ok() && expected.0.is_empty()
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Second(_) => write!(f, "{}", self.timestamp()),
            Form::Verbatim(form) => f.write_str(&form.1),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Time({self})")
    }
}

impl PartialEq for Time {
    fn eq(&self, other: &Self) -> bool {
        self.timestamp() == other.timestamp()
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> Ordering {
        self.timestamp().cmp(&other.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an RFC 3339 date and time")
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_legal_form_is_written_back_as_it_was_read() {
        for text in [
            "2030-01-02T03:04:05Z",
            "2030-01-02T03:04:05.25Z",
            "2030-01-02T03:04:05.250Z",
            "2030-01-02T03:04:05.000Z",
            "2030-01-02T11:04:05+08:00",
            "2030-01-02t03:04:05z",
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn v9_a_time_beyond_the_range_of_the_library_is_clamped_and_written_back_as_it_was_read() {
        for text in
            ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999999999-12:00", "9999-12-31T00:00:00+01:00"]
        {
            let time: Time = text.parse().unwrap();
            assert_eq!((time.to_string().as_str(), time.timestamp()), (text, Timestamp::MAX));
        }
        for text in ["9999-12-31", "9999-12-31T23:59:59", "9999-13-31T23:59:59Z"] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_usual_form_is_kept_without_its_text() {
        let time: Time = "2030-01-02T03:04:05Z".parse().unwrap();
        assert!(matches!(time.0, Form::Second(_)));
        assert!(size_of::<Option<Time>>() <= 16);
    }

    #[test]
    fn times_compare_by_instant() {
        let utc: Time = "2030-01-02T03:04:05Z".parse().unwrap();
        let local: Time = "2030-01-02T11:04:05+08:00".parse().unwrap();
        let later: Time = "2030-01-02T03:04:05.001Z".parse().unwrap();
        assert_eq!(utc, local);
        assert!(local < later);
    }

    #[test]
    fn text_that_is_no_date_is_an_error() {
        assert!(serde_json::from_str::<Time>(r#""tomorrow""#).is_err());
        assert!(serde_json::from_str::<Time>("5").is_err());
    }
}
