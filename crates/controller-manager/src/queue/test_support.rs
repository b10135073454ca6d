//! Objects, batches and queues for the tests of the queue.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use prometheus::Registry;
use shared_cache::{Batch, DeletionReason, Delta, KeyRef};

use super::attempt::{Attempt, Work};
use super::metrics::QueueMetricFamilies;
use super::options::QueueOptions;
use super::work_queue::WorkQueue;

/// An object in namespace `ns`.
pub(super) fn object(name: &str, uid: &str, version: u64) -> Arc<ConfigMap> {
    let metadata = ObjectMeta {
        namespace: Some("ns".into()),
        name: Some(name.into()),
        uid: Some(uid.into()),
        resource_version: Some(version.to_string()),
        ..ObjectMeta::default()
    };
    Arc::new(ConfigMap { metadata, ..ConfigMap::default() })
}

pub(super) fn applied(new: &Arc<ConfigMap>) -> Delta<ConfigMap> {
    Delta::Applied { old: None, new: Arc::clone(new) }
}

pub(super) fn deleted(last_known: &Arc<ConfigMap>) -> Delta<ConfigMap> {
    Delta::Deleted { last_known: Arc::clone(last_known), reason: DeletionReason::Removed }
}

pub(super) fn batch(sequence: u64, delta: Delta<ConfigMap>) -> Batch<ConfigMap> {
    Batch { sequence, deltas: vec![delta] }
}

pub(super) fn queue(options: &QueueOptions) -> WorkQueue<ConfigMap> {
    let metrics = QueueMetricFamilies::register(&Registry::new()).unwrap().of("test");
    WorkQueue::new(options, None, metrics)
}

pub(super) fn name(attempt: &Attempt<ConfigMap>) -> String {
    KeyRef::from(attempt.key.object_key()).name.to_owned()
}

/// The UID of the object whose deletion an attempt shows.
pub(super) fn deletion(attempt: &Attempt<ConfigMap>) -> Option<&str> {
    match &attempt.work {
        Work::Deletion(owed) => owed.last_known.metadata.uid.as_deref(),
        Work::Present { .. } => None,
    }
}
