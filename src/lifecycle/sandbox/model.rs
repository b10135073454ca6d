//! A cluster of one sandbox for the tests of decisions: it does what the API server and the kubelet would do.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::decide::decide;
use super::decision::{Action, Decision};
use super::made::Adopted;
use super::observed::{Observed, PodView, Template};
use super::volume::Obstacle;
use super::{adopted, pod};
use crate::api::v1alpha1::{ANNOTATION_TEMPLATE_SPEC, FINALIZER_SANDBOX, PodTemplate, Sandbox};

/// The present of the tests.
pub(super) fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

/// The answers of the API server to the steps of earlier decisions, see [`Observed`].
#[derive(Default)]
struct Refusals {
    ruled_out: Option<String>,
    held: Option<String>,
}

/// The state of the cluster.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// `None` after its deletion.
    pub(super) sandbox: Option<Sandbox>,
    /// The pod with the name of the sandbox.
    pub(super) pod: Option<Pod>,
    pub(super) template: Template,
    pub(super) obstacle: Option<Obstacle>,
    /// What the process remembers of the pod.
    pub(super) adopted: Option<Arc<Adopted>>,
    /// What admission sets in every pod: pointers and values.
    pub(super) admission: Vec<(&'static str, Value)>,
    pub(super) held: Option<Duration>,
    /// True if the API server rules out to change images and resources.
    pub(super) refuses_updates: bool,
    /// True if the API server finds the labels of the template invalid.
    pub(super) refuses_labels: bool,
    /// True if the API server forbids each change of a pod, for example by a quota.
    pub(super) forbids_updates: bool,
    /// How many changes of the pod were refused so far.
    pub(super) refused: usize,
    /// Every step so far.
    pub(super) steps: Vec<Action>,
    pub(super) pods_created: usize,
}

impl World {
    pub(super) fn new(sandbox: Value) -> Self {
        Self {
            sandbox: Some(self::sandbox(sandbox)),
            pod: None,
            template: Template::Inline,
            obstacle: None,
            adopted: None,
            admission: Vec::new(),
            held: None,
            refuses_updates: false,
            refuses_labels: false,
            forbids_updates: false,
            refused: 0,
            steps: Vec::new(),
            pods_created: 0,
        }
    }

    /// With a pod that belongs to the sandbox.
    pub(super) fn with_pod(mut self, status: Value) -> Self {
        self.create_pod("rev");
        self.set_pod_status(status);
        self
    }

    /// With a pod that has the name of the sandbox and belongs to another UID.
    pub(super) fn with_foreign_pod(mut self) -> Self {
        self = self.with_pod(json!({"phase": "Running"}));
        let owners = self.pod.as_mut().unwrap().metadata.owner_references.as_mut().unwrap();
        owners[0].uid = "another".into();
        self
    }

    /// The pod was made by another controller, which has not written of which spec.
    pub(super) fn unmarked(mut self) -> Self {
        if let Some(pod) = &mut self.pod {
            pod.metadata.annotations.get_or_insert_default().remove(ANNOTATION_TEMPLATE_SPEC);
        }
        self
    }

    pub(super) fn sandbox(&self) -> &Sandbox {
        self.sandbox.as_ref().expect("the sandbox exists")
    }

    pub(super) fn set_pod_status(&mut self, status: Value) {
        self.pod.as_mut().unwrap().status = serde_json::from_value(status).unwrap();
    }

