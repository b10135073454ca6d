//! How Go prints a JSON value: what kube-apiserver shows in some errors and in the cells of tables is made so.

use serde_json::{Number, Value};

/// As `%v` prints it: `map[a:1 b:[x y]]`, texts without quotes.
pub(crate) fn go_text(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

/// As `%v` prints `[a b]`.
pub(crate) fn go_list(items: &[Value]) -> String {
    let texts: Vec<_> = items.iter().map(go_text).collect();
    format!("[{}]", texts.join(" "))
}

fn write(text: &mut String, value: &Value) {
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
        write(text, value);
    }
    text.push(']');
}

/// Whole numbers in full; others with as few digits as tell them apart, and with an exponent unless they lie between
/// a ten-thousandth and a million.
pub(crate) fn go_number(number: &Number) -> String {
    if let Some(whole) = number.as_i64() {
        return whole.to_string();
    }
    let float = number.as_f64().unwrap_or(f64::NAN);
    let scientific = format!("{float:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
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
}
