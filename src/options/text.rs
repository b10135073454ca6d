//! The forms that a setting written as text can have: how it is read, printed, and described to a JSON schema.
//!
//! A field chooses its form by `#[serde(with = "Text::<Form>")]`. From that one attribute follow the check of the
//! value, the words of the error, and the pattern in the schema.
//!
//! A pattern accepts nothing that `parse` rejects, with three exceptions that no pattern can express: the length of a
//! label's prefix, an IPv6 address, the maximum of a duration. A pattern is stricter in one point: numbers in
//! selectors have at most 18 digits. Patterns use only what ECMAScript and RE2 have in common: no look-around, counts
//! up to 1000.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr as _, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserializer, Serializer,
    de::{self, Visitor},
};
use serde_json::{Value, json};

use super::{BindAddress, LabelSelector};
use crate::api::duration;

/// A form of text.
pub(super) trait Form {
    /// The type of the field.
    type Value;
    /// Placeholder of the value in help texts.
    const NAME: &'static str;
    /// The accepted values, to be read after the word "expected".
    const ACCEPTS: &'static str;

    /// A regular expression for the accepted texts, without anchors.
    fn pattern() -> String;

    /// Reads a text; the error says why it is rejected.
    fn parse(text: &str) -> Result<Self::Value, String>;

    /// Prints a value as a text that `parse` reads back.
    fn print(value: &Self::Value) -> String;

    /// Further keywords of the schema.
    fn keywords() -> Value {
        json!({})
    }
}

/// Connects a [`Form`] to serde and schemars.
pub(super) struct Text<F>(PhantomData<F>);