    pub(super) fn observe<'a>(&self, sandbox: &'a Sandbox) -> Observed<'a> {
        Observed {
            sandbox,
            pod: PodView::of(self.pod.clone().map(Arc::new), sandbox),
            pod_is_live: false,
            template: self.template.clone(),
            obstacle: self.obstacle.clone(),
            adopted: self.remembered(),
            look_again: None,
            held: self.held,
            update_refused: None,
            update_held: None,
            now: now(),
        }
    }

    /// Returns what is remembered of the present pod.
    fn remembered(&self) -> Option<Arc<Adopted>> {
        let uid = self.pod.as_ref().and_then(|pod| pod.metadata.uid.as_ref());
        self.adopted.clone().filter(|adopted| adopted.pod_uid.as_ref() == uid)
    }

    /// Decides, and asks the API server for the pod if the decision wants that. Returns what remains to be done.
    pub(super) fn decide(&self) -> Decision {
        self.decide_after(&self.sandbox().clone(), &Refusals::default())
    }

    fn decide_after(&self, sandbox: &Sandbox, refusals: &Refusals) -> Decision {
        let mut observed = self.observe(sandbox);
        observed.update_refused.clone_from(&refusals.ruled_out);
        observed.update_held.clone_from(&refusals.held);
        let first = decide(&observed);
        if first.actions != [Action::ReadPod] {
            return first;
        }
        observed.pod_is_live = true;
        decide(&observed)
    }

    /// Decides and applies once. Returns false if there is nothing to do.
    pub(super) fn step(&mut self) -> bool {
        let Some(sandbox) = self.sandbox.clone() else { return false };
        let mut refusals = Refusals::default();
        for _ in 0..3 {
            let decision = self.decide_after(&sandbox, &refusals);
            if decision.actions.is_empty() {
                if let Some(adopted) = adopted::adopt(&self.observe(&sandbox)) {
                    self.adopted = Some(Arc::new(adopted));
                }
                return false;
            }
            let refused = decision.actions.iter().find(|action| !self.try_step(action, &decision));
            // After a write of the status, the next decision is made from that.
            let Some(refused) = refused.filter(|_| self.sandbox.as_ref() == Some(&sandbox)) else {
                return true;
            };
            if refused.changes_pod_spec() && !self.forbids_updates {
                refusals.ruled_out = Some("refused".to_owned());
            } else {
                refusals.held = Some("refused".to_owned());
                self.held = Some(Duration::from_secs(1));
            }
        }
        panic!("a refused change is tried again and again: {:?}", self.sandbox);
    }

    /// Executes a step. Returns false if the API server refuses it.
    fn try_step(&mut self, action: &Action, decision: &Decision) -> bool {
        let has_labels =
            matches!(action, Action::PatchPod { change, .. } if change.labels.contains_key("app"));
        let is_update = matches!(action, Action::PatchPod { .. } | Action::ResizePod { .. });
        let is_refused = (self.refuses_updates && action.changes_pod_spec())
            || (self.refuses_labels && has_labels)
            || (self.forbids_updates && is_update);
        if is_refused {
            self.refused += 1;
            return false;
        }
        self.steps.push(action.clone());
        self.apply(action, decision);
        true
    }

    /// Decides and applies until there is nothing to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            if !self.step() {
                return;
            }
        }
        panic!("no end: {:?}\n{:?}", self.decide(), self.sandbox);
    }

    pub(super) fn apply(&mut self, action: &Action, decision: &Decision) {
        let Some(sandbox) = &mut self.sandbox else { panic!("{action:?} of a sandbox that is gone") };
        match action {
            Action::ReadPod => panic!("the pod is read twice"),
            Action::ShutDown => {
                sandbox.metadata.deletion_timestamp.get_or_insert(Time(now()));
                self.collect();
            }
            Action::Pause => {
                sandbox.spec.paused = Some(true);
                *sandbox.metadata.generation.get_or_insert_default() += 1;
            }
            Action::CreatePod { revision } => {
                assert!(self.pod.is_none(), "a pod is created although the name is taken");
                self.create_pod(&revision.clone());
            }
            Action::DeletePod { uid, .. } => {
                let pod = self.pod.as_mut().expect("a pod to delete");
                assert_eq!(pod.metadata.uid.as_ref(), Some(uid));
                assert_ne!(pod.metadata.owner_references.as_ref().unwrap()[0].uid, "another");
                pod.metadata.deletion_timestamp.get_or_insert(Time(now()));
            }
            Action::SetFinalizer(wanted) => {
                let finalizers = sandbox.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|known| known != FINALIZER_SANDBOX);
                if *wanted {
                    finalizers.push(FINALIZER_SANDBOX.into());
                }
                self.collect();
            }
            Action::PatchPod { change, .. } => {
                let pod = self.pod.as_mut().expect("a pod to patch");
                pod.metadata.labels.get_or_insert_default().extend(change.labels.clone());
                pod.metadata.annotations.get_or_insert_default().extend(change.annotations.clone());
                for image in &change.images {
                    let containers = &mut pod.spec.as_mut().unwrap().containers;
                    let container = containers.iter_mut().find(|known| known.name == image.container);
                    container.unwrap().image = image.value.as_str().map(str::to_owned);
                }
                self.admit();
            }
            Action::ResizePod { resources, .. } => {
                let containers =
                    &mut self.pod.as_mut().expect("a pod to resize").spec.as_mut().unwrap().containers;
                for change in resources {
                    let container = containers.iter_mut().find(|known| known.name == change.container);
                    container.unwrap().resources = serde_json::from_value(change.value.clone()).unwrap();
                }
            }
            Action::WriteStatus => sandbox.status = Some(decision.status.clone()),
        }
    }

    /// The garbage collector: the sandbox goes when it is deleted and nothing holds it, and takes its pod with it.
    fn collect(&mut self) {
        let metadata = &self.sandbox().metadata;
        let is_held = metadata.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
        if metadata.deletion_timestamp.is_some() && !is_held {
            self.sandbox = None;
            let is_ours = |pod: &Pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid != "another";
            if self.pod.as_ref().is_some_and(is_ours) {
                self.pod = None;
            }
        }
    }

    fn create_pod(&mut self, revision: &str) {
        let sandbox = self.sandbox().clone();
        let empty = || serde_json::from_value(json!({"spec": {"containers": []}})).unwrap();
        let template: PodTemplate = if let Template::Referred(template) = &self.template {
            template.spec.template.clone().unwrap()
        } else {
            sandbox.spec.template.clone().unwrap_or_else(empty)
        };
        let built = pod::build(&sandbox, pod::Parts { template: &template, claims: None }, revision);
        let mut pod: Pod = serde_json::from_value(built).unwrap();
        self.pods_created += 1;
        pod.metadata.uid = Some(format!("pod-{}", self.pods_created));
        self.pod = Some(pod);
        self.admit();
    }

    /// Admission changes the pod when it is created, and again when it is changed.
    fn admit(&mut self) {
        let mut pod = serde_json::to_value(&self.pod).unwrap();
        for (pointer, value) in &self.admission {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            pod.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        self.pod = serde_json::from_value(pod).unwrap();
    }

    /// The time, the kubelet and the users of foreign pods: a back-off ends, a pod becomes ready or ends, and what is
    /// deleted goes.
    pub(super) fn advance(&mut self) {
        self.held = None;
        let Some(pod) = &mut self.pod else { return };
        let is_foreign = pod.metadata.owner_references.as_ref().unwrap()[0].uid == "another";
        if is_foreign || pod.metadata.deletion_timestamp.is_some() {
            self.pod = None;
            return;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Failed" | "Succeeded")) {
            return;
        }
        pod.status = serde_json::from_value(ready(pod)).unwrap();
    }
}

