//! [`PathElement`]: one step of a path, as `fieldsV1` and the texts of conflicts name it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

use super::value::{order, order_all};

/// One step from an object or a list to a field or an item.
#[derive(Clone, Debug)]
pub(crate) enum PathElement<'a> {
    /// A field of an object, or a key of a map.
    Field(Cow<'a, str>),
    /// The item of a list whose key fields have these values, sorted by name.
    Key(Vec<(Cow<'a, str>, Cow<'a, Value>)>),
    /// The item of a set.
    Value(Cow<'a, Value>),
    /// A position in a list. It may be in a list that is read, but is never written.
    Index(i64),
}

/// A text is not a path element.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("not a path element")]
pub(crate) struct NoPathElement;

impl<'a> PathElement<'a> {
    /// Decodes one key of `fieldsV1`. `None` for an unknown kind of key, which readers skip.
    pub(super) fn parse(text: &'a str) -> Result<Option<Self>, NoPathElement> {
        let (kind, rest) = text.split_at_checked(2).ok_or(NoPathElement)?;
        let element = match kind {
            "f:" => Self::Field(Cow::Borrowed(rest)),
            "k:" => {
                let fields: serde_json::Map<_, _> = serde_json::from_str(rest).map_err(|_| NoPathElement)?;
                Self::key(fields.into_iter().map(|(name, value)| (name.into(), Cow::Owned(value))).collect())
            }
            "v:" => Self::Value(Cow::Owned(serde_json::from_str(rest).map_err(|_| NoPathElement)?)),
            "i:" => Self::Index(rest.parse().map_err(|_| NoPathElement)?),
            _ if kind.ends_with(':') => return Ok(None),
            _ => return Err(NoPathElement),
        };
        Ok(Some(element))
    }

    /// The key of an item; sorts the fields.
    pub(super) fn key(mut fields: Vec<(Cow<'a, str>, Cow<'a, Value>)>) -> Self {
        fields.sort_by(|left, right| left.0.cmp(&right.0));
        Self::Key(fields)
    }

    /// The key of `fieldsV1`.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name.as_ref()].concat(),
            Self::Key(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("{}:{}", json(name), escaped(value))).collect();
                format!("k:{{{}}}", fields.join(","))
            }
            Self::Value(value) => format!("v:{}", escaped(value)),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

fn json(text: &str) -> String {
    Value::from(text).to_string()
}

/// JSON without the special characters of HTML, as Go's encoder writes it.
pub(super) fn escaped(value: &Value) -> String {
    let plain = value.to_string();
    if !plain.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return plain;
    }
    let escape = |char| match char {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(char)),
        other => other.to_string(),
    };
    plain.chars().map(escape).collect()
}

/// The form in texts of conflicts: `.spec`, `[name="a"]`, `[="x"]`, `[0]`.
impl fmt::Display for PathElement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={value}", if at == 0 { '[' } else { ',' })?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for PathElement<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(left), Self::Field(right)) => left.cmp(right),
            (Self::Key(left), Self::Key(right)) => order_all(left.iter(), right.iter(), |left, right| {
                left.0.cmp(&right.0).then_with(|| order(&left.1, &right.1))
            }),
            (Self::Value(left), Self::Value(right)) => order(left, right),
            (Self::Index(left), Self::Index(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for PathElement<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_written_as_it_was_read() {
        for text in [
            "f:",
            "f:spec",
            "f:a.b/c",
            r#"k:{"name":"a"}"#,
            r#"k:{"port":80,"protocol":"TCP"}"#,
            r#"v:"a""#,
            "v:1",
            "v:true",
            "i:3",
            r#"v:"a\u003cb""#,
        ] {
            assert_eq!(PathElement::parse(text).unwrap().unwrap().text(), text);
        }
        let unsorted = PathElement::parse(r#"k:{"b":1,"a":2}"#).unwrap().unwrap();
        assert_eq!(unsorted.text(), r#"k:{"a":2,"b":1}"#);
    }

    #[test]
    fn what_is_no_element_is_refused_but_an_unknown_kind_is_skipped() {
        for text in ["", "f", "spec", "é:", "k:x", "k:1", "v:", "i:x", "i:1.5"] {
            assert_eq!(PathElement::parse(text), Err(NoPathElement), "{text}");
        }
        assert_eq!(PathElement::parse("z:anything"), Ok(None));
    }

    #[test]
    fn an_element_prints_as_in_a_conflict() {
        let shown = |text| PathElement::parse(text).unwrap().unwrap().to_string();
        assert_eq!(shown("f:spec"), ".spec");
        assert_eq!(shown(r#"k:{"port":80,"protocol":"TCP"}"#), r#"[port=80,protocol="TCP"]"#);
        assert_eq!(shown(r#"v:"x""#), r#"[="x"]"#);
        assert_eq!(shown("i:7"), "[7]");
    }

    #[test]
    fn ports_are_ordered_as_numbers() {
        let element = |text| PathElement::parse(text).unwrap().unwrap();
        let sorted = [
            "f:z",
            r#"k:{"port":9}"#,
            r#"k:{"port":80}"#,
            r#"k:{"port":80,"x":1}"#,
            "v:2",
            "v:10",
            r#"v:"a""#,
            "i:0",
        ];
        for pair in sorted.windows(2) {
            assert!(element(pair[0]) < element(pair[1]), "{pair:?}");
        }
        assert_eq!(element("v:1"), element("v:1.0"));
    }
}
