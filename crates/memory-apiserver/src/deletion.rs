//! When a deleted object may go, and how its metadata shows that deletion has begun.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::clock::whole_seconds;
use super::object::{self, finalizers, metadata_mut};
use super::store::{DEFINITIONS, NAMESPACES};

/// Where Pods are kept: the only objects that get a grace period.
pub(crate) const PODS: &str = "pods";

/// The grace period in seconds of a deletion that asks for `given`: a Pod on a node has to be ended there first.
pub(crate) fn grace(storage: &str, object: &Value, given: Option<i64>) -> i64 {
    let on_a_node = !object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let has_ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if storage != PODS || !on_a_node || has_ended {
        return 0;
    }
    // A second deletion changes the period only if it says one.
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let own = before.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    given.unwrap_or(own).max(0)
}

/// Whether no finalizer keeps the object.
pub(crate) fn may_go(storage: &str, object: &Value) -> bool {
    let drained = || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    finalizers(object).is_empty() && (storage != NAMESPACES || drained())
}

/// Whether deletion of the object has begun and neither a finalizer nor a grace period keeps it.
pub(crate) fn has_ended(storage: &str, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or_default();
    object::is_deleting(object) && may_go(storage, object) && grace <= 0
}

/// Marks the object as deleted, with a grace period in seconds. A second call can only shorten the period.
pub(crate) fn mark_deleted(storage: &str, object: &mut Value, grace: i64, now: Timestamp) {
    if object::is_deleting(object) {
        return shorten(object, grace);
    }
    let until = after(now, grace);
    metadata_mut(object).insert("deletionTimestamp".to_owned(), json!(whole_seconds(until)));
    // kube-apiserver marks these two kinds by an update of its own, which sets nothing else.
    if matches!(storage, NAMESPACES | DEFINITIONS) {
        return;
    }
    let generation = object["metadata"]["generation"].as_i64();
    let metadata = metadata_mut(object);
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if let Some(generation) = generation {
        metadata.insert("generation".to_owned(), json!(generation.saturating_add(1)));
    }
}

fn shorten(object: &mut Value, grace: i64) {
    let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let Some(before) = before.filter(|before| grace < *before) else { return };
    let until = object::meta_text(object, "deletionTimestamp").parse::<Timestamp>();
    let metadata = metadata_mut(object);
    if let Ok(until) = until {
        let earlier = after(until, grace.saturating_sub(before));
        metadata.insert("deletionTimestamp".to_owned(), json!(whole_seconds(earlier)));
    }
    metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
}

/// The time so many seconds later, or the last time that can be expressed.
fn after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
