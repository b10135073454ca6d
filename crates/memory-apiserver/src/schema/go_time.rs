//! Times as the API machinery of Kubernetes reads them, and what Go says of texts that are none.

use jiff::civil::Date;

/// The elements of a time, each with its number of digits (0: it stands for itself) and its limits.
const ELEMENTS: [(&str, usize, i16, i16, &str); 11] = [
    ("2006", 4, 0, 9999, ""),
    ("-", 0, 0, 0, ""),
    ("01", 2, 1, 12, "month"),
    ("-", 0, 0, 0, ""),
    ("02", 2, 1, 31, "day"),
    ("T", 0, 0, 0, ""),
    ("15", 2, 0, 23, "hour"),
    (":", 0, 0, 0, ""),
    ("04", 2, 0, 59, "minute"),
    (":", 0, 0, 0, ""),
    ("05", 2, 0, 59, "second"),
];

/// What is wrong with a time. With microseconds, a fraction of six digits must be there; otherwise one may be.
pub(super) fn error(text: &str, with_microseconds: bool) -> Option<String> {
    let fraction = if with_microseconds { ".000000" } else { "" };
    let layout = format!("2006-01-02T15:04:05{fraction}Z07:00");
    let parsing = format!("parsing time \"{text}\"");
    let unread = |rest: &str, element: &str| {
        format!("{parsing} as \"{layout}\": cannot parse \"{rest}\" as \"{element}\"")
    };
    let mut rest = text;
    let mut read = [0; 11];
    for (index, (element, digits, least, most, name)) in ELEMENTS.into_iter().enumerate() {
        if digits == 0 {
            let Some(after) = rest.strip_prefix(element) else { return Some(unread(rest, element)) };
            rest = after;
            continue;
        }
        let number = rest.get(..digits).filter(|number| number.bytes().all(|digit| digit.is_ascii_digit()));
        let Some(number) = number.and_then(|number| number.parse().ok()) else {
            return Some(unread(rest, element));
        };
        if !(least..=most).contains(&number) {
            return Some(format!("{parsing}: {name} out of range"));
        }
        read[index] = number;
        rest = &rest[digits..];
    }
    let digits = rest
        .strip_prefix('.')
        .map_or(0, |after| after.len() - after.trim_start_matches(|char: char| char.is_ascii_digit()).len());
    match (with_microseconds, digits) {
        (false, 0) => {}
        (false, _) => rest = &rest[digits + 1..],
        (true, 6..) => rest = &rest[7..],
        (true, _) => return Some(unread(rest, fraction)),
    }
    if !is_zone(rest) {
        return Some(unread(rest, "Z07:00"));
    }
    let (month, day) = (i8::try_from(read[2]).ok()?, i8::try_from(read[4]).ok()?);
    Date::new(read[0], month, day).err().map(|_| format!("{parsing}: day out of range"))
}

fn is_zone(text: &str) -> bool {
    let is_offset = |text: &str| {
        let digits = text.as_bytes();
        let is_pair = |pair: &[u8]| pair.iter().all(u8::is_ascii_digit);
        digits.len() == 5 && is_pair(&digits[..2]) && digits[2] == b':' && is_pair(&digits[3..])
    };
    text == "Z" || text.strip_prefix(['+', '-']).is_some_and(is_offset)
}
