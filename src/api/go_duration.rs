//! [`GoDuration`]: a length of time that is written back exactly as it was read.
//!
//! Kubernetes writes durations in the form of Go, such as `1m` or `1h30m`. The API server stores the text. Writing
//! `60s` for a `1m` that was read would change a spec, and its generation, although the caller changed another field.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::duration;
use super::from_text::from_text;

/// A duration in the form of Go. It may be negative: some fields turn a feature off by a negative duration.
///
/// Two values are equal if they are the same length of time, even if their texts differ.
#[derive(Clone)]
pub struct GoDuration {
    text: Box<str>,
    length: SignedDuration,
}

impl GoDuration {
    /// Returns the length of time.
    #[must_use]
    pub const fn get(&self) -> SignedDuration {
        self.length
    }

    /// Returns the length of time, or none if it is negative.
    #[must_use]
    pub fn non_negative(&self) -> Option<Duration> {
        self.length.try_into().ok()
    }
}

impl From<Duration> for GoDuration {
    /// Creates a duration of at most 292 years, the limit of Go.
    fn from(length: Duration) -> Self {
        let length = length.min(duration::MAX);
        let text = duration::format(length).into();
        // The limit of Go is far below the limit of `SignedDuration`.
        Self { text, length: SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX) }
    }
}

/// The text is no duration in the form of Go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid duration: expected numbers with units, such as 30s, 1h30m or -1s")]
pub struct InvalidDuration;

impl std::str::FromStr for GoDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let negative = text.strip_prefix('-');
        let unsigned = negative.or_else(|| text.strip_prefix('+')).unwrap_or(text);
        let length = duration::parse(unsigned).and_then(|length| SignedDuration::try_from(length).ok());
        let length = length.ok_or(InvalidDuration)?;
        Ok(Self { text: text.into(), length: if negative.is_some() { -length } else { length } })
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoDuration({self})")
    }
}

impl PartialEq for GoDuration {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length
    }
}

impl Eq for GoDuration {}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a duration, such as 30s")
    }
}

impl schemars::JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    /// Returns the schema of a string. The format `duration` of JSON schema is another one: ISO 8601.
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_legal_form_is_written_back_as_it_was_read() {
        for (text, seconds) in [("60s", 60), ("1m", 60), ("1m0s", 60), ("-1s", -1), ("+1s", 1), ("0", 0)] {
            let duration: GoDuration = serde_json::from_value(text.into()).unwrap();
            assert_eq!(duration.get(), SignedDuration::from_secs(seconds), "{text}");
            assert_eq!(serde_json::to_value(&duration).unwrap(), text);
        }
    }

    #[test]
    fn durations_compare_by_length_and_may_be_negative() {
        let [minute, seconds, never]: [GoDuration; 3] =
            ["1m", "60s", "-1s"].map(|text| text.parse().unwrap());
        assert_eq!(minute, seconds);
        assert_ne!(minute, never);
        assert_eq!(minute.non_negative(), Some(Duration::from_mins(1)));
        assert_eq!(never.non_negative(), None);
    }

    #[test]
    fn a_duration_built_in_memory_is_written_in_the_form_of_go() {
        assert_eq!(GoDuration::from(Duration::from_secs(90)).to_string(), "1m30s");
        assert_eq!(GoDuration::from(Duration::MAX), GoDuration::from(duration::MAX));
    }

    #[test]
    fn text_that_is_no_duration_is_an_error() {
        for text in ["", "-", "--1s", "1", "1d", "PT1S", " 1s"] {
            assert!(serde_json::from_value::<GoDuration>(text.into()).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<GoDuration>("5").is_err());
    }
}
