//! How a Sandbox is shown: its state, its times, its size.
//!
//! Pure functions of one object and the time.

use jiff::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::metadata;
use super::types::{Lifecycle, ListedSandbox, OnTimeout, SandboxAnswer, SandboxDetail, State};
use crate::api::quantity::nanos;
use crate::api::v1alpha1::{
    ANNOTATION_CLAIM_TIMESTAMP, ANNOTATION_RUNTIME_ACCESS_TOKEN, LABEL_ALLOW_INTERNET_ACCESS,
    LABEL_SANDBOX_POOL, LABEL_TRUE, PodTemplate, Sandbox, StateKind, StateReason, Time, annotation, label,
};
use crate::claims::ends_at;

/// On a Sandbox: `true` if requests to the paused sandbox resume it.
pub(super) const ANNOTATION_AUTO_RESUME: &str = "e2b.agents.kruise.io/auto-resume";

/// The end of a sandbox that never ends. The SDKs accept no other form than a time.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// What all answers have in common, whatever the sandbox.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) envd_version: String,
    /// Empty: the client knows the domain.
    pub(super) domain: String,
}

impl Common {
    fn domain(&self) -> Option<String> {
        Some(self.domain.clone()).filter(|domain| !domain.is_empty())
    }
}

/// Returns the state that clients see. None if the sandbox has ended: no client sees it any more.
pub(super) fn state(sandbox: &Sandbox, now: Timestamp) -> Option<State> {
    if sandbox.is_reserved_failed() || !sandbox.is_claimed() {
        return None;
    }
    let state = sandbox.state(now);
    match state.kind {
        StateKind::Running | StateKind::Creating | StateKind::Upgrading | StateKind::Unknown => {
            Some(State::Running)
        }
        // The sandbox is there, and may become ready again.
        StateKind::Dead if state.reason == StateReason::RunningResourceClaimedButNotReady => {
            Some(State::Running)
        }
        StateKind::Paused | StateKind::Resuming => Some(State::Paused),
        StateKind::Dead | StateKind::Recycling | StateKind::Available => None,
    }
}

/// Returns when the sandbox was given to its user, in whole seconds.
pub(super) fn started_at(sandbox: &Sandbox) -> Timestamp {
    let claimed =
        annotation(&sandbox.metadata, ANNOTATION_CLAIM_TIMESTAMP).and_then(|text| text.parse().ok());
    let created = || sandbox.metadata.creation_timestamp.as_ref().map(|created| created.0);
    let at: Timestamp = claimed.or_else(created).unwrap_or_default();
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// Returns the name of the pool from which the sandbox was claimed: the id that was asked for.
pub(super) fn template_id(sandbox: &Sandbox) -> &str {
    label(&sandbox.metadata, LABEL_SANDBOX_POOL).or_else(|| sandbox.pool()).unwrap_or_default()
}

pub(super) fn listed(
    sandbox: &Sandbox,
    state: State,
    template: Option<&PodTemplate>,
    common: &Common,
) -> ListedSandbox {
    let size = Size::of(template);
    let end = ends_at(sandbox);
    ListedSandbox {
        template_id: template_id(sandbox).to_owned(),
        sandbox_id: sandbox.sandbox_id().into_owned(),
        client_id: "",
        started_at: started_at(sandbox).to_string(),
        end_at: end.map_or_else(|| NEVER.to_owned(), |end| Time::from(end).to_string()),
        envd_version: common.envd_version.clone(),
        cpu_count: size.cpus,
        memory_mb: size.memory_mb,
        disk_size_mb: size.disk_mb,
        state,
        metadata: metadata::of(sandbox),
    }
}

pub(super) fn detail(
    sandbox: &Sandbox,
    state: State,
    template: Option<&PodTemplate>,
    common: &Common,
) -> SandboxDetail {
    let on_timeout = if sandbox.spec.pause_time.is_some() { OnTimeout::Pause } else { OnTimeout::Kill };
    let auto_resume = annotation(&sandbox.metadata, ANNOTATION_AUTO_RESUME) == Some(LABEL_TRUE);
    SandboxDetail {
        listed: listed(sandbox, state, template, common),
        lifecycle: Lifecycle { auto_resume, on_timeout },
        allow_internet_access: label(&sandbox.metadata, LABEL_ALLOW_INTERNET_ACCESS)
            .map(|allowed| allowed == LABEL_TRUE),
        envd_access_token: token(sandbox),
        domain: common.domain(),
    }
}

pub(super) fn answer(sandbox: &Sandbox, common: &Common) -> SandboxAnswer {
    SandboxAnswer {
        template_id: template_id(sandbox).to_owned(),
        sandbox_id: sandbox.sandbox_id().into_owned(),
        client_id: "",
        envd_version: common.envd_version.clone(),
        envd_access_token: token(sandbox),
        domain: common.domain(),
    }
}

fn token(sandbox: &Sandbox) -> Option<String> {
    annotation(&sandbox.metadata, ANNOTATION_RUNTIME_ACCESS_TOKEN).map(str::to_owned)
}

/// One, in the precision of quantities.
const ONE: i128 = 1_000_000_000;
const MIB: i128 = ONE * (1 << 20);

/// The size of a sandbox. Clients expect whole numbers, and at least one CPU and one MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) cpus: u32,
    pub(super) memory_mb: u32,
    pub(super) disk_mb: u32,
}

