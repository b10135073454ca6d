//! How Go prints JSON values: what kube-apiserver shows in its errors and in the cells of tables is made so.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// As messages show a value: texts quoted, numbers as [`float`] says, the rest as JSON.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A text between quotation marks.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        push_escaped(&mut quoted, char);
    }
    quoted.push('"');
    quoted
}

fn push_escaped(text: &mut String, char: char) {
    let code = u32::from(char);
    let written = match char {
        '"' | '\\' => write!(text, "\\{char}"),
        '\u{7}' => write!(text, "\\a"),
        '\u{8}' => write!(text, "\\b"),
        '\u{b}' => write!(text, "\\v"),
        '\u{c}' => write!(text, "\\f"),
        '\n' => write!(text, "\\n"),
        '\r' => write!(text, "\\r"),
        '\t' => write!(text, "\\t"),
        ' ' => write!(text, " "),
        _ if code < 0x20 || code == 0x7f => write!(text, "\\x{code:02x}"),
        _ if !char.is_control() && !char.is_whitespace() => write!(text, "{char}"),
        _ if code <= 0xffff => write!(text, "\\u{code:04x}"),
        _ => write!(text, "\\U{code:08x}"),
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
}

/// A number as it is, with an exponent where its shortest form would need many zeros.
pub(crate) fn float(number: f64) -> String {
    let scientific = format!("{number:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(-4..=5) => number.to_string(),
        Ok(exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
        Err(_) => scientific,
    }
}

/// As `%v` prints it: `map[a:1 b:[x y]]`, texts without quotes.
pub(crate) fn go_text(value: &Value) -> String {
    let mut text = String::new();
    print(&mut text, value);
    text
}

/// As `%v` prints `[a b]`.
pub(crate) fn go_list(items: &[Value]) -> String {
    let texts: Vec<_> = items.iter().map(go_text).collect();
    format!("[{}]", texts.join(" "))
}

fn print(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&go_number(number)),
        Value::String(string) => text.push_str(string),
        Value::Array(items) => {
            let parts = items.iter().map(|item| ("", item));
            write_all(text, "[", parts);
        }
        Value::Object(fields) => {
            let parts = fields.iter().map(|(name, field)| (name.as_str(), field));
            write_all(text, "map[", parts);
        }
    }
}

fn write_all<'a>(text: &mut String, open: &str, parts: impl Iterator<Item = (&'a str, &'a Value)>) {
    text.push_str(open);
    for (position, (name, value)) in parts.enumerate() {
        if position > 0 {
            text.push(' ');
        }
        if open != "[" {
            text.push_str(name);
            text.push(':');
        }
        print(text, value);
    }
    text.push(']');
}

/// Whole numbers in full; others as [`float`] says.
pub(crate) fn go_number(number: &Number) -> String {
    match number.as_i64() {
        Some(whole) => whole.to_string(),
        None => float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The name of the Go type that a JSON value is decoded to.
pub(crate) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// What Go's JSON decoder calls a value that is not what was wanted.
pub(crate) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_have_an_exponent_when_they_are_large_or_small() {
        let cases = [
            (json!(5.0), "5"),
            (json!(-2.5), "-2.5"),
            (json!(123_456.789), "123456.789"),
            (json!(1_000_000), "1000000"),
            (json!(1_000_000.0), "1e+06"),
            (json!(12_345_678.5), "1.23456785e+07"),
            (json!(1e100), "1e+100"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
            (json!(u64::MAX), "1.8446744073709552e+19"),
        ];
        for (number, text) in cases {
            assert_eq!(go_text(&number), text);
        }
    }

    #[test]
    fn collections_are_printed_in_the_order_of_their_keys() {
        let value = json!({"b": ["x", null, 1.5, true, []], "a": {"c": ""}, "d": {}});
        assert_eq!(go_text(&value), "map[a:map[c:] b:[x <nil> 1.5 true []] d:map[]]");
    }

    #[test]
    fn numbers_get_an_exponent_as_go_gives_it() {
        let cases = [
            (0.0, "0"),
            (100.5, "100.5"),
            (123_456.0, "123456"),
            (1_000_001.5, "1.0000015e+06"),
            (1e6, "1e+06"),
            (1e300, "1e+300"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (-1.5, "-1.5"),
        ];
        for (number, expected) in cases {
            assert_eq!(float(number), expected);
        }
        assert_eq!(value(&json!(1_000_001)), "1000001", "whole numbers have none");
    }

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        assert_eq!(quoted("a\"b\\\n\u{7}\u{1}é\u{a0}"), r#""a\"b\\\n\a\x01é\u00a0""#);
        assert_eq!(value(&json!({"a": [1, "b"]})), r#"{"a":[1,"b"]}"#);
    }
}
