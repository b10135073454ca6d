#![doc = include_str!("../README.md")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// A label selector: an object must meet every requirement. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// The requirements, in the order of the text.
    pub requirements: Vec<Requirement>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the label, with its prefix if there is one.
    pub key: String,
    /// The requirement on the label's value.
    pub operator: Operator,
}

/// A requirement on a label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `a=b`: present with this value.
    Equals(String),
    /// `a!=b`: absent, or present with another value.
    NotEquals(String),
    /// `a in (b,c)`: present with one of these values.
    In(BTreeSet<String>),
    /// `a notin (b,c)`: absent, or present with none of these values.
    NotIn(BTreeSet<String>),
    /// `a`: present.
    Exists,
    /// `!a`: absent.
    DoesNotExist,
    /// `a>1`: present with a whole number above this one.
    GreaterThan(i64),
    /// `a<1`: present with a whole number below this one.
    LessThan(i64),
}

/// Error: a text is not a valid label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid label selector {text:?}: at character {position}: {problem}")]
pub struct SelectorError {
    /// The whole text.
    pub text: String,
    /// Position of the error, in characters from 1. If the text ends too early, the last position plus one.
    pub position: usize,
    /// The problem at that position.
    pub problem: String,
}

impl SelectorError {
    /// Returns position and problem without the text, for messages that already show the text.
    #[must_use]
    pub fn detail(&self) -> String {
        format!("at character {}: {}", self.position, self.problem)
    }
}

impl LabelSelector {
    /// Returns true if the selector selects an object with these labels.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(|key| labels.get(key).map(String::as_str))
    }

    /// Returns true if the selector selects an object. `label` returns the value of a label by its name.
    #[must_use]
    pub fn matches_by<'v>(&self, label: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }
}

impl Requirement {
    /// Returns true if an object meets this requirement. `value` is the value of the object's label, if
    /// present.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::Equals(wanted) => value == Some(wanted.as_str()),
            Operator::NotEquals(refused) => value != Some(refused.as_str()),
            Operator::In(wanted) => value.is_some_and(|value| wanted.contains(value)),
            Operator::NotIn(refused) => !value.is_some_and(|value| refused.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, requirement) in self.requirements.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::Equals(value) => write!(f, "{key}={value}"),
            Operator::NotEquals(value) => write!(f, "{key}!={value}"),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { text, tokens: tokens(text), next: 0 };
        let mut requirements = Vec::new();
        if parser.peek() == Token::End {
            return Ok(Self { requirements });
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.take() {
                (Token::End, _) => return Ok(Self { requirements }),
                (Token::Symbol(","), _) => {}
                (found, at) => return Err(parser.expected("`,` or the end", found, at)),
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Symbol(&'static str),
    End,
}

/// Longest first, so that `==` is not read as two `=`.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// Returns the words and symbols of `text`, each with its byte offset, followed by [`Token::End`].
fn tokens(text: &str) -> Vec<(Token<'_>, usize)> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if is_blank(c) {
            at += c.len_utf8();
        } else if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            tokens.push((Token::Symbol(symbol), at));
            at += symbol.len();
        } else {
            let ends = |c: char| is_blank(c) || "=!(),><".contains(c);
            let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
            tokens.push((Token::Word(word), at));
            at += word.len();
        }
    }
    tokens.push((Token::End, text.len()));
    tokens
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<(Token<'t>, usize)>,
    next: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Token<'t> {
        self.tokens.get(self.next).map_or(Token::End, |(token, _)| *token)
    }

