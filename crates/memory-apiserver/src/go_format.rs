//! How Go prints values, for messages that clients compare and for the cells of tables.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// A value as messages show it: as JSON, but texts as [`quoted`] and numbers as [`float`] say.
pub(crate) fn value(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Number(number) if number.is_f64() => float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A text between quotation marks, with the escapes of Go.
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

/// A number with an exponent where its shortest form would need many zeros.
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

/// Whole numbers in full, others as [`float`] says.
pub(crate) fn number(number: &Number) -> String {
    match number.as_i64() {
        Some(whole) => whole.to_string(),
        None => float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// The name that Go's JSON decoder has for the type of a value.
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
        for (shown, text) in [
            (json!(5.0), "5"),
            (json!(-2.5), "-2.5"),
            (json!(123_456.789), "123456.789"),
            (json!(1_000_000.0), "1e+06"),
            (json!(12_345_678.5), "1.23456785e+07"),
            (json!(1e100), "1e+100"),
            (json!(0.0001), "0.0001"),
            (json!(0.00001), "1e-05"),
        ] {
            assert_eq!(value(&shown), text);
        }
        assert_eq!(value(&json!(1_000_001)), "1000001", "whole numbers have none");
        assert_eq!(number(&Number::from(u64::MAX)), "1.8446744073709552e+19");
    }

    #[test]
    fn texts_are_escaped_as_go_escapes_them() {
        assert_eq!(quoted("a\"b\\\n\u{7}\u{1}é\u{a0}"), r#""a\"b\\\n\a\x01é\u00a0""#);
    }
}
