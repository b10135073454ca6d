//! What `format` asks of texts, by the names and rules that kube-apiserver has for them.
//!
//! Formats of numbers (`int32`, `double`) ask for nothing there. Not checked here, and accepted: `bsonobjectid`,
//! `isbn`, `isbn10`, `isbn13`, `creditcard`, `rgbcolor`.

use std::net::Ipv6Addr;

use jiff::civil::Date;

/// Whether a text is of a format.
pub(super) type Check = fn(&str) -> bool;

/// The check of a format, if it is one that is checked. Dashes in its name mean nothing.
pub(super) fn check(format: &str) -> Option<Check> {
    Some(match format.replace('-', "").as_str() {
        "datetime" => is_date_time,
        "date" => is_date,
        "duration" => is_duration,
        "byte" => is_base64,
        "uri" => is_request_uri,
        "email" => is_email,
        "hostname" => is_hostname,
        "ipv4" => is_ipv4,
        "ipv6" => is_ipv6,
        "cidr" => is_cidr,
        "mac" => is_mac,
        "uuid" => is_uuid,
        "uuid3" => |text| is_uuid_of_version(text, b'3'),
        "uuid4" => |text| is_uuid_of_version(text, b'4'),
        "uuid5" => |text| is_uuid_of_version(text, b'5'),
        "ssn" => is_ssn,
        "hexcolor" => is_hex_color,
        "k8sshortname" => |text| text.len() <= 63 && is_dns_label(text),
        "k8slongname" => |text| text.len() <= 253 && text.split('.').all(is_dns_label),
        _ => return None,
    })
}

/// `digits` that are numbers in the beginning of a text, and what comes after them.
fn number(text: &str, digits: usize) -> Option<(i16, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let is_number = number.bytes().all(|digit| digit.is_ascii_digit());
    Some((number.parse().ok().filter(|_| is_number)?, rest))
}

fn is_date(text: &str) -> bool {
    let parse = || {
        let (year, rest) = number(text, 4)?;
        let (month, rest) = number(rest.strip_prefix('-')?, 2)?;
        let (day, rest) = number(rest.strip_prefix('-')?, 2)?;
        let (month, day) = (i8::try_from(month).ok()?, i8::try_from(day).ok()?);
        (rest.is_empty() && Date::new(year, month, day).is_ok()).then_some(())
    };
    parse().is_some()
}

fn is_date_time(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut parts = text.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    is_date(date) && is_time(time).is_some()
}

fn is_time(text: &str) -> Option<()> {
    let (hour, rest) = number(text, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = number(rest.strip_prefix(':')?, 2)?;
    let zone = if rest.starts_with(['z', '+', '-']) {
        rest
    } else {
        // Whatever comes before the digits of a fraction.
        let mut fraction = rest.chars();
        fraction.next()?;
        let zone = fraction.as_str().trim_start_matches(|char: char| char.is_ascii_digit());
        (zone.len() < fraction.as_str().len()).then_some(zone)?
    };
    let is_zone = zone == "z" || {
        let (_, rest) = number(zone.strip_prefix(['+', '-'])?, 2)?;
        number(rest.strip_prefix(':')?, 2)?.1.is_empty()
    };
    (is_zone && hour <= 23 && minute <= 59 && second <= 59).then_some(())
}

/// What Go parses as a duration, or else anything in which a whole number has a unit of time.
fn is_duration(text: &str) -> bool {
    is_go_duration(text).is_some() || has_number_with_unit(text)
}

/// Whether Go parses a text as a duration.
pub(super) fn is_go_duration(text: &str) -> Option<()> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(());
    }
    rest.chars().next()?;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
        let number = &rest[..rest.len() - after.len()];
        let is_number = number.matches('.').count() <= 1 && number.bytes().any(|byte| byte != b'.');
        let end = after.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(after.len());
        let is_unit = matches!(&after[..end], "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h");
        (is_number && is_unit).then_some(())?;
        rest = &after[end..];
    }
    Some(())
}

fn has_number_with_unit(text: &str) -> bool {
    const SHORT: [&str; 12] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk", "min"];
    const BEGINNINGS: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let is_unit = |unit: &str| {
        let unit = unit.to_lowercase();
        SHORT.contains(&unit.as_str()) || BEGINNINGS.iter().any(|beginning| unit.starts_with(beginning))
    };
    text.match_indices(|char: char| char.is_ascii_digit()).any(|(at, _)| {
        let unit = text[at + 1..].trim_start();
        let end = unit.find(|char: char| !char.is_ascii_alphabetic() && char != 'µ');
        is_unit(&unit[..end.unwrap_or(unit.len())])
    })
}

fn is_base64(text: &str) -> bool {
    let data = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    !data.is_empty() && text.len().is_multiple_of(4) && data.bytes().all(is_digit)
}

