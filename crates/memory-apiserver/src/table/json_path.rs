//! The paths of printer columns: `.status.phase`, `.metadata.labels.a\.b/c`, `['key']`, `[0]`, `[-1:]`, `[*]`,
//! `[?(@.type=="Ready")].status`.
//!
//! A subset of the syntax of kube-apiserver, with its behaviour: a quoted key is a path, too, so that dots in it need a
//! backslash; comparing values of different types fails the whole path. Not supported: `..` and `['a','b']`.

use std::cmp::Ordering;
use std::str::FromStr;

use serde_json::{Value, json};

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// All fields or items.
    Wildcard,
    Slice(Slice),
    /// The items that meet the condition.
    Filter(Condition),
}

/// A range of the items of a list. Negative indexes count from the end.
#[derive(Clone, Debug, PartialEq, Default)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    /// Whether the range is only the item at `start`.
    single: bool,
    step: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Exists(JsonPath),
    Compares(JsonPath, Comparison, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(JsonPath),
}

/// A text is not a path, or not a supported path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized JSON path {path:?}: {problem}")]
pub(crate) struct JsonPathError {
    path: String,
    problem: &'static str,
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        parse(text).map_err(|problem| JsonPathError { path: text.to_owned(), problem })
    }
}

type Parsed<T> = Result<T, &'static str>;

fn parse(text: &str) -> Parsed<JsonPath> {
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = if let Some(after) = rest.strip_prefix("[?(") {
            filter(after, &mut steps)?
        } else if rest.starts_with("..") {
            return Err("recursive descent is not supported");
        } else {
            let after = &rest[first.len_utf8()..];
            match first {
                ' ' | '@' | '$' => after,
                '.' => field(after, &mut steps),
                '[' => brackets(after, &mut steps)?,
                _ => return Err("unexpected character"),
            }
        };
    }
    Ok(JsonPath { steps })
}

/// Reads the name of a field, in which a backslash escapes the next character. Returns the rest.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> &'t str {
    let mut escaped = false;
    let ends = |c: char| {
        let ends = !escaped && " \t\r\n.,[]$@{}".contains(c);
        escaped = !escaped && c == '\\';
        ends
    };
    let (name, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name.replace('\\', "")) });
    rest
}

/// Reads a step in brackets. Returns the rest.
fn brackets<'t>(text: &'t str, steps: &mut Vec<Step>) -> Parsed<&'t str> {
    let (inner, rest) = text.split_once(']').ok_or("a bracket is not closed")?;
    let quoted = inner.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
    match quoted {
        Some(key) if !key.contains('\'') && !key.contains(',') => {
            steps.extend(parse(&format!(".{key}"))?.steps);
        }
        _ if inner == "*" => steps.push(Step::Slice(Slice::default())),
        _ => steps.push(Step::Slice(slice(inner)?)),
    }
    Ok(rest)
}

fn slice(text: &str) -> Parsed<Slice> {
    let mut numbers = [None; 3];
    let mut count = 0;
    for part in text.split(':') {
        let number = numbers.get_mut(count).ok_or("not an index")?;
        if !part.is_empty() {
            let digits = part.strip_prefix('-').unwrap_or(part);
            let all_digits = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            *number = Some(part.parse().ok().filter(|_| all_digits).ok_or("not an index")?);
        }
        count += 1;
    }
    let [start, end, step] = numbers;
    Ok(Slice { start, end, single: count == 1, step })
}

/// Reads a condition up to `)]`. Returns the rest.
fn filter<'t>(text: &'t str, steps: &mut Vec<Step>) -> Parsed<&'t str> {
    let end = end_of_condition(text).ok_or("a filter is not closed")?;
    let (condition, rest) = text.split_at(end);
    let rest = rest.strip_prefix(")]").ok_or("a filter is not closed")?;
    let is_operator = |c: char| "!<>=".contains(c);
    let condition = match condition.find(is_operator) {
        None | Some(0) => Condition::Exists(parse(condition)?),
        Some(at) => {
            let (left, operation) = condition.split_at(at);
            let right = operation.trim_start_matches(is_operator);
            let operator = &operation[..operation.len() - right.len()];
            Condition::Compares(parse(left)?, comparison(operator)?, operand(right.trim())?)
        }
    };
    steps.push(Step::Filter(condition));
    Ok(rest)
}

/// The position of the closing parenthesis that is not in quotes.
fn end_of_condition(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ')') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = !escaped && c == '\\';
    }
    None
}

fn comparison(operator: &str) -> Parsed<Comparison> {
    match operator {
        "==" => Ok(Comparison::Equal),
        "!=" => Ok(Comparison::NotEqual),
        "<" => Ok(Comparison::Less),
        "<=" => Ok(Comparison::LessOrEqual),
        ">" => Ok(Comparison::Greater),
        ">=" => Ok(Comparison::GreaterOrEqual),
        _ => Err("unrecognized operator"),
    }
}

