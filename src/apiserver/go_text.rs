//! Values as kube-apiserver writes them into its messages, which is how Go prints them.

use std::fmt::Write as _;

use serde_json::Value;

/// A value of any kind: texts quoted, numbers as [`float`] says, the rest as JSON.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