/// An absolute URI, or an absolute path.
fn is_request_uri(text: &str) -> bool {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) || !is_percent_encoded(text) {
        return false;
    }
    let is_in_scheme = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.');
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if scheme.starts_with(|char: char| char.is_ascii_alphabetic()) => {
            if scheme.chars().all(is_in_scheme) { Some(rest) } else { None }
        }
        _ => None,
    };
    let rest = match rest {
        None if !text.starts_with('/') => return false,
        None => return true,
        Some(rest) => rest,
    };
    let Some(authority) = rest.strip_prefix("//") else { return true };
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit(']').next().unwrap_or_default().split_once(':').map_or("", |(_, port)| port);
    !host.contains(' ') && port.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether two hexadecimal digits follow each percent sign.
fn is_percent_encoded(text: &str) -> bool {
    text.match_indices('%').all(|(at, _)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// `a@b`, or `A name <a@b>`.
fn is_email(text: &str) -> bool {
    let address = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let is_atom = |text: &str| {
        let is_in_atom = |char: char| {
            char.is_ascii_alphanumeric() || !char.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(char)
        };
        text.split('.').all(|part| !part.is_empty() && part.chars().all(is_in_atom))
    };
    address.rsplit_once('@').is_some_and(|(user, domain)| is_atom(user) && is_atom(domain))
}

/// One label, or several of which the last is a top-level domain.
fn is_hostname(text: &str) -> bool {
    let is_char = |char: char| {
        char.is_ascii_alphanumeric()
            || "$+<=>^`|~".contains(char)
            || (!char.is_ascii() && !char.is_control() && !char.is_whitespace() && !char.is_numeric())
    };
    let labels: Vec<_> = text.split('.').collect();
    if text.len() > 255 || labels.iter().any(|label| label.len() > 63) {
        return false;
    }
    if let [label] = labels[..] {
        // A single label has at most one dash, after its first character.
        let mut chars = label.chars();
        let first = chars.next();
        let rest = chars.as_str();
        return first.is_some_and(is_char) && rest.strip_prefix('-').unwrap_or(rest).chars().all(is_char);
    }
    let Some((top, above)) = labels.split_last() else { return false };
    let is_label = |label: &&str| {
        label.starts_with(is_char)
            && label.ends_with(is_char)
            && label.chars().all(|char| is_char(char) || char == '-')
    };
    top.chars().count() >= 2 && top.chars().all(char::is_alphabetic) && above.iter().all(is_label)
}

/// Go before 1.17 let numbers begin with zeros, and so do these formats.
fn is_dotted(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let is_byte = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|digit| digit.is_ascii_digit())
            && part.parse().is_ok_and(|number: u32| number <= 255)
    };
    parts.len() == 4 && parts.iter().all(is_byte)
}

fn is_ipv4(text: &str) -> bool {
    is_dotted(text) || (text.contains('.') && is_ipv6(text))
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = if is_dotted(address) { 32 } else { 128 };
    let is_length = length.bytes().all(|digit| digit.is_ascii_digit())
        && length.parse().is_ok_and(|length: u32| length <= most);
    is_length && (most == 32 || is_ipv6(address))
}

/// 6, 8 or 20 bytes, in pairs or in fours of digits.
fn is_mac(text: &str) -> bool {
    let is_of = |separator: char, digits: usize, counts: [usize; 3]| {
        let mut parts = text.split(separator);
        let is_part =
            |part: &str| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        counts.contains(&parts.clone().count()) && parts.all(is_part)
    };
    is_of(':', 2, [6, 8, 20]) || is_of('-', 2, [6, 8, 20]) || is_of('.', 4, [3, 4, 10])
}

/// The digits of a UUID, which may stand with or without each of the dashes.
fn uuid_digits(text: &str) -> Option<Vec<u8>> {
    let mut digits = Vec::with_capacity(32);
    for byte in text.bytes() {
        match byte {
            b'-' if matches!(digits.len(), 8 | 12 | 16 | 20) => {}
            digit if digit.is_ascii_hexdigit() => digits.push(digit.to_ascii_lowercase()),
            _ => return None,
        }
    }
    (digits.len() == 32 && !text.contains("--")).then_some(digits)
}

fn is_uuid(text: &str) -> bool {
    uuid_digits(text).is_some()
}

fn is_uuid_of_version(text: &str, version: u8) -> bool {
    uuid_digits(text).is_some_and(|digits| {
        let is_variant = version == b'3' || matches!(digits[16], b'8' | b'9' | b'a' | b'b');
        digits[12] == version && is_variant
    })
}

fn is_ssn(text: &str) -> bool {
    let parse = || {
        let (_, rest) = number(text, 3)?;
        let (_, rest) = number(rest.strip_prefix(['-', ' ']).unwrap_or(rest), 2)?;
        let (_, rest) = number(rest.strip_prefix(['-', ' ']).unwrap_or(rest), 4)?;
        rest.is_empty().then_some(())
    };
    parse().is_some()
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn is_dns_label(text: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|byte| is_alphanumeric(*byte))
        && bytes.last().is_some_and(|byte| is_alphanumeric(*byte))
        && bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
}
