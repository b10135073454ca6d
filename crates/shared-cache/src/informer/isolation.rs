//! Tracks objects that exist but cannot be decoded (behaviour E6). They are not stored, are counted, and are
//! logged once.

use std::collections::HashSet;

use kube::Resource;

use super::raw_event::Stub;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{DeletionReason, ObjectKey, parse_version};
use crate::store::Change;

/// The undecodable objects of one kind. Owned by the informer's task.
#[derive(Default)]
pub(crate) struct Isolation {
    current: HashSet<ObjectKey>,
    /// The undecodable objects that the running list has seen. Once the list is complete, they are the only
    /// ones.
    listed: HashSet<ObjectKey>,
}

impl Isolation {
    pub(crate) fn begin_list(&mut self) {
        self.listed.clear();
    }

    pub(crate) fn end_list(&mut self) {
        self.current = std::mem::take(&mut self.listed);
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len()
    }

    /// Records that the object of this key can be decoded again, or was deleted.
    pub(crate) fn record_decoded<K: CacheObject>(&mut self, object: &K) {
        if !self.current.is_empty() || !self.listed.is_empty() {
            let key = ObjectKey::of(object);
            if self.current.remove(&key) | self.listed.remove(&key) {
                tracing::info!(kind = %K::kind(&()), %key, "object can be decoded again");
            }
        }
    }

    /// Records an object that `error` says is undecodable. The returned change hides the outdated stored
    /// object.
    pub(crate) fn isolate<K: CacheObject>(&mut self, object: &str, error: &DecodeError) -> Change<K> {
        let stub = Stub::parse(object);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        if self.current.insert(key.clone()) {
            tracing::warn!(
                kind = %K::kind(&()), %key, field = %error.field, problem = %redact(&error.problem),
                "object cannot be decoded and is not in the cache"
            );
        }
        let version = parse_version(&stub.metadata.resource_version);
        self.listed.insert(key.clone());
        let reason = DeletionReason::Undecodable;
        Change::Hide { namespace: key.namespace, name: key.name, version, reason }
    }

    /// Records that an undecodable object was deleted.
    pub(crate) fn gone<K: Resource>(&mut self, object: &str) -> Change<K> {
        let stub = Stub::parse(object);
        let version = parse_version(&stub.metadata.resource_version);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        self.current.remove(&key);
        self.listed.remove(&key);
        let reason = DeletionReason::FinalStateUnknown;
        Change::Hide { namespace: key.namespace, name: key.name, version, reason }
    }
}

/// Removes the quoted values from a decoder's message, because they may be secrets.
fn redact(problem: &str) -> String {
    let mut text = problem.to_owned();
    for quote in ['"', '`'] {
        let Some(start) = text.find(quote) else { continue };
        let end = if quote == '"' {
            text.rfind(quote)
        } else {
            text[start + 1..].find(quote).map(|i| start + 1 + i)
        };
        if let Some(end) = end.filter(|&end| end > start) {
            text.replace_range(start..=end, "(not shown)");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e6_a_message_never_quotes_the_value() {
        assert_eq!(
            redact(r#"invalid type: string "hun"ter2", expected i32"#),
            "invalid type: string (not shown), expected i32"
        );
        assert_eq!(
            redact("unknown variant `hunter2`, expected `A`"),
            "unknown variant (not shown), expected `A`"
        );
        assert_eq!(redact("missing field"), "missing field");
    }
}
