//! Reads Kubernetes quantities, and compares them by value: `1`, `1000m` and `1e0` are equal (LS8).

/// Returns true if both texts are the same quantity. Texts that are no quantities are equal if they are the same text.
pub(crate) fn equal(one: &str, other: &str) -> bool {
    one == other || matches!((nanos(one), nanos(other)), (Some(one), Some(other)) if one == other)
}

/// Returns the value in billionths, which is the precision of Kubernetes. `None` if the text is no quantity, or if its
/// value is beyond the range of the type, which is a billion times that of Kubernetes.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    // Billionths have nine digits after the point.
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let scaled = mantissa.checked_mul(factor)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let value = if exponent < 0 { div_up(scaled, power) } else { scaled.checked_mul(power)? };
    Some(sign * value)
}

/// Kubernetes rounds up what is smaller than a billionth.
fn div_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by != 0)
}

/// Returns the factor and the power of ten of a suffix.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 0));
    match suffix {
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => Some((1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ls8_quantities_are_compared_by_value() {
        for (one, other) in [
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("0.5Gi", "512Mi"),
            ("1Ki", "1024"),
            ("1k", "1e3"),
            ("1E3", "1000"),
            ("1E", "1000P"),
            ("+2", "2.0"),
            (".5", "500m"),
            ("-1", "-1000m"),
            ("0", "0Gi"),
            ("0.0000000001", "1n"),
        ] {
            assert!(equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn ls8_other_values_and_texts_differ() {
        for (one, other) in
            [("1", "2"), ("1G", "1Gi"), ("1", "-1"), ("1", "one"), ("", "0"), ("1x", "1"), ("m", "1m")]
        {
            assert!(!equal(one, other), "{one} {other}");
        }
        assert!(equal("no quantity", "no quantity"));
    }
}