    fn take(&mut self) -> (Token<'t>, usize) {
        let taken = self.tokens.get(self.next).copied().unwrap_or((Token::End, self.text.len()));
        self.next += 1;
        taken
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.take();
        }
        let key = match self.take() {
            (Token::Word(word), at) => self.checked(word, at, key_problem(word))?,
            (found, at) if absent => return Err(self.expected("a label name after `!`", found, at)),
            (found, at) => return Err(self.expected("a label name or `!`", found, at)),
        };
        let operator = if absent { Operator::DoesNotExist } else { self.operator()? };
        Ok(Requirement { key, operator })
    }

    fn operator(&mut self) -> Result<Operator, SelectorError> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Operator::Exists);
        }
        match self.take() {
            (Token::Symbol("=" | "=="), _) => Ok(Operator::Equals(self.value()?)),
            (Token::Symbol("!="), _) => Ok(Operator::NotEquals(self.value()?)),
            (Token::Symbol(">"), _) => Ok(Operator::GreaterThan(self.bound()?)),
            (Token::Symbol("<"), _) => Ok(Operator::LessThan(self.bound()?)),
            (Token::Word("in"), _) => Ok(Operator::In(self.values()?)),
            (Token::Word("notin"), _) => Ok(Operator::NotIn(self.values()?)),
            (found, at) => Err(self.expected(
                "one of `=`, `==`, `!=`, `in`, `notin`, `>`, `<`, `,` or the end",
                found,
                at,
            )),
        }
    }

    /// Parses one value, which may be empty.
    fn value(&mut self) -> Result<String, SelectorError> {
        let Token::Word(word) = self.peek() else {
            return Ok(String::new());
        };
        let (_, at) = self.take();
        self.checked(word, at, value_problem(word))
    }

    /// Parses `(x,y)`. As in Kubernetes, a missing value, also in `()`, means the empty value.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        match self.take() {
            (Token::Symbol("("), _) => {}
            (found, at) => return Err(self.expected("`(`", found, at)),
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.value()?);
            match self.take() {
                (Token::Symbol(")"), _) => return Ok(values),
                (Token::Symbol(","), _) => {}
                (found, at) => return Err(self.expected("`,` or `)`", found, at)),
            }
        }
    }

    fn bound(&mut self) -> Result<i64, SelectorError> {
        match self.take() {
            (Token::Word(word), at) => {
                word.parse().map_err(|_| self.error(at, format!("expected a whole number, found `{word}`")))
            }
            (found, at) => Err(self.expected("a whole number", found, at)),
        }
    }

    fn checked(&self, word: &str, at: usize, problem: Option<String>) -> Result<String, SelectorError> {
        match problem {
            None => Ok(word.to_owned()),
            Some(problem) => Err(self.error(at, problem)),
        }
    }

    fn expected(&self, what: &str, found: Token<'_>, at: usize) -> SelectorError {
        let found = match found {
            Token::Word(text) | Token::Symbol(text) => format!("`{text}`"),
            Token::End => "the end".to_owned(),
        };
        self.error(at, format!("expected {what}, found {found}"))
    }

    fn error(&self, at: usize, problem: String) -> SelectorError {
        let position = self.text[..at].chars().count() + 1;
        SelectorError { text: self.text.to_owned(), position, problem }
    }
}

/// Returns true if a text is a DNS-1123 subdomain. The whole text is limited to 253 characters; its labels
/// have no further limit.
fn is_dns_subdomain(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(inner)
            && bytes.last().is_some_and(inner)
            && bytes.iter().all(|byte| inner(byte) || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

const NAME: &str =
    "letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit, at most 63 characters";

fn key_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        return Some(format!(
            "`{key}` is not a label name: expected a lower-case DNS name before `/`, at most 253 characters"
        ));
    }
    (!is_name(name)).then(|| format!("`{key}` is not a label name: expected {NAME}"))
}