fn operand(text: &str) -> Parsed<Operand> {
    let literal = |value: Value| Ok(Operand::Literal(value));
    match text.chars().next() {
        Some(quote @ ('"' | '\'')) => literal(unquote(&text[1..], quote)?.into()),
        Some('@' | '$' | '.') => parse(text).map(Operand::Path),
        _ if text == "true" || text == "false" => literal(json!(text == "true")),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => literal(whole.into()),
            (_, Ok(float)) if text.bytes().all(|c| b"+-.0123456789".contains(&c)) => literal(float.into()),
            _ => Err("not a value to compare with"),
        },
    }
}

/// The text before the closing quote, which must be the last character.
fn unquote(text: &str, quote: char) -> Parsed<String> {
    let mut unquoted = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => unquoted.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(escaped @ ('\\' | '"' | '\'')) => escaped,
                _ => return Err("unrecognized escape"),
            }),
            _ if c == quote && chars.as_str().is_empty() => return Ok(unquoted),
            _ if c == quote => break,
            _ => unquoted.push(c),
        }
    }
    Err("a quote is not closed, or more follows it")
}

impl JsonPath {
    /// All values at the path, in order. `None` if the path does not fit the value, for instance because an index is
    /// out of bounds. An absent field fits.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Option<Vec<&'v Value>> {
        self.steps.iter().try_fold(vec![value], |found, step| step.take(&found))
    }

    /// The first value at the path.
    pub(crate) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value)?.first().copied()
    }
}

impl Step {
    fn take<'v>(&self, values: &[&'v Value]) -> Option<Vec<&'v Value>> {
        let mut found = Vec::new();
        for value in values {
            match (self, value) {
                (Self::Field(name), Value::Object(fields)) => found.extend(fields.get(name)),
                (Self::Wildcard, Value::Object(fields)) => found.extend(fields.values()),
                (Self::Wildcard, Value::Array(items)) => found.extend(items),
                (Self::Field(_) | Self::Wildcard, _) | (Self::Slice(_), Value::Null) => {}
                (Self::Slice(slice), Value::Array(items)) => found.extend(slice.of(items)?),
                (Self::Filter(condition), Value::Array(items)) => {
                    for item in items {
                        if condition.holds(item)? {
                            found.push(item);
                        }
                    }
                }
                (Self::Slice(_) | Self::Filter(_), _) => return None,
            }
        }
        Some(found)
    }
}

impl Slice {
    /// `None` if it is out of bounds.
    fn of<'v>(&self, items: &'v [Value]) -> Option<impl Iterator<Item = &'v Value>> {
        let length = i64::try_from(items.len()).ok()?;
        let from_end = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        let start = from_end(self.start.unwrap_or(0));
        let end = if self.single { start.saturating_add(1) } else { from_end(self.end.unwrap_or(length)) };
        let part = if start == end { &[] } else { items.get(index(start)?..index(end)?)? };
        let step = self.step.map_or(Some(1), index).filter(|step| *step > 0 || part.is_empty())?;
        Some(part.iter().step_by(step.max(1)))
    }
}

fn index(number: i64) -> Option<usize> {
    usize::try_from(number).ok()
}

impl Condition {
    /// `None` if the values cannot be compared.
    fn holds(&self, item: &Value) -> Option<bool> {
        let (path, comparison, operand) = match self {
            Self::Exists(path) => return Some(path.first(item).is_some()),
            Self::Compares(path, comparison, operand) => (path, comparison, operand),
        };
        let left = path.find(item)?;
        let right = match operand {
            Operand::Literal(value) => vec![value],
            Operand::Path(path) => path.find(item)?,
        };
        match (&left[..], &right[..]) {
            ([], _) | (_, []) => Some(false),
            ([left], [right]) => comparison.holds(left, right),
            _ => None,
        }
    }
}

