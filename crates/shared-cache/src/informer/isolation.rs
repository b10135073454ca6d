//! Objects that exist but can't be decoded: kept out of the store, counted, and logged once (behaviour E6).

use std::collections::HashSet;

use kube::Resource;

use super::raw_event::Stub;
use crate::kind::{CacheObject, DecodeError};
use crate::object::{DeletionReason, ObjectKey, parse_version};
use crate::store::Change;

/// The undecodable objects of one kind that are known now. Owned by the informer's task.
#[derive(Default)]
pub(crate) struct Isolation {
    current: HashSet<ObjectKey>,
    /// Those that the running list has seen; they are all there are once it is complete.
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

    /// The object of this key can be read (again), or is gone.
    pub(crate) fn heal<K: CacheObject>(&mut self, object: &K) {
        if !self.current.is_empty() || !self.listed.is_empty() {
            let key = ObjectKey::of(object);
            if self.current.remove(&key) | self.listed.remove(&key) {
                tracing::info!(kind = %K::kind(&()), %key, "object can be decoded again");
            }
        }
    }

    /// Keeps out an object that `error` says is unreadable; what was stored of it is outdated.
    pub(crate) fn isolate<K: CacheObject>(&mut self, object: &str, error: &DecodeError) -> Change<K> {
        let stub = Stub::parse(object);
        let key = ObjectKey::new(stub.metadata.namespace, stub.metadata.name);
        if self.current.insert(key.clone()) {
            tracing::warn!(
                kind = %K::kind(&()), %key, field = %error.field, problem = %redact(&error.problem),
                "object can't be decoded and is kept out of the cache until it can"
            );
        }
        let version = parse_version(&stub.metadata.resource_version);
        self.listed.insert(key.clone());
        let reason = DeletionReason::Undecodable;
        Change::Hide { namespace: key.namespace, name: key.name, version, reason }
    }

    /// An object that could not be read is gone.
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

/// Takes the values out of a decoder's message: it quotes what it found, which may be a secret.
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