/// Returns the status of a pod that is ready and runs the images of its spec.
fn ready(pod: &Pod) -> Value {
    let containers = pod.spec.as_ref().unwrap().containers.iter();
    let statuses: Vec<_> = containers
        .map(|container| {
            let image = container.image.as_deref().unwrap_or_default();
            json!({"name": container.name, "image": image, "imageID": "", "ready": true, "restartCount": 0})
        })
        .collect();
    json!({
        "phase": "Running", "podIP": "10.0.0.7", "containerStatuses": statuses,
        "conditions": [{"type": "Ready", "status": "True"}],
    })
}

/// Returns a sandbox with these fields and a template.
pub(super) fn sandbox(fields: Value) -> Sandbox {
    let mut object = json!({
        "metadata": {"name": "s", "namespace": "ns", "uid": "u", "generation": 1},
        "spec": {"template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": "i:1"}]}}},
    });
    let Value::Object(parts) = fields else { panic!("no object: {fields}") };
    for (part, fields) in parts {
        match fields {
            Value::Object(fields) => {
                for (field, value) in fields {
                    object[&part][field] = value;
                }
            }
            other => object[&part] = other,
        }
    }
    serde_json::from_value(object).unwrap()
}

/// Returns a condition as JSON.
pub(super) fn condition(type_: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2029-01-01T00:00:00Z",
    })
}

/// Returns the status of a sandbox that runs the first pod of a world.
pub(super) fn running() -> Value {
    json!({
        "phase": "Running", "observedGeneration": 1, "updateRevision": "foreign",
        "conditions": [condition("Ready", "True", "PodReady")],
        "podInfo": {"podIP": "10.0.0.7", "podUID": "pod-1"}, "sandboxIp": "10.0.0.7",
    })
}

/// Returns the status of a pod that is ready.
pub(super) fn pod_ready() -> Value {
    json!({"phase": "Running", "podIP": "10.0.0.7", "conditions": [{"type": "Ready", "status": "True"}]})
}
