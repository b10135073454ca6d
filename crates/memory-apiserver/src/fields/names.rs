//! Names of field managers: from the request, or from the client's `User-Agent`.

use serde_json::Value;

use crate::error::{FieldError, Problem};

/// Maximum length of a name in bytes.
const MAX_NAME: usize = 128;

/// The manager of a write that names none: the client's `User-Agent` up to the first `/`, without characters that are
/// not printable.
pub(crate) fn from_user_agent(user_agent: &str) -> String {
    let mut name = String::new();
    let product = user_agent.split('/').next().unwrap_or_default();
    for char in product.chars().filter(|char| is_printable(*char)) {
        if name.len() + char.len_utf8() > MAX_NAME {
            break;
        }
        name.push(char);
    }
    name
}

/// The problems of the `fieldManager` of a request. Only an apply must have one.
pub(crate) fn check_field_manager(name: &str, applies: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if applies && name.is_empty() {
        errors.push(FieldError::required("fieldManager", "is required for apply patch"));
    }
    errors.extend(check_name(name, "fieldManager"));
    errors
}

/// The problems of the name of a manager in this field.
pub(super) fn check_name(name: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > MAX_NAME {
        errors.push(FieldError::new(field, Problem::TooLong(MAX_NAME as u64)));
    }
    for (at, char) in name.char_indices().filter(|(_, char)| !is_printable(*char)) {
        let problem = format!("invalid character U+{:04X} (at position {at})", u32::from(char));
        errors.push(FieldError::invalid(field, Value::from(name), problem));
    }
    errors
}

fn is_printable(char: char) -> bool {
    char == ' ' || !(char.is_control() || char.is_whitespace())
}

#[cfg(test)]
mod tests {
    use crate::fields::{check_field_manager, from_user_agent};

    #[test]
    fn the_user_agent_names_the_manager_up_to_the_slash() {
        assert_eq!(from_user_agent("kubectl/v1.32.0 (linux/amd64) kubernetes/abc"), "kubectl");
        assert_eq!(from_user_agent("Mozilla 5 (X11)"), "Mozilla 5 (X11)");
        assert_eq!(from_user_agent("a\tb\u{a0}c"), "abc");
        assert_eq!(from_user_agent("/x"), "");
        let long = "é".repeat(80);
        assert_eq!(from_user_agent(&long), "é".repeat(64));
    }

    #[test]
    fn a_field_manager_is_short_and_printable() {
        fn texts(name: &str, applies: bool) -> Vec<String> {
            check_field_manager(name, applies).iter().map(ToString::to_string).collect()
        }
        assert!(texts("", false).is_empty());
        assert!(texts(&"m".repeat(128), true).is_empty());
        assert_eq!(texts("", true), ["fieldManager: Required value: is required for apply patch"]);
        assert_eq!(texts(&"é".repeat(65), true), ["fieldManager: Too long: may not be more than 128 bytes"]);
        assert_eq!(
            texts("a\tb", true),
            [r#"fieldManager: Invalid value: "a\tb": invalid character U+0009 (at position 1)"#]
        );
    }
}