impl Comparison {
    fn holds(self, left: &Value, right: &Value) -> Option<bool> {
        let ordering = match (left, right) {
            (Value::Bool(left), Value::Bool(right)) => {
                let equal = left == right;
                return match self {
                    Self::Equal => Some(equal),
                    Self::NotEqual => Some(!equal),
                    _ => None,
                };
            }
            (Value::String(left), Value::String(right)) => left.cmp(right),
            (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
                (Some(left), Some(right)) => left.cmp(&right),
                (None, None) => left.as_f64()?.partial_cmp(&right.as_f64()?)?,
                _ => return None,
            },
            _ => return None,
        };
        Some(match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::NotEqual => ordering != Ordering::Equal,
            Self::Less => ordering == Ordering::Less,
            Self::LessOrEqual => ordering != Ordering::Greater,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str, value: &Value) -> Option<Value> {
        let found = path.parse::<JsonPath>().unwrap().find(value)?;
        Some(found.into_iter().cloned().collect())
    }

    #[test]
    fn paths_lead_to_fields_and_items() {
        let value = json!({
            "metadata": {"labels": {"fleet.test/claimed": "true", "a b": 1}},
            "l": [{"n": "a"}, {"n": "b", "m": null}, {}], "m": {"x": 1, "y": [2]}, "": "empty",
        });
        let cases = [
            (r".metadata.labels.fleet\.test/claimed", json!(["true"])),
            (r".metadata.labels['fleet\.test/claimed']", json!(["true"])),
            (".metadata.labels['fleet.test/claimed']", json!([])),
            (r".metadata.labels.a\ b", json!([1])),
            ("$.l[0].n", json!(["a"])),
            (".l[*].n", json!(["a", "b"])),
            (".l[1].m", json!([null])),
            (".l[1].m.deeper[0]", json!([])),
            (".l[-1]", json!([{}])),
            (".l[-2:].n", json!(["b"])),
            (".l[0:2].n", json!(["a", "b"])),
            (".l[::2].n", json!(["a"])),
            (".l[1:1]", json!([])),
            (".m.*", json!([1, [2]])),
            (".none.of.these[3]", json!([])),
            (".", json!(["empty"])),
            ("", json!([value.clone()])),
        ];
        for (path, expected) in cases {
            assert_eq!(found(path, &value), Some(expected), "{path}");
        }
    }

    #[test]
    fn paths_that_do_not_fit_lead_nowhere() {
        let value = json!({"l": [1, 2], "m": {"x": 1}, "t": "text"});
        for path in [".l[2]", ".l[-3]", ".l[1:0]", ".l[0:3]", ".l[::0]", ".m[0]", ".t[*]", ".m[?(@.x)]"] {
            assert_eq!(found(path, &value), None, "{path}");
        }
    }

    #[test]
    fn filters_keep_the_items_for_which_they_hold() {
        let value = json!({"l": [
            {"t": "x", "i": 1, "f": 1.5, "b": true, "n": "a", "same": "x"},
            {"t": "y", "i": 2, "f": 2.5, "b": false, "n": "b", "z": null, "same": "x"},
        ]});
        let cases = [
            (r#".l[?(@.t=="x")].n"#, json!(["a"])),
            (".l[?(@.t=='y')].n", json!(["b"])),
            (".l[?( @.t == 'y' )].n", json!(["b"])),
            (".l[?(@.t!=')')].n", json!(["a", "b"])),
            (r".l[?(@.t!='\'\\')].n", json!(["a", "b"])),
            (".l[?(@.i>1)].n", json!(["b"])),
            (".l[?(@.i>=1)].n", json!(["a", "b"])),
            (".l[?(@.i<2)].n", json!(["a"])),
            (".l[?(@.f<=1.5)].n", json!(["a"])),
            (".l[?(@.b==true)].n", json!(["a"])),
            (".l[?(@.z)].n", json!(["b"])),
            (".l[?(@.t==@.same)].n", json!(["a"])),
            (".l[?(@.none=='x')].n", json!([])),
        ];
        for (path, expected) in cases {
            assert_eq!(found(path, &value), Some(expected), "{path}");
        }
        for path in [".l[?(@.i=='1')]", ".l[?(@.f>1)]", ".l[?(@.b<true)]", ".l[?(@.z==1)]", ".l[?(@.*=='x')]"]
        {
            assert_eq!(found(path, &value), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_an_error() {
        let paths = [
            "a",
            ".a b",
            ".a,b",
            ".a{b}",
            "..a",
            ".a[",
            ".a[x]",
            ".a[1:2:3:4]",
            ".a[-]",
            ".a[+1]",
            ".a['b','c']",
            ".a[?(@.b]",
            ".a[?(@.b)",
            ".a[?(@.b=1)]",
            ".a[?(@.b==)]",
            ".a[?(@.b=='x'y)]",
            ".a[?(@.b==inf)]",
            ".a[99999999999999999999]",
            "\n",
        ];
        for path in paths {
            assert!(path.parse::<JsonPath>().is_err(), "{path}");
        }
        let error = "..a".parse::<JsonPath>().unwrap_err();
        assert_eq!(error.to_string(), r#"unrecognized JSON path "..a": recursive descent is not supported"#);
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_an_error(text in r#"([.\[\]?(@)'"=<>!*:\\a0-9 -]|\[\?\(@\.){0,16}"#) {
            if let Ok(path) = text.parse::<JsonPath>() {
                path.find(&json!({"a": [{"a": [1, 2]}, {"a": "0"}], "0": null}));
            }
        }
    }
}
