//! The rules of `metadata`: names, labels, owners, finalizers, and what can't be changed.

use jiff::Timestamp;
use rand::Rng;
use serde_json::{Map, Value, json};

use super::error::{FieldError, Problem};
use super::object;
use super::resource::Resource;

/// Bytes of all annotations together.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Length of a generated name without what is added to it.
const MAX_PREFIX: usize = 58;

/// Letters and digits of generated names: no vowels, and nothing that looks like something else.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What a kind allows as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Lower case words joined by dots, 253 characters in all.
    Subdomain,
    /// One lower case word of at most 63 characters.
    Label,
    /// One lower case word that begins with a letter.
    StrictLabel,
    /// Whatever can be part of a path.
    PathSegment,
}

impl NameRule {
    /// What is wrong with a name, if anything is.
    fn problem(self, name: &str) -> Option<&'static str> {
        let fits = match self {
            Self::Subdomain => name.len() <= 253 && name.split('.').all(|part| is_label(part, usize::MAX)),
            Self::Label => is_label(name, 63),
            Self::StrictLabel => is_label(name, 63) && name.starts_with(|c: char| c.is_ascii_lowercase()),
            Self::PathSegment => !matches!(name, "." | "..") && !name.contains(['/', '%']),
        };
        let rule = match self {
            Self::Subdomain => {
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
                 start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            }
            Self::Label => {
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
                 end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            }
            Self::StrictLabel => {
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                 character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                 validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            }
            Self::PathSegment => "may not be '.' or '..' and may not contain '/' or '%'",
        };
        (!fits).then_some(rule)
    }
}

/// Letters, digits and dashes, a letter or digit at both ends.
fn is_label(text: &str, longest: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= longest
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name that begins with `prefix` and is very likely new.
pub(crate) fn generate_name(prefix: &str) -> String {
    let mut name: String = prefix.chars().take(MAX_PREFIX).collect();
    let mut random = rand::rng();
    name.extend((0..5).map(|_| char::from(GENERATED[random.random_range(0..GENERATED.len())])));
    name
}

/// A time as metadata holds it.
pub(crate) fn whole_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What is wrong with the metadata of an object that is to be stored over `live`, or for the first time.
pub(crate) fn validate(resource: &Resource, live: Option<&Value>, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    match live {
        None => validate_name(resource, object, &mut errors),
        Some(live) => validate_change(live, object, &mut errors),
    }
    if let Some(labels) = metadata["labels"].as_object() {
        validate_labels(labels, &mut errors);
    }
    if let Some(annotations) = metadata["annotations"].as_object() {
        validate_annotations(annotations, &mut errors);
    }
    validate_owners(metadata, &mut errors);
    for (position, finalizer) in object::finalizers(object).iter().enumerate() {
        if !is_qualified_name(finalizer) {
            let field = format!("metadata.finalizers[{position}]");
            errors.push(FieldError::invalid(field, json!(finalizer), QUALIFIED_NAME));
        }
    }
    errors
}

fn validate_name(resource: &Resource, object: &Value, errors: &mut Vec<FieldError>) {
    let name = object::name(object);
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        return;
    }
    if let Some(problem) = resource.name_rule().problem(name) {
        errors.push(FieldError::invalid("metadata.name", json!(name), problem));
    }
}

fn validate_change(live: &Value, object: &Value, errors: &mut Vec<FieldError>) {
    if object::is_deleting(live) {
        let before = object::finalizers(live);
        let added: Vec<_> =
            object::finalizers(object).into_iter().filter(|finalizer| !before.contains(finalizer)).collect();
        if !added.is_empty() {
            let listed: Vec<_> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                listed.join(", ")
            );
            errors.push(FieldError::forbidden("metadata.finalizers", detail));
        }
    }
}

const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
     must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
     validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn validate_labels(labels: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    for (key, value) in labels {
        if !is_qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", json!(key), QUALIFIED_NAME));
        }
        let text = value.as_str().unwrap_or_default();
        if text.len() > 63 {
            errors.push(FieldError::invalid(
                "metadata.labels",
                value.clone(),
                "must be no more than 63 bytes",
            ));
        }
        if !(text.is_empty() || is_name_part(text)) {
            errors.push(FieldError::invalid("metadata.labels", value.clone(), LABEL_VALUE));
        }
    }
}

fn validate_annotations(annotations: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in annotations {
        if !is_qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid("metadata.annotations", json!(key), QUALIFIED_NAME));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > MAX_ANNOTATIONS {
        errors.push(FieldError::new("metadata.annotations", Problem::TooLong(MAX_ANNOTATIONS as u64)));
    }
}

fn validate_owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (position, owner) in owners.iter().enumerate() {
        for (field, problem) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let field = format!("metadata.ownerReferences[{position}].{field}");
                errors.push(FieldError::invalid(field, json!(""), problem));
            }
        }
    }
    let controllers: Vec<_> = owners.iter().filter(|owner| owner["controller"] == true).collect();
    if controllers.len() > 1 {
        let detail = "Only one reference can have Controller set to true";
        let found = json!(owners);
        errors.push(FieldError::invalid("metadata.ownerReferences", found, detail));
    }
}

/// A name, with a prefix that is a domain or none.
fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        None => text.len() <= 63 && is_name_part(text),
        Some((prefix, name)) => {
            NameRule::Subdomain.problem(prefix).is_none() && name.len() <= 63 && is_name_part(name)
        }
    }
}

fn is_name_part(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(outer)
        && text.ends_with(outer)
        && text.chars().all(|c| outer(c) || matches!(c, '-' | '_' | '.'))
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
            assert_eq!(rule.problem(good), None, "{good}");
            assert!(rule.problem(bad).is_some(), "{bad}");
        }
        assert!(NameRule::Label.problem(&"a".repeat(64)).is_some());
    }

    #[test]
    fn generated_names_fit_into_a_label() {
        let name = generate_name(&"x".repeat(100));
        assert_eq!(name.len(), 63);
        assert_eq!(NameRule::Label.problem(&name), None);
    }

    #[test]
    fn qualified_names_may_have_one_prefix() {
        assert!(is_qualified_name("agents.kruise.io/sandbox") && is_qualified_name("A_b.c"));
        assert!(!["", "/a", "a/", "a/b/c", "-a", "A/b"].iter().any(|name| is_qualified_name(name)));
    }
}
