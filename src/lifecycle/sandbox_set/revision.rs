//! The revision of a set: a hash of everything that its members copy from it.
//!
//! Rules:
//!
//! - The hash does not depend on the order of the fields.
//! - A revision that another controller has computed is kept as long as it is right, because no hash of another
//!   controller can be reproduced. It is right while the set has the generation that its status describes. In a later
//!   generation it is right if a member of that revision is a copy of the set as it is now. So `kubectl scale` replaces no
//!   member that another controller has made.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::blueprint::MEMBER_LABELS;
use crate::api::v1alpha1::{LABEL_TEMPLATE_HASH, Sandbox, SandboxSet, label};

/// The letters of a hash. They form no words, and are those of the names that Kubernetes generates.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Number of letters of a hash: 47 bits.
const LENGTH: usize = 10;

/// Returns the revision of the set. `members` are its sandboxes.
pub(super) fn current<'a>(
    set: &SandboxSet,
    own: &Arc<str>,
    members: impl IntoIterator<Item = &'a Sandbox>,
) -> Arc<str> {
    let status = set.status.as_ref();
    let known = status.and_then(|status| status.update_revision.as_deref()).unwrap_or_default();
    if known.is_empty() || known == &**own {
        return Arc::clone(own);
    }
    let observed = status.and_then(|status| status.observed_generation);
    if observed.is_some() && observed == set.metadata.generation {
        return known.into();
    }
    let of_known = |member: &&Sandbox| label(&member.metadata, LABEL_TEMPLATE_HASH) == Some(known);
    match members.into_iter().find(of_known) {
        Some(member) if simplified(content(member)) == simplified(content(set)) => known.into(),
        _ => Arc::clone(own),
    }
}

/// An object that describes sandboxes: a set, or a sandbox itself.
pub(super) trait Described {
    /// Returns what describes the sandboxes, as JSON.
    fn description(&self) -> Value;
}

impl Described for SandboxSet {
    fn description(&self) -> Value {
        let spec = &self.spec;
        json!({
            "template": spec.template,
            "templateRef": spec.template_ref.as_ref().filter(|_| spec.template.is_none()),
            "volumeClaimTemplates": spec.volume_claim_templates,
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy,
        })
    }
}

impl Described for Sandbox {
    fn description(&self) -> Value {
        let spec = &self.spec;
        json!({
            "template": spec.template,
            "templateRef": spec.template_ref.as_ref().filter(|_| spec.template.is_none()),
            "volumeClaimTemplates": spec.volume_claim_templates,
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy(),
        })
    }
}

/// Returns the description without the labels that a set adds to each member.
fn content(of: &impl Described) -> Value {
    let mut content = of.description();
    let labels = content.pointer_mut("/template/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.retain(|key, _| !MEMBER_LABELS.contains(&key.as_str()));
    }
    content
}

/// Returns the hash of a set's description.
pub(super) fn hash(set: &SandboxSet) -> Arc<str> {
    let mut hash = Fnv::new();
    hash.value(&content(set));
    let mut rest = hash.0;
    let mut text = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        let letter = usize::try_from(rest % LETTERS.len() as u64).unwrap_or_default();
        text.push(char::from(LETTERS[letter]));
        rest /= LETTERS.len() as u64;
    }
    text.into()
}

/// The hash FNV-1a with 64 bits. It never changes, unlike the hashes of the standard library.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a value. A field without a value counts as absent, and the order of fields does not count.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => {
                self.bytes(b"[");
                for item in items {
                    self.value(item);
                    self.bytes(b",");
                }
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().filter(|(_, value)| !value.is_null()).collect();
                fields.sort_unstable_by_key(|(name, _)| name.as_str());
                self.bytes(b"{");
                for (name, value) in fields {
                    self.bytes(Value::from(name.as_str()).to_string().as_bytes());
                    self.bytes(b":");
                    self.value(value);
                    self.bytes(b",");
                }
            }
            other => self.bytes(other.to_string().as_bytes()),
        }
    }
}

/// Returns the value without empty fields: Go writes some of them that the author of the object did not write.
fn simplified(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, simplified(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(simplified).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
