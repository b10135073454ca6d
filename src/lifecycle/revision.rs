//! The revision of a template: a hash that does not depend on the order of fields (LS4).

use serde_json::Value;

use crate::api::v1alpha1::PodTemplate;
use crate::blueprint::ALPHABET;

/// The constants of FNV-1a with 64 bits. The hash must be the same in every version, so it is not that of the standard
/// library.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Returns the revision of a template. It is valid as the value of a label.
pub(crate) fn of(template: &PodTemplate) -> String {
    // The text was JSON when it was read.
    of_json(&serde_json::from_str(&template.to_json()).unwrap_or_default())
}

/// Returns the revision of any JSON value.
pub(crate) fn of_json(value: &Value) -> String {
    let mut hash = OFFSET;
    add(&mut hash, value);
    encode(hash)
}

/// Adds a value to the hash: the fields of an object by name, and without fields that are null. Go writes
/// `creationTimestamp: null` into each template.
fn add(hash: &mut u64, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            add_bytes(hash, b"{");
            for (name, value) in fields {
                add_text(hash, name);
                add(hash, value);
            }
            add_bytes(hash, b"}");
        }
        Value::Array(items) => {
            add_bytes(hash, b"[");
            for item in items {
                add(hash, item);
            }
            add_bytes(hash, b"]");
        }
        Value::String(text) => add_text(hash, text),
        other => add_bytes(hash, format!("{other};").as_bytes()),
    }
}

/// The length in front keeps two neighbouring texts apart.
fn add_text(hash: &mut u64, text: &str) {
    add_bytes(hash, format!("\"{}:{text}", text.len()).as_bytes());
}

fn add_bytes(hash: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
}

fn encode(mut hash: u64) -> String {
    let base = ALPHABET.len() as u64;
    let mut text = String::new();
    while hash > 0 {
        let digit = usize::try_from(hash % base).unwrap_or_default();
        text.push(char::from(ALPHABET[digit]));
        hash /= base;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(json: &str) -> String {
        of(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn ls4_the_order_of_fields_blanks_and_nulls_do_not_matter() {
        let one = revision(r#"{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"x":[1,true]}}"#);
        let two = revision(
            r#"{"spec": {"x": [1, true]}, "metadata": {"creationTimestamp":null,"labels":{"b":"2","a":"1"}}}"#,
        );
        assert_eq!(one, two);
        assert!((8..=14).contains(&one.len()) && one.bytes().all(|byte| ALPHABET.contains(&byte)), "{one}");
    }

    #[test]
    fn ls4_every_other_difference_matters() {
        let templates = [
            r#"{"spec":{"x":[1,2]}}"#,
            r#"{"spec":{"x":[2,1]}}"#,
            r#"{"spec":{"x":["1",2]}}"#,
            r#"{"spec":{"x":[12]}}"#,
            r#"{"spec":{"x":"ab","y":"c"}}"#,
            r#"{"spec":{"x":"a","yb":"c"}}"#,
            r#"{"spec":{},"metadata":{"x":[1,2]}}"#,
        ];
        let mut revisions = templates.map(revision).to_vec();
        revisions.sort();
        revisions.dedup();
        assert_eq!(revisions.len(), templates.len());
    }

    #[test]
    fn ls4_the_hash_is_the_same_in_every_version() {
        assert_eq!(revision(r#"{"spec":{"containers":[{"name":"a","image":"busybox"}]}}"#), "69z9f6l5x6ddhf");
    }
}