/// The part of a pod's spec that says how large it is. Everything else is skipped.
#[derive(Default, Deserialize)]
struct PodSize {
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
struct Container {
    #[serde(default)]
    resources: Option<Resources>,
}

#[derive(Default, Deserialize)]
struct Resources {
    #[serde(default)]
    limits: Option<BTreeMap<String, Quantity>>,
    #[serde(default)]
    requests: Option<BTreeMap<String, Quantity>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Quantity {
    Text(String),
    Number(serde_json::Number),
}

impl Quantity {
    fn nanos(&self) -> Option<i128> {
        match self {
            Self::Text(text) => nanos(text),
            Self::Number(number) => nanos(&number.to_string()),
        }
    }
}

impl Size {
    /// The sum of the limits of the containers; of the requests where there is no limit.
    pub(super) fn of(template: Option<&PodTemplate>) -> Self {
        let spec = template.and_then(PodTemplate::spec_json);
        let pod: PodSize = spec.and_then(|spec| serde_json::from_str(spec).ok()).unwrap_or_default();
        let sum = |name: &str| -> i128 {
            pod.containers.iter().filter_map(|container| container.resources.as_ref()?.get(name)).sum()
        };
        Self {
            cpus: whole(sum("cpu"), ONE).max(1),
            memory_mb: whole(sum("memory"), MIB).max(1),
            disk_mb: whole(sum("ephemeral-storage"), MIB),
        }
    }
}

impl Resources {
    fn get(&self, name: &str) -> Option<i128> {
        let of = |map: &Option<BTreeMap<String, Quantity>>| map.as_ref()?.get(name)?.nanos();
        of(&self.limits).or_else(|| of(&self.requests))
    }
}

/// Rounds up.
fn whole(nanos: i128, unit: i128) -> u32 {
    let units = nanos / unit + i128::from(nanos % unit > 0);
    u32::try_from(units.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: &str = "2030-01-01T12:00:00Z";

    fn common() -> Common {
        Common { envd_version: "0.2.10".to_owned(), domain: "example.com".to_owned() }
    }

    fn sandbox(spec: &serde_json::Value, phase: &str, ready: &str) -> Sandbox {
        serde_json::from_value(json!({
            "metadata": {
                "name": "a", "namespace": "ns", "creationTimestamp": "2030-01-01T10:00:00Z",
                "labels": {
                    "agents.kruise.io/sandbox-claimed": "true", "agents.kruise.io/sandbox-pool": "pool",
                    "agents.kruise.io/sandbox-template": "template",
                },
                "annotations": {"agents.kruise.io/claim-timestamp": "2030-01-01T13:00:00+02:00"},
            },
            "spec": spec,
            "status": {"phase": phase, "conditions": [
                {"type": "Ready", "status": ready, "reason": "r", "message": "", "lastTransitionTime": NOW},
            ]},
        }))
        .unwrap()
    }

    fn seen(sandbox: &Sandbox) -> Option<State> {
        state(sandbox, NOW.parse().unwrap())
    }

    #[test]
    fn e2b_4_5_the_states_that_clients_see() {
        let none = || json!({});
        for (spec, phase, ready, expected) in [
            (none(), "Running", "True", Some(State::Running)),
            (none(), "Running", "False", Some(State::Running)),
            (none(), "Pending", "False", Some(State::Running)),
            (none(), "Upgrading", "False", Some(State::Running)),
            (json!({"paused": true}), "Running", "True", Some(State::Paused)),
            (json!({"paused": true}), "Paused", "False", Some(State::Paused)),
            (none(), "Paused", "False", Some(State::Paused)),
            (none(), "Resuming", "False", Some(State::Paused)),
            (none(), "Failed", "False", None),
            (none(), "Succeeded", "False", None),
            (none(), "Terminating", "True", None),
            (none(), "Recycling", "True", None),
            (json!({"shutdownTime": "2030-01-01T11:59:59Z"}), "Running", "True", None),
            (json!({"shutdownTime": "2030-01-01T12:00:01Z"}), "Running", "True", Some(State::Running)),
        ] {
            assert_eq!(seen(&sandbox(&spec, phase, ready)), expected, "{phase} {ready} {spec}");
        }
        let mut kept = sandbox(&none(), "Running", "True");
        kept.metadata
            .labels
            .as_mut()
            .unwrap()
            .insert("agents.kruise.io/reserved-failed-sandbox".to_owned(), "true".to_owned());
        assert_eq!(seen(&kept), None);
    }

    #[test]
    fn e2b_2_2_a_detail_has_every_required_member_and_no_null() {
        let spec = json!({
            "pauseTime": "2030-01-01T12:30:00Z", "shutdownTime": "2130-01-01T12:30:00Z",
            "template": {"spec": {"containers": [{"name": "c", "resources": {
                "requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"},
            }}]}},
        });
        let sandbox = sandbox(&spec, "Running", "True");
        let detail = detail(&sandbox, State::Running, sandbox.spec.template.as_ref(), &common());
        assert_eq!(
            serde_json::to_value(detail).unwrap(),
            json!({
                "templateID": "pool", "sandboxID": "ns--a", "clientID": "", "startedAt": "2030-01-01T11:00:00Z",
                "endAt": "2030-01-01T12:30:00Z", "envdVersion": "0.2.10", "cpuCount": 1, "memoryMB": 2048,
                "diskSizeMB": 0, "state": "running", "metadata": {}, "domain": "example.com",
                "lifecycle": {"autoResume": false, "onTimeout": "pause"},
            })
        );
    }

    #[test]
    fn e2b_5_1_a_sandbox_without_an_end_ends_in_the_year_9999() {
        let sandbox = sandbox(&json!({}), "Running", "True");
        let listed = listed(&sandbox, State::Running, None, &common());
        assert_eq!(listed.end_at, "9999-12-31T23:59:59Z");
        assert_eq!((listed.cpu_count, listed.memory_mb), (1, 1));
    }

    #[test]
    fn sizes_are_summed_and_rounded_up() {
        let size = |containers: serde_json::Value| {
            let template = json!({"spec": {"containers": containers}});
            Size::of(serde_json::from_value(template).ok().as_ref())
        };
        let two = json!([
            {"resources": {"limits": {"cpu": "1500m", "memory": "1Gi", "ephemeral-storage": "1G"}}},
            {"resources": {"limits": {"cpu": 1}, "requests": {"memory": 1}}},
        ]);
        assert_eq!(size(two), Size { cpus: 3, memory_mb: 1025, disk_mb: 954 });
        let huge =
            json!([{"resources": {"limits": {"cpu": "9E", "memory": "-1", "ephemeral-storage": "x"}}}]);
        assert_eq!(size(huge), Size { cpus: u32::MAX, memory_mb: 1, disk_mb: 0 });
        assert_eq!(size(json!("none")), Size { cpus: 1, memory_mb: 1, disk_mb: 0 });
    }
}