impl<F: Form> Text<F> {
    pub(super) fn serialize<S: Serializer>(value: &F::Value, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&F::print(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<F::Value, D::Error> {
        deserializer.deserialize_str(Self(PhantomData))
    }
}

impl<F: Form> Visitor<'_> for Text<F> {
    type Value = F::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(F::ACCEPTS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<F::Value, E> {
        F::parse(text).map_err(E::custom)
    }
}

impl<F: Form> JsonSchema for Text<F> {
    fn schema_name() -> Cow<'static, str> {
        F::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = Schema::default();
        schema.insert("type".into(), json!("string"));
        schema.insert("pattern".into(), json!(anchored(&F::pattern())));
        schema.insert("x-name".into(), json!(F::NAME));
        schema.insert("x-accepts".into(), json!(F::ACCEPTS));
        if let Value::Object(keywords) = F::keywords() {
            keywords.into_iter().for_each(|(name, value)| drop(schema.insert(name, value)));
        }
        schema
    }
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn expected<F: Form>(value: Option<F::Value>) -> Result<F::Value, String> {
    value.ok_or_else(|| format!("expected {}", F::ACCEPTS))
}

/// Returns true for a DNS-1123 label, which the name of a namespace must be: lower-case letters, digits and `-`,
/// beginning and ending with a letter or digit, at most 63 characters.
pub(super) fn is_namespace(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.as_bytes().first().is_some_and(inner)
        && text.as_bytes().last().is_some_and(inner)
        && text.as_bytes().iter().all(|byte| inner(byte) || *byte == b'-')
}

/// The name of a namespace, or nothing.
pub(super) enum Namespace {}

impl Form for Namespace {
    type Value = String;
    const NAME: &'static str = "NAMESPACE";
    const ACCEPTS: &'static str = "the name of a namespace (lower-case letters, digits and `-`, beginning and ending \
                                   with a letter or digit, at most 63 characters) or nothing";

    fn pattern() -> String {
        "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?|".to_owned()
    }

    fn parse(text: &str) -> Result<String, String> {
        expected::<Self>((text.is_empty() || is_namespace(text)).then(|| text.to_owned()))
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The name of an object, as a DNS-1123 label.
pub(super) enum ObjectName {}

impl Form for ObjectName {
    type Value = String;
    const NAME: &'static str = "NAME";
    const ACCEPTS: &'static str = "a name of lower-case letters, digits and `-`, beginning and ending with a letter or \
                                   digit, at most 63 characters";

    fn pattern() -> String {
        "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?".to_owned()
    }

    fn parse(text: &str) -> Result<String, String> {
        expected::<Self>(is_namespace(text).then(|| text.to_owned()))
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A label selector, or nothing. The text is kept as it is.
pub(super) enum Selector {}

impl Form for Selector {
    type Value = String;
    const NAME: &'static str = "SELECTOR";
    const ACCEPTS: &'static str = "a label selector such as `team=a,tier in (x,y),!legacy`";

    fn pattern() -> String {
        let blanks = "[ \\t\\r\\n]*";
        let name = "[A-Za-z0-9](?:[-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?";
        let domain = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?";
        let key = format!("(?:{domain}(?:\\.{domain})*/)?{name}");
        let value = format!("{blanks}(?:{name})?");
        let values = format!("\\({value}{blanks}(?:,{value}{blanks})*\\)");
        let operator = format!(
            "{blanks}(?:==?|!=){value}|{blanks}[<>]{blanks}[-+]?[0-9]{{1,18}}|[ \\t\\r\\n]+(?:not)?in{blanks}{values}"
        );
        let requirement = format!("{blanks}(?:!{blanks}{key}|{key}(?:{operator})?){blanks}");
        format!("{requirement}(?:,{requirement})*|{blanks}")
    }

    fn parse(text: &str) -> Result<String, String> {
        LabelSelector::from_str(text).map(|_| text.to_owned()).map_err(|error| error.detail())
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A domain name, with a port if it is not the usual one, or nothing.
pub(super) enum Domain {}

impl Form for Domain {
    type Value = String;
    const NAME: &'static str = "DOMAIN";
    const ACCEPTS: &'static str =
        "a domain such as sandboxes.example.com, with a port if it is not 443, or nothing";

    fn pattern() -> String {
        let label = "[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?";
        format!("(?:{label}\\.)*{label}(?::[0-9]{{1,4}})?|")
    }

    fn parse(text: &str) -> Result<String, String> {
        let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
        let is_name = name.len() <= 253 && name.split('.').all(is_namespace);
        let digits =
            |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
        let accepted = text.is_empty() || is_name && port.is_none_or(digits);
        expected::<Self>(accepted.then(|| text.to_owned()))
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// The path of a file, or nothing.
pub(super) enum FilePath {}

impl Form for FilePath {
    type Value = String;
    const NAME: &'static str = "FILE";
    const ACCEPTS: &'static str = "the path of a file, or nothing";

    fn pattern() -> String {
        "[ -~]*".to_owned()
    }

    fn parse(text: &str) -> Result<String, String> {
        expected::<Self>(text.bytes().all(|byte| matches!(byte, b' '..=b'~')).then(|| text.to_owned()))
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

/// A version of three numbers.
pub(super) enum Version {}

impl Form for Version {
    type Value = String;
    const NAME: &'static str = "VERSION";
    const ACCEPTS: &'static str = "a version such as 0.2.10";

    fn pattern() -> String {
        "[0-9]{1,5}\\.[0-9]{1,5}\\.[0-9]{1,5}".to_owned()
    }

    fn parse(text: &str) -> Result<String, String> {
        let is_number =
            |part: &str| (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        let accepted = text.split('.').count() == 3 && text.split('.').all(is_number);
        expected::<Self>(accepted.then(|| text.to_owned()))
    }

    fn print(value: &String) -> String {
        value.clone()
    }
}

impl Form for BindAddress {
    type Value = Self;
    const NAME: &'static str = "ADDRESS";
    const ACCEPTS: &'static str = "`host:port`, `:port` for every interface, or `0` to disable the listener";

    fn pattern() -> String {
        let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
        let label = "[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?";
        let last = "[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?";
        let port = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})";
        let host = format!("{byte}(?:\\.{byte}){{3}}|(?:{label}\\.)*{last}|\\[[0-9A-Fa-f:.]+\\]");
        format!("0|(?:{host})?:{port}")
    }

    fn parse(text: &str) -> Result<Self, String> {
        expected::<Self>(text.parse().ok())
    }

    fn print(value: &Self) -> String {
        value.to_string()
    }
}

/// A duration of zero or more.
pub(super) enum AnyDuration {}

impl Form for AnyDuration {
    type Value = Duration;
    const NAME: &'static str = "DURATION";
    const ACCEPTS: &'static str = "a duration such as 500ms, 30s, 2m or 1h30m";

    fn pattern() -> String {
        "0|(?:(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:h|m|s|ms|us|µs|μs|ns))+".to_owned()
    }

    fn parse(text: &str) -> Result<Duration, String> {
        expected::<Self>(duration::parse(text))
    }

    fn print(value: &Duration) -> String {
        duration::format(*value)
    }
}

/// A duration of more than zero.
pub(super) enum PositiveDuration {}

impl Form for PositiveDuration {
    type Value = Duration;
    const NAME: &'static str = AnyDuration::NAME;
    const ACCEPTS: &'static str = "a duration above zero such as 30s, 2m or 1h30m";

    fn pattern() -> String {
        AnyDuration::pattern()
    }

    fn parse(text: &str) -> Result<Duration, String> {
        expected::<Self>(duration::parse(text).filter(|duration| !duration.is_zero()))
    }

    fn print(value: &Duration) -> String {
        AnyDuration::print(value)
    }

    fn keywords() -> Value {
        json!({ "allOf": [{ "pattern": "[1-9]" }] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, string::string_regex};

    use super::*;

    fn matching<F: Form>() -> impl Strategy<Value = String> {
        string_regex(&F::pattern()).unwrap()
    }

    proptest! {
        #[test]
        fn c2_what_the_pattern_takes_for_a_selector_is_one(text in matching::<Selector>()) {
            let long = text.split(['/', ',', '!', ' ', '\t', '\r', '\n']).any(|part| part.len() > 253);
            prop_assert!(long || Selector::parse(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_namespace_is_one(text in matching::<Namespace>()) {
            prop_assert!(Namespace::parse(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_name_is_one(text in matching::<ObjectName>()) {
            prop_assert!(ObjectName::parse(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_domain_is_one(text in matching::<Domain>()) {
            prop_assert!(text.len() > 253 || Domain::parse(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_path_or_a_version_is_one(
            path in matching::<FilePath>(), version in matching::<Version>()
        ) {
            prop_assert!(FilePath::parse(&path).is_ok(), "{path:?}");
            prop_assert!(Version::parse(&version).is_ok(), "{version:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_an_address_is_one(text in matching::<BindAddress>()) {
            let beyond_patterns = text.len() > 253 || text.contains('[');
            prop_assert!(beyond_patterns || BindAddress::parse(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_duration_is_one(
            whole in 0..100_000u32, tenths in 0..1_000u32, unit in 0..8usize
        ) {
            let unit = ["h", "m", "s", "ms", "us", "µs", "μs", "h"][unit];
            let text = format!("{whole}.{tenths:03}{unit}");
            prop_assert!(AnyDuration::parse(&text).is_ok(), "{text:?}");
        }
    }
}