fn value_problem(value: &str) -> Option<String> {
    (!is_name(value)).then(|| format!("`{value}` is not a label value: expected {NAME}, or nothing"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> LabelSelector {
        text.parse().unwrap()
    }

    fn selects(text: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        parse(text).matches(&labels)
    }

    #[test]
    fn c2_full_selector_syntax_is_read() {
        let selector = parse(" a=b, c==d,e != f ,g in (x, y),h notin(z),i,!j,k>1,l<-2,example.com/m= ");
        assert_eq!(selector.to_string(), "a=b,c=d,e!=f,g in (x,y),h notin (z),i,!j,k>1,l<-2,example.com/m=");
        assert_eq!(parse(&selector.to_string()), selector);
        assert_eq!(parse(" \t "), LabelSelector::default());
        assert_eq!(parse("in in (in,notin)").to_string(), "in in (in,notin)");
        assert_eq!(parse("a in (),b in (,x)").to_string(), "a in (),b in (,x)");
    }

    #[test]
    fn c2_selection_follows_kubernetes() {
        let labels = &[("a", "b"), ("n", "5"), ("empty", "")];
        for text in [
            "",
            "a",
            "a=b",
            "a==b",
            "a in (b,c)",
            "a notin (c)",
            "a!=c",
            "!z",
            "z!=b",
            "z notin (b)",
            "n>4",
            "n<6",
            "empty=",
            "empty in ()",
            "a=b,n=5,!z",
            "empty",
        ] {
            assert!(selects(text, labels), "{text}");
        }
        for text in [
            "z",
            "!a",
            "a=c",
            "a!=b",
            "a in (c)",
            "a notin (b)",
            "z=b",
            "z in (b)",
            "n>5",
            "n<5",
            "a>1",
            "z<1",
            "a=b,z",
        ] {
            assert!(!selects(text, labels), "{text}");
        }
    }

    #[test]
    fn c2_bad_selector_is_refused_with_text_and_position() {
        let error = "a in (x".parse::<LabelSelector>().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"invalid label selector "a in (x": at character 8: expected `,` or `)`, found the end"#
        );
        for (text, position) in [
            ("a,", 3),
            (",a", 1),
            ("a b", 3),
            ("!a=b", 3),
            ("a in x", 6),
            ("ä,b", 1),
            ("a=ä", 3),
            ("a=b c", 5),
            ("a>x", 3),
            ("a>", 3),
            ("!", 2),
            ("=b", 1),
            ("/a", 1),
            ("A.b/c", 1),
            ("a/b/c", 1),
            ("a=b,-c", 5),
            ("a=(", 3),
            ("a===b", 4),
        ] {
            assert_eq!(text.parse::<LabelSelector>().unwrap_err().position, position, "{text}");
        }
    }

    #[test]
    fn c2_lengths_are_limited_as_in_kubernetes() {
        let ok = |text: &str| text.parse::<LabelSelector>().is_ok();
        let n = |length: usize| "n".repeat(length);
        assert!(ok(&n(63)) && !ok(&n(64)));
        assert!(ok(&format!("a={}", n(63))) && !ok(&format!("a={}", n(64))));
        assert!(ok(&format!("{}/a", n(253))) && !ok(&format!("{}/a", n(254))));
    }

    fn key() -> impl Strategy<Value = String> {
        "([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\\.[a-z]{1,5})?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9])?"
    }

    fn value() -> impl Strategy<Value = String> {
        "([A-Za-z0-9]([A-Za-z0-9_.-]{0,10}[A-Za-z0-9])?)?"
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let values = || prop::collection::btree_set(value(), 1..4);
        let operator = prop_oneof![
            value().prop_map(Operator::Equals),
            value().prop_map(Operator::NotEquals),
            values().prop_map(Operator::In),
            values().prop_map(Operator::NotIn),
            Just(Operator::Exists),
            Just(Operator::DoesNotExist),
            any::<i64>().prop_map(Operator::GreaterThan),
            any::<i64>().prop_map(Operator::LessThan),
        ];
        (key(), operator).prop_map(|(key, operator)| Requirement { key, operator })
    }

    proptest! {
        #[test]
        fn c2_what_is_printed_parses_to_the_same(requirements in prop::collection::vec(requirement(), 0..5)) {
            let selector = LabelSelector { requirements };
            prop_assert_eq!(parse(&selector.to_string()), selector);
        }

        #[test]
        fn c2_parser_never_panics(text in ".*") {
            let _ = text.parse::<LabelSelector>();
        }

        #[test]
        fn c2_parser_never_panics_on_near_misses(text in "[ab!=<>(), /inotä-]{0,30}") {
            if let Ok(selector) = text.parse::<LabelSelector>() {
                prop_assert_eq!(parse(&selector.to_string()), selector);
            }
        }
    }
}
