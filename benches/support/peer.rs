//! Plain kube-rs: `kube::runtime::reflector` with every field of a sandbox typed, as in a typical operator.

use std::collections::BTreeMap;
use std::pin::Pin;

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, CustomResource};
use serde::{Deserialize, Serialize};

use super::playback::Playback;

/// The spec of a sandbox.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(group = "agents.kruise.io", version = "v1alpha1", kind = "PlainSandbox", plural = "sandboxes")]
#[kube(namespaced, schema = "disabled", status = "PlainStatus")]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlainSpec {
    pub(crate) paused: Option<bool>,
    pub(crate) pause_time: Option<Time>,
    pub(crate) shutdown_time: Option<Time>,
    pub(crate) persistent_contents: Option<Vec<String>>,
    pub(crate) runtimes: Option<Vec<Named>>,
    pub(crate) template: Option<PodTemplateSpec>,
    pub(crate) template_ref: Option<Named>,
    pub(crate) volume_claim_templates: Option<Vec<PersistentVolumeClaim>>,
}

/// A reference to an object by its name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

/// The status of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlainStatus {
    pub(crate) phase: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) node_name: Option<String>,
    pub(crate) observed_generation: Option<i64>,
    pub(crate) sandbox_ip: Option<String>,
    pub(crate) update_revision: Option<String>,
    pub(crate) conditions: Option<Vec<Condition>>,
    pub(crate) pod_info: Option<PlainPodInfo>,
}

/// The status of the sandbox's pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlainPodInfo {
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) node_name: Option<String>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podUID")]
    pub(crate) pod_uid: Option<String>,
}

/// A reflector and the watch that feeds it.
pub(crate) struct Reflected {
    pub(crate) store: Store<PlainSandbox>,
    events: Pin<Box<dyn Stream<Item = watcher::Result<Event<PlainSandbox>>>>>,
}

impl Reflected {
    /// Starts the reflector. Returns once it contains all objects.
    pub(crate) async fn start(playback: &Playback) -> Self {
        let (store, writer) = reflector::store();
        let api: Api<PlainSandbox> = Api::all(playback.client());
        let events = watch(api, watcher::Config::default().streaming_lists());
        let mut reflected = Self { store, events: Box::pin(events.reflect(writer)) };
        reflected.relisted().await;
        reflected
    }

    /// Returns once a list has completed.
    pub(crate) async fn relisted(&mut self) {
        while !matches!(self.events.next().await.unwrap(), Ok(Event::InitDone)) {}
    }

    /// Returns once this number of changes has been stored.
    pub(crate) async fn changed(&mut self, count: usize) {
        for _ in 0..count {
            while !matches!(self.events.next().await.unwrap(), Ok(Event::Apply(_))) {}
        }
    }
}
