//! The options file as a JSON Schema, for what reads or writes such files: editors, and the Helm chart's
//! `values.schema.json`.
//!
//! Made from the settings table. What the schema accepts, the process accepts, but for what no pattern can say:
//! the length of a label's prefix, an IPv6 address, the size of a duration. The other way round it is stricter
//! here and there: texts must be strings (`"0"`), and numbers in selectors have at most 18 digits.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use super::{
    SandboxManagerOptions,
    file::{API_VERSION, KIND},
    setting::{SETTINGS, Setting},
};

/// What the values of a setting look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The name of a namespace, or nothing.
    Namespace,
    /// A label selector, or nothing.
    Selector,
    /// A bind address.
    Address,
    /// Yes or no.
    Switch,
    /// A whole number in this range.
    Number(RangeInclusive<u32>),
    /// A duration of zero or more.
    Duration,
    /// A duration of more than zero.
    PositiveDuration,
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Shape {
    fn schema(&self) -> Value {
        match self {
            Self::Namespace => json!({ "type": "string", "pattern": namespace() }),
            Self::Selector => json!({ "type": "string", "pattern": anchored(&selector()) }),
            Self::Address => json!({ "type": "string", "pattern": anchored(&address()) }),
            Self::Switch => json!({ "type": "boolean" }),
            Self::Number(range) => {
                json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
            }
            Self::Duration => json!({ "type": "string", "pattern": duration() }),
            Self::PositiveDuration => {
                json!({ "type": "string", "pattern": duration(), "allOf": [{ "pattern": "[1-9]" }] })
            }
            Self::Word(words) => json!({ "type": "string", "enum": words }),
        }
    }

    /// A text of [`Setting::get`] as the file writes it.
    fn value(&self, text: &str) -> Value {
        match self {
            Self::Switch => json!(text == "true"),
            Self::Number(_) => text.parse::<u32>().map_or(Value::Null, Value::from),
            _ => json!(text),
        }
    }
}

// Patterns keep to what ECMAScript and RE2 have in common: no look-around, counts of at most 1000.

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn namespace() -> String {
    anchored("[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?|")
}

/// The grammar of the `selector` module, without anchors.
fn selector() -> String {
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

fn address() -> String {
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    let label = "[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?";
    let last = "[A-Za-z](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?";
    let port = "(?:6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5]?[0-9]{1,4})";
    let host = format!("{byte}(?:\\.{byte}){{3}}|(?:{label}\\.)*{last}|\\[[0-9A-Fa-f:.]+\\]");
    format!("0|(?:{host})?:{port}")
}

fn duration() -> String {
    anchored("0|(?:(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:h|m|s|ms|us|µs|μs|ns))+")
}

fn leaf(setting: &Setting, defaults: &SandboxManagerOptions) -> Value {
    let mut schema = setting.shape.schema();
    schema["description"] = json!(setting.help);
    schema["default"] = setting.shape.value(&setting.get(defaults));
    schema
}

/// A section that accepts no other fields than those in it.
fn section() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {} })
}

impl SandboxManagerOptions {
    /// The options file as a JSON Schema (draft 7 and later), without `$schema`.
    #[must_use]
    pub fn json_schema() -> Value {
        let defaults = Self::default();
        let mut root = section();
        root["description"] = json!("The options of sandbox-manager, as in its file.");
        for (field, only) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            root["properties"][field] = json!({ "const": only });
        }
        for setting in SETTINGS {
            let (sections, field) = setting.path.rsplit_once('.').unwrap_or(("", setting.path));
            let mut place = &mut root["properties"];
            for name in sections.split('.').filter(|name| !name.is_empty()) {
                if place[name].is_null() {
                    place[name] = section();
                }
                place = &mut place[name]["properties"];
            }
            place[field] = leaf(setting, &defaults);
        }
        root
    }

    /// These options as the JSON that a file with all of them would be, without `apiVersion` and `kind`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut root = Value::Object(Map::new());
        for setting in SETTINGS {
            let value = setting.shape.value(&setting.get(self));
            let place = setting.path.split('.').fold(&mut root, |place, name| &mut place[name]);
            *place = value;
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use proptest::{prelude::*, string::string_regex};

    use super::{
        super::{BindAddress, LabelSelector, duration as durations},
        *,
    };

    fn schema_of<'s>(schema: &'s Value, path: &str) -> &'s Value {
        path.split('.').fold(schema, |place, name| &place["properties"][name])
    }

    #[test]
    fn every_setting_has_its_place_with_its_default() {
        let schema = SandboxManagerOptions::json_schema();
        for setting in SETTINGS {
            let leaf = schema_of(&schema, setting.path);
            assert_eq!(leaf["description"], setting.help, "{}", setting.path);
            let default = leaf["default"].as_str().map_or_else(|| leaf["default"].to_string(), str::to_owned);
            assert_eq!(default, setting.get(&SandboxManagerOptions::default()), "{}", setting.path);
        }
    }

    /// Numbers at the edge of a range, and every word, mean to the process what they mean to the schema.
    #[test]
    fn ranges_and_words_are_those_that_are_accepted() {
        for setting in SETTINGS {
            let accepts = |text: &str| setting.set(&mut SandboxManagerOptions::default(), text).is_ok();
            match &setting.shape {
                Shape::Number(range) => {
                    assert!(accepts(&range.start().to_string()), "{}", setting.path);
                    assert!(accepts(&range.end().to_string()), "{}", setting.path);
                    assert!(!accepts(&(i64::from(*range.start()) - 1).to_string()), "{}", setting.path);
                    assert!(!accepts(&(range.end() + 1).to_string()), "{}", setting.path);
                }
                Shape::Word(words) => {
                    assert!(words.iter().all(|word| accepts(word)), "{}", setting.path);
                    let listed = setting.accepts.strip_prefix("one of ").unwrap();
                    assert_eq!(listed, words.join(", "), "{}", setting.path);
                }
                Shape::Duration => assert!(accepts("0s")),
                Shape::PositiveDuration => assert!(!accepts("0s")),
                Shape::Switch | Shape::Namespace | Shape::Selector | Shape::Address => {}
            }
        }
    }

    #[test]
    fn options_as_json_are_the_file_without_its_header() {
        let mut options = SandboxManagerOptions::default();
        options.debug.enabled = true;
        let mut file: Value = serde_yaml::from_str(&options.to_yaml().unwrap()).unwrap();
        for field in ["apiVersion", "kind"] {
            file.as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(options.to_json(), file);
    }

    fn matching(pattern: &str) -> impl Strategy<Value = String> + use<> {
        string_regex(pattern).unwrap()
    }

    proptest! {
        #[test]
        fn c2_what_the_pattern_takes_for_a_selector_is_one(text in matching(&selector())) {
            let long = text.split(['/', ',', '!', ' ', '\t', '\r', '\n']).any(|part| part.len() > 253);
            prop_assert!(long || LabelSelector::from_str(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_an_address_is_one(text in matching(&address())) {
            prop_assert!(text.len() > 253 || text.contains('[') || BindAddress::from_str(&text).is_ok(), "{text:?}");
        }

        #[test]
        fn what_the_pattern_takes_for_a_duration_is_one(whole in 0..100_000u32, tenths in 0..1_000u32, unit in 0..8usize) {
            let unit = ["h", "m", "s", "ms", "us", "µs", "μs", "h"][unit];
            let text = format!("{whole}.{tenths:03}{unit}");
            prop_assert!(durations::parse(&text).is_some(), "{text:?}");
        }
    }
}
