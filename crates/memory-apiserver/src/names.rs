//! The rules for names of objects, labels, finalizers and keys, with the error texts of kube-apiserver.

use rand::Rng;
use serde_json::json;

use super::error::FieldError;

/// Maximum length of the prefix of a generated name.
const MAX_PREFIX: usize = 58;

/// Letters and digits of generated names, without vowels and without signs that look alike.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// An error for each problem with the value of a field.
pub(crate) fn invalid(
    field: impl Into<String>,
    value: &str,
    problems: impl IntoIterator<Item = impl Into<String>>,
) -> impl Iterator<Item = FieldError> {
    let (field, value) = (field.into(), json!(value));
    problems.into_iter().map(move |problem| FieldError::invalid(field.clone(), value.clone(), problem))
}

/// The rule for the names of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Lower case words joined by dots, at most 253 characters.
    Subdomain,
    /// One lower case word of at most 63 characters.
    Label,
    /// One lower case word that begins with a letter.
    StrictLabel,
    /// Any text that can be a segment of a path.
    PathSegment,
}

impl NameRule {
    /// The problems of a name.
    pub(crate) fn problems(self, name: &str) -> Vec<String> {
        let longest = match self {
            Self::Subdomain => 253,
            Self::Label | Self::StrictLabel => 63,
            Self::PathSegment => return path_problems(name),
        };
        let mut problems = Vec::new();
        if name.len() > longest {
            problems.push(too_long(longest));
        }
        let (fits, rule) = match self {
            Self::Subdomain => (name.split('.').all(is_label), SUBDOMAIN),
            Self::Label => (is_label(name), LABEL),
            _ => (is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()), STRICT_LABEL),
        };
        problems.extend((!fits).then(|| rule.to_owned()));
        problems
    }
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
     and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with \
     an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const STRICT_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
     and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";
const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_NAME: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
     alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. \
     'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and \
     end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  \
     or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

fn too_long(longest: usize) -> String {
    format!("must be no more than {longest} bytes")
}

/// Whether a text has letters, digits and dashes, with a letter or digit at both ends.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn path_problems(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let held = ["/", "%"].into_iter().filter(|held| name.contains(held));
    held.map(|held| format!("may not contain '{held}'")).collect()
}

/// The problems of a name that may begin with a domain and a slash, such as the key of a label.
pub(crate) fn qualified_name_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                let of_prefix = NameRule::Subdomain.problems(prefix);
                problems.extend(of_prefix.into_iter().map(|problem| format!("prefix part {problem}")));
            }
            name
        }
        _ => return vec![QUALIFIED_NAME.to_owned()],
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push(format!("name part {}", too_long(63)));
    }
    problems.extend((!is_name_part(name)).then(|| NAME_PART.to_owned()));
    problems
}

/// The problems of the value of a label.
pub(crate) fn label_value_problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push(too_long(63));
    }
    problems.extend((!text.is_empty() && !is_name_part(text)).then(|| LABEL_VALUE.to_owned()));
    problems
}

/// The problems of a key of a `ConfigMap` or a `Secret`, which may become the name of a file.
pub(crate) fn config_key_problems(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if key.len() > 253 {
        problems.push(too_long(253));
    }
    let fits =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    problems.extend((!fits).then(|| CONFIG_KEY.to_owned()));
    if matches!(key, "." | "..") {
        problems.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        problems.push("must not start with '..'".to_owned());
    }
    problems
}

fn is_name_part(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(outer)
        && text.ends_with(outer)
        && text.chars().all(|c| outer(c) || matches!(c, '-' | '_' | '.'))
}

/// A name that begins with `prefix` and is probably new.
pub(crate) fn generate_name(prefix: &str) -> String {
    let mut name: String = prefix.chars().take(MAX_PREFIX).collect();
    let mut random = rand::rng();
    name.extend((0..5).map(|_| char::from(GENERATED[random.random_range(0..GENERATED.len())])));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_their_kind() {
        for (rule, good, bad) in [
            (NameRule::Subdomain, "a.b-1", "a..b"),
            (NameRule::Subdomain, "0", "A"),
            (NameRule::Label, "1-a", "a.b"),
            (NameRule::StrictLabel, "a-1", "1-a"),
            (NameRule::PathSegment, "system:node", "a/b"),
        ] {
            assert_eq!(rule.problems(good), [""; 0], "{good}");
            assert_eq!(rule.problems(bad).len(), 1, "{bad}");
        }
        assert_eq!(NameRule::Label.problems(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(NameRule::Subdomain.problems(&"A".repeat(254)).len(), 2);
        assert_eq!(NameRule::PathSegment.problems("%/").len(), 2);
    }

    #[test]
    fn generated_names_fit_into_a_label() {
        let name = generate_name(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert_eq!(NameRule::Label.problems(&name), [""; 0]);
    }

    #[test]
    fn qualified_names_may_have_one_prefix() {
        for good in ["fleet.test/machine", "A_b.c"] {
            assert_eq!(qualified_name_problems(good), [""; 0], "{good}");
        }
        for (bad, problems) in
            [("", 2), ("/a", 1), ("a/", 2), ("a/b/c", 1), ("-a", 1), ("A/b", 1), ("A/-", 2)]
        {
            assert_eq!(qualified_name_problems(bad).len(), problems, "{bad}");
        }
    }

    #[test]
    fn keys_can_be_names_of_files() {
        assert_eq!(config_key_problems("A_key.with-all"), [""; 0]);
        assert_eq!(config_key_problems(".."), ["must not be '..'"]);
        assert_eq!(config_key_problems("..a"), ["must not start with '..'"]);
        assert!(["", "a b", "a/b"].iter().all(|key| config_key_problems(key).len() == 1));
    }
}
