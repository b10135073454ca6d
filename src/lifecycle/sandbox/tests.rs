//! Tests of decisions by rule, and the property that they come to an end from every state.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::decision::{Action, Decision};
use super::model::{World, condition, now, pod_ready, running};
use super::observed::Template;
use super::outcome::POD_NOT_FOUND;
use super::volume::Obstacle;
use crate::api::v1alpha1::{FINALIZER_SANDBOX, Sandbox, SandboxPhase};
use crate::lifecycle::events::Reason;

fn phase(world: &World) -> &str {
    world.sandbox().phase().map_or("", SandboxPhase::as_str)
}

/// Returns status and reason of a condition.
fn of<'a>(sandbox: &'a Sandbox, type_: &str) -> (&'a str, &'a str) {
    sandbox.condition(type_).map_or(("", ""), |known| (known.status.as_str(), &*known.reason))
}

fn reasons(decision: &Decision) -> Vec<Reason> {
    decision.events.iter().map(|(reason, _)| *reason).collect()
}

fn has_finalizer(sandbox: &Sandbox) -> bool {
    sandbox.metadata.finalizers.iter().flatten().any(|known| known == FINALIZER_SANDBOX)
}

#[test]
fn ls1_a_new_sandbox_gets_a_pod_and_one_status_and_runs_when_the_pod_is_ready() {
    let mut world = World::new(json!({}));
    let decision = world.decide();
    assert!(matches!(&decision.actions[..], [Action::CreatePod { .. }, Action::WriteStatus]), "{decision:?}");
    assert_eq!(reasons(&decision), [Reason::SandboxPending]);
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Pending", ("False", "PodReady")));
    let status = world.sandbox().status.clone().unwrap();
    let revision = status.update_revision.clone().unwrap();
    let pod = world.pod.clone().unwrap();
    assert_eq!(pod.metadata.labels.unwrap()["pod-template-hash"], *revision);

    world.advance();
    let decision = world.decide();
    assert_eq!(decision.actions, [Action::WriteStatus]);
    assert_eq!(reasons(&decision), [Reason::SandboxRunning]);
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Running", ("True", "PodReady")));
    let status = world.sandbox().status.as_ref().unwrap();
    let info = status.pod_info.as_ref().unwrap();
    assert_eq!(info.pod_uid.as_ref().unwrap().to_string(), "pod-1");
    assert_eq!(status.sandbox_ip.as_ref().unwrap().to_string(), "10.0.0.7");
    assert_eq!(status.update_revision.as_deref(), Some(&*revision));
}

#[test]
fn ls1_an_ended_pod_ends_the_sandbox_with_its_message() {
    for from in ["Pending", "Running", "Resuming"] {
        for (pod, expected) in [("Failed", "Failed"), ("Succeeded", "Succeeded")] {
            let mut status = running();
            status["phase"] = json!(from);
            let pod = json!({"phase": pod, "message": "why"});
            let mut world = World::new(json!({"status": status})).with_pod(pod);
            world.settle();
            assert_eq!(phase(&world), expected, "{from}");
            assert_eq!(world.sandbox().status.as_ref().unwrap().message.as_deref(), Some("why"));
            assert_eq!(of(world.sandbox(), "Ready").0, "False");
            assert!(world.pod.is_some());
        }
    }
}

#[test]
fn ls1_a_running_sandbox_whose_pod_is_gone_or_going_has_failed() {
    let gone = World::new(json!({"status": running()}));
    let mut going = gone.clone().with_pod(pod_ready());
    going.pod.as_mut().unwrap().metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    let foreign = gone.clone().with_foreign_pod();
    for mut world in [gone, going, foreign] {
        assert_eq!(reasons(&world.decide()), [Reason::SandboxFailed]);
        world.settle();
        assert_eq!(phase(&world), "Failed");
        assert_eq!(world.sandbox().status.as_ref().unwrap().message.as_deref(), Some(POD_NOT_FOUND));
        assert_eq!(world.steps, [Action::WriteStatus]);
    }
}

#[test]
fn lc2_the_api_server_is_asked_before_a_step_that_cannot_be_undone() {
    let pausing = json!({
        "phase": "Paused", "observedGeneration": 1, "conditions": [condition("SandboxPaused", "False", "DeletePod")],
    });
    for fields in [
        json!({"status": running()}),
        json!({"spec": {"paused": true}, "status": pausing}),
        json!({"metadata": {"deletionTimestamp": "2029-01-01T00:00:00Z", "finalizers": [FINALIZER_SANDBOX]}}),
    ] {
        for world in [World::new(fields.clone()), World::new(fields.clone()).with_foreign_pod()] {
            let sandbox = world.sandbox().clone();
            let decision = super::decide::decide(&world.observe(&sandbox));
            assert_eq!(decision.actions, [Action::ReadPod], "{fields}");
        }
    }
}

#[test]
fn ls1_ls6_pausing_says_so_before_the_pod_is_deleted_and_ends_when_it_is_gone() {
    let mut status = running();
    let resumed = condition("SandboxResumed", "True", "ResumePod");
    status["conditions"].as_array_mut().unwrap().push(resumed);
    let mut world = World::new(json!({"spec": {"paused": true}, "status": status})).with_pod(pod_ready());
    let decision = world.decide();
    let delete = Action::DeletePod { uid: "pod-1".into(), grace: Some(5) };
    assert_eq!(decision.actions, [Action::SetFinalizer(true), Action::WriteStatus, delete]);
    assert_eq!(reasons(&decision), [Reason::SandboxPaused]);
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "SandboxPaused")), ("Paused", ("False", "DeletePod")));
    assert_eq!(of(world.sandbox(), "Ready").0, "False");
    assert!(world.sandbox().condition("SandboxResumed").is_none());

    world.advance();
    world.settle();
    assert_eq!(of(world.sandbox(), "SandboxPaused"), ("True", "StopPauseSucceed"));
    let status = world.sandbox().status.as_ref().unwrap();
    assert!(status.pod_info.is_none() && status.sandbox_ip.is_none());
    assert!(has_finalizer(world.sandbox()) && world.pod.is_none());
}

#[test]
fn ls1_a_sandbox_that_does_not_run_yet_is_paused_at_once() {
    let upgrading = condition("Upgrading", "True", "Upgrading");
    for from in ["Pending", "Resuming", "Upgrading"] {
        let mut status = running();
        status["phase"] = json!(from);
        status["conditions"].as_array_mut().unwrap().push(upgrading.clone());
        let world = World::new(json!({"spec": {"paused": true}, "status": status}));
        for mut world in
            [world.clone(), world.clone().with_foreign_pod(), world.with_pod(json!({"phase": "Pending"}))]
        {
            assert_eq!(reasons(&world.decide()), [Reason::SandboxPaused], "{from}");
            world.settle();
            world.advance();
            world.settle();
            assert_eq!(phase(&world), "Paused", "{from}");
            assert_eq!(of(world.sandbox(), "SandboxPaused"), ("True", "StopPauseSucceed"));
            assert_eq!(of(world.sandbox(), "Upgrading"), ("", ""), "the next pod has the template");
            assert!(world.pod.is_none());
            assert!(!world.steps.iter().any(|step| matches!(step, Action::CreatePod { .. })));

            world.sandbox.as_mut().unwrap().spec.paused = Some(false);
            for _ in 0..3 {
                world.settle();
                world.advance();
            }
            assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Running", ("True", "PodReady")));
        }
    }
}

#[test]
fn ls1_an_ended_pod_ends_a_sandbox_that_is_to_be_paused_unless_the_pod_is_being_deleted() {
    for (going, expected) in [(false, "Failed"), (true, "Paused")] {
        let mut status = running();
        status["phase"] = json!("Upgrading");
        let world = World::new(json!({"spec": {"paused": true}, "status": status}));
        let mut world = world.with_pod(json!({"phase": "Failed", "message": "why"}));
        if going {
            world.pod.as_mut().unwrap().metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        }
        world.settle();
        assert_eq!(phase(&world), expected);
    }
}

#[test]
fn ls1_a_sandbox_that_is_created_paused_gets_no_pod_before_it_is_resumed() {
    let mut world = World::new(json!({"spec": {"paused": true}}));
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "SandboxPaused").0), ("Paused", "True"));
    assert!(world.steps.iter().all(|step| matches!(step, Action::SetFinalizer(true) | Action::WriteStatus)));
    world.sandbox.as_mut().unwrap().spec.paused = None;
    for _ in 0..3 {
        world.settle();
        world.advance();
    }
    assert_eq!(phase(&world), "Running");
}

#[test]
fn ls1_a_pause_finishes_before_the_resume_begins() {
    let conditions =
        [condition("SandboxPaused", "False", "DeletePod"), condition("Ready", "False", "PodReady")];
    let status = json!({"phase": "Paused", "observedGeneration": 1, "conditions": conditions});
    let mut world = World::new(json!({"spec": {"paused": false}, "status": status})).with_pod(pod_ready());
    world.settle();
    assert_eq!(phase(&world), "Paused");
    assert!(world.pod.as_ref().unwrap().metadata.deletion_timestamp.is_some());
    world.advance();
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "SandboxResumed")), ("Resuming", ("False", "CreatePod")));
    assert!(world.sandbox().condition("SandboxPaused").is_none());
}

#[test]
fn ls1_ls6_a_resumed_sandbox_has_a_new_pod_and_no_finalizer() {
    let conditions =
        [condition("SandboxPaused", "True", "SetPause"), condition("Ready", "False", "PodReady")];
    let status = json!({"phase": "Paused", "observedGeneration": 1, "updateRevision": "old", "conditions": conditions});
    let metadata = json!({"generation": 2, "finalizers": [FINALIZER_SANDBOX]});
    let mut world = World::new(json!({"metadata": metadata, "status": status}));
    assert_eq!(reasons(&world.decide()), [Reason::SandboxResuming]);
    world.settle();
    assert_eq!(phase(&world), "Resuming");
    assert_ne!(world.sandbox().status.as_ref().unwrap().update_revision.as_deref(), Some("old"));
    world.advance();
    let decision = world.decide();
    assert_eq!(decision.events, [(Reason::SandboxRunning, "Sandbox resumed".to_owned())]);
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "SandboxResumed")), ("Running", ("True", "ResumePod")));
    assert!(!has_finalizer(world.sandbox()));
}

#[test]
fn ls1_a_container_that_cannot_start_is_shown_in_every_phase_until_it_starts() {
    let waiting = json!({"reason": "CrashLoopBackOff", "message": "back-off 10s"});
    let crash = json!({
        "phase": "Running", "podIP": "10.0.0.7",
        "containerStatuses": [{"name": "a", "image": "i:1", "imageID": "", "ready": false, "restartCount": 1, "state": {"waiting": waiting}}],
    });
    for from in ["Pending", "Resuming", "Running"] {
        let mut status = running();
        status["phase"] = json!(from);
        let mut world = World::new(json!({"status": status})).with_pod(crash.clone());
        world.settle();
        assert_eq!((phase(&world), of(world.sandbox(), "Ready")), (from, ("False", "StartContainerFailed")));
        assert_eq!(&*world.sandbox().condition("Ready").unwrap().message, "back-off 10s");
        world.advance();
        world.settle();
        assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Running", ("True", "PodReady")));
    }
}

#[test]
fn ls1_ls6_a_deleted_sandbox_loses_its_pod_and_then_the_finalizer() {
    let metadata = json!({"deletionTimestamp": "2029-01-01T00:00:00Z", "finalizers": [FINALIZER_SANDBOX]});
    let mut world = World::new(json!({"metadata": metadata, "status": running()})).with_pod(pod_ready());
    world.settle();
    assert_eq!(world.steps, [Action::DeletePod { uid: "pod-1".into(), grace: None }]);
    assert!(has_finalizer(world.sandbox()));
    world.advance();
    world.settle();
    assert!(world.sandbox.is_none());
    assert_eq!(world.steps.last(), Some(&Action::SetFinalizer(false)));
}

#[test]
fn lc3_a_foreign_pod_is_neither_adopted_nor_deleted_and_the_sandbox_goes_on_when_it_is_gone() {
    let mut world = World::new(json!({})).with_foreign_pod();
    let decision = world.decide();
    assert_eq!(reasons(&decision), [Reason::PodNameTaken]);
    assert!(decision.requeue.is_some());
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Pending", ("False", "PodNameTaken")));
    assert!(world.decide().events.is_empty(), "it is said once");
    assert_eq!(world.steps, [Action::WriteStatus]);
    world.advance();
    world.settle();
    world.advance();
    world.settle();
    assert_eq!((phase(&world), &world.sandbox().status.as_ref().unwrap().message), ("Running", &None));
}

#[test]
fn ls2_a_missing_template_is_waited_for() {
    let mut world = World::new(json!({"spec": {"template": null, "templateRef": {"name": "t"}}}));
    world.template = Template::Missing("t".into());
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Pending", ("False", "TemplateNotFound")));
    let template = json!({"metadata": {"name": "t"}, "spec": {"template": {"spec": {"containers": []}}}});
    world.template = Template::Referred(std::sync::Arc::new(serde_json::from_value(template).unwrap()));
    world.settle();
    assert!(world.pod.is_some());
}

#[test]
fn ls3_no_pod_is_created_for_a_volume_claim_that_is_being_deleted() {
    let mut world = World::new(json!({}));
    world.obstacle = Some(Obstacle::Ending("data-s".into()));
    world.settle();
    assert!(world.pod.is_none());
    let status = world.sandbox().status.as_ref().unwrap();
    assert_eq!(status.message.as_deref(), Some("volume claim data-s is being deleted"));
}

#[test]
fn ls3_no_pod_is_created_for_a_volume_claim_of_another_sandbox_and_that_is_said_once() {
    let mut world = World::new(json!({}));
    world.obstacle = Some(Obstacle::Taken { claim: "data-s".into(), owner: "Sandbox s (UID old)".into() });
    let decision = world.decide();
    assert_eq!(reasons(&decision), [Reason::VolumeClaimNameTaken]);
    assert!(decision.requeue.is_some());
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Pending", ("False", "VolumeClaimNameTaken")));
    assert!(world.decide().events.is_empty());
    world.obstacle = None;
    world.settle();
    assert!(world.pod.is_some());
    assert_eq!(world.sandbox().status.as_ref().unwrap().message, None);
}

#[test]
fn lc7_a_refused_pod_is_not_created_before_its_time() {
    let mut world = World::new(json!({}));
    world.held = Some(Duration::from_secs(7));
    let decision = world.decide();
    assert_eq!(decision.requeue, Some(Duration::from_secs(7)));
    assert!(!decision.actions.iter().any(|action| matches!(action, Action::CreatePod { .. })));
}

#[test]
fn ls4_a_foreign_revision_stays_while_the_generation_is_observed() {
    let status = json!({"phase": "Pending", "observedGeneration": 1, "updateRevision": "foreign"});
    for (generation, stays) in [(1, true), (2, false)] {
        let mut world = World::new(json!({"metadata": {"generation": generation}, "status": status.clone()}));
        world.settle();
        let labels = world.pod.unwrap().metadata.labels.unwrap();
        assert_eq!(labels["pod-template-hash"] == "foreign", stays);
    }
}

/// A status that goes on to describe the current spec while the pod has to wait.
#[test]
fn ls4_a_revision_of_an_older_template_is_not_that_of_the_next_pod() {
    let paused = json!([condition("SandboxPaused", "True", "SetPause")]);
    let world = || World::new(json!({"metadata": {"generation": 2}}));
    let going = || {
        let mut world = world().with_pod(pod_ready());
        world.pod.as_mut().unwrap().metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        world
    };
    let obstacle = || {
        let mut world = world();
        world.obstacle = Some(Obstacle::Ending("data-s".into()));
        world
    };
    let foreign = || world().with_foreign_pod();
    let mut worlds = vec![("Paused", 1, obstacle()), ("Paused", 2, going())];
    for phase in ["Pending", "Resuming", "Upgrading"] {
        worlds.extend([(phase, 1, obstacle()), (phase, 1, foreign()), (phase, 1, going())]);
    }
    for (phase, observed, mut world) in worlds {
        let status = json!({
            "phase": phase, "observedGeneration": observed, "updateRevision": "old", "conditions": paused,
        });
        world.sandbox.as_mut().unwrap().status = Some(serde_json::from_value(status).unwrap());
        world.settle();
        world.obstacle = None;
        world.advance();
        world.settle();
        let revision = crate::lifecycle::revision::of(world.sandbox().spec.template.as_ref().unwrap());
        let shown = world.sandbox().status.as_ref().unwrap().update_revision.as_deref();
        assert_eq!(shown, Some(&*revision), "{phase} {observed}");
        assert_eq!(world.pod.unwrap().metadata.labels.unwrap()["pod-template-hash"], revision, "{phase}");
    }
}

#[test]
fn ls5_timers_fire_in_every_phase() {
    for from in
        ["", "Pending", "Running", "Paused", "Resuming", "Upgrading", "Failed", "Succeeded", "Recycling"]
    {
        let status = json!({"phase": from, "observedGeneration": 1});
        let past = "2029-12-31T23:59:59Z";
        let world =
            World::new(json!({"spec": {"shutdownTime": past, "pauseTime": past}, "status": status.clone()}));
        let decision = world.decide();
        assert_eq!(
            (&decision.actions[..], reasons(&decision)),
            (&[Action::ShutDown][..], vec![Reason::ShutdownTimeReached])
        );
        let world = World::new(json!({"spec": {"pauseTime": past}, "status": status.clone()}));
        let pauses = world.decide().actions == [Action::Pause];
        assert_eq!(pauses, !matches!(from, "Failed" | "Succeeded"), "{from}");
        let future = json!({"shutdownTime": "2030-01-01T00:01:00Z"});
        let world = World::new(json!({"spec": future, "status": status}));
        let requeue = world.decide().requeue.expect("a timer");
        assert!(requeue <= Duration::from_mins(1), "{from}");
    }
}

#[test]
fn ls8_a_pod_of_anybody_that_fits_is_adopted_without_a_step() {
    let mut world = World::new(json!({"status": running()})).with_pod(pod_ready());
    world.settle();
    assert!(world.steps.is_empty(), "{:?}", world.steps);
}

#[test]
fn ls9_changed_labels_are_carried_to_the_running_pod() {
    let mut world =
        World::new(json!({"metadata": {"generation": 2}, "status": running()})).with_pod(pod_ready());
    world.pod.as_mut().unwrap().metadata.labels.as_mut().unwrap().insert("app".into(), "old".into());
    world.settle();
    let Some(Action::PatchPod { change, .. }) = world.steps.first() else { panic!("{:?}", world.steps) };
    assert_eq!(change.labels["app"], "x");
    assert!(change.images.is_empty());
    assert_eq!((phase(&world), of(world.sandbox(), "Ready").0), ("Running", "True"));
    let revision = world.sandbox().status.as_ref().unwrap().update_revision.clone().unwrap();
    assert_eq!(world.pod.unwrap().metadata.labels.unwrap()["pod-template-hash"], *revision);
}

#[test]
fn ls9_an_edited_template_that_is_referred_to_does_not_change_the_running_pod() {
    let spec = json!({"template": null, "templateRef": {"name": "t"}});
    let mut world = World::new(json!({"spec": spec}));
    let template = |image: &str| {
        let spec = json!({"template": {"spec": {"containers": [{"name": "a", "image": image}]}}});
        let template = json!({"metadata": {"name": "t"}, "spec": spec});
        Template::Referred(std::sync::Arc::new(serde_json::from_value(template).unwrap()))
    };
    world.template = template("i:1");
    world.settle();
    world.advance();
    world.settle();
    let before = world.sandbox().status.as_ref().unwrap().update_revision.clone();
    world.template = template("i:2");
    world.sandbox.as_mut().unwrap().metadata.generation = Some(2);
    world.steps.clear();
    world.settle();
    assert_eq!(world.steps, [Action::WriteStatus], "the generation is observed");
    assert_eq!((phase(&world), of(world.sandbox(), "Ready").0), ("Running", "True"));
    assert_eq!(world.sandbox().status.as_ref().unwrap().update_revision, before);
}

fn with_image(world: World, image: &str, policy: Option<&str>) -> World {
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "a", "image": image}]}});
    let mut world = world;
    let sandbox = world.sandbox.as_mut().unwrap();
    sandbox.spec.template = Some(serde_json::from_value(template).unwrap());
    sandbox.metadata.generation = Some(2);
    if let Some(policy) = policy {
        let policy = crate::api::v1alpha1::UpgradePolicy { type_: Some(policy.into()) };
        sandbox.spec.rare.get_or_insert_default().upgrade_policy = Some(policy);
    }
    world
}

fn running_world() -> World {
    let mut world = World::new(json!({"status": running()})).with_pod(pod_ready());
    world.advance();
    world
}

#[test]
fn ls9_an_image_is_changed_in_place_and_the_sandbox_is_ready_when_the_pod_runs_it() {
    let mut world = with_image(running_world(), "i:2", None);
    assert_eq!(reasons(&world.decide()), [Reason::SandboxUpdating]);
    world.settle();
    assert_eq!(of(world.sandbox(), "InplaceUpdate"), ("False", "InplaceUpdating"));
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Running", ("False", "InplaceUpdating")));
    assert_eq!(
        world.pod.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image.as_deref(),
        Some("i:2")
    );
    world.advance();
    world.settle();
    assert_eq!(of(world.sandbox(), "InplaceUpdate"), ("True", "Succeeded"));
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Running", ("True", "PodReady")));
}

#[test]
fn ls9_what_needs_a_new_pod_is_refused_without_a_policy_and_fits_again_when_it_is_taken_back() {
    let mut world = with_image(running_world(), "i:2", None);
    world.refuses_updates = true;
    world.settle();
    assert_eq!(of(world.sandbox(), "InplaceUpdate"), ("False", "RecreateNotAllowed"));
    let message = &world.sandbox().condition("InplaceUpdate").unwrap().message;
    assert_eq!(&**message, "containers[a].image cannot be changed in the running pod: refused");
    assert_eq!((phase(&world), of(world.sandbox(), "Ready").0), ("Running", "True"));
    let mut world = with_image(world, "i:1", None);
    world.sandbox.as_mut().unwrap().metadata.generation = Some(3);
    world.settle();
    assert_eq!(of(world.sandbox(), "InplaceUpdate"), ("True", "Succeeded"));
}

#[test]
fn ls9_the_policy_recreate_allows_a_new_pod() {
    let mut world = with_image(running_world(), "i:2", Some("Recreate"));
    world.refuses_updates = true;
    world.settle();
    assert_eq!((phase(&world), of(world.sandbox(), "Ready")), ("Upgrading", ("False", "Upgrading")));
    for _ in 0..3 {
        world.advance();
        world.settle();
    }
    assert_eq!((phase(&world), of(world.sandbox(), "Upgrading")), ("Running", ("False", "Succeeded")));
    let pod = world.pod.unwrap();
    assert_eq!(pod.metadata.uid.as_deref(), Some("pod-2"));
    assert_eq!(pod.spec.unwrap().containers[0].image.as_deref(), Some("i:2"));
}

#[test]
fn a_pause_that_should_hibernate_stops_and_says_so() {
    let spec = json!({"paused": true, "pauseStrategy": {"type": "Hibernate"}});
    let mut world = World::new(json!({"spec": spec, "status": running()})).with_pod(pod_ready());
    assert_eq!(reasons(&world.decide()), [Reason::SandboxPaused, Reason::HibernateNotSupported]);
    world.settle();
    world.advance();
    world.settle();
    assert_eq!(of(world.sandbox(), "SandboxPaused"), ("True", "HibernateNotSupported"));
}

#[test]
fn lc4_the_ready_condition_keeps_its_transition_time_while_its_status_is_the_same() {
    let mut world = with_image(running_world(), "i:2", None);
    world.settle();
    // The pod is ready and does not run the image yet.
    world.set_pod_status(pod_ready());
    let conditions = world.sandbox.as_mut().unwrap().status.as_mut().unwrap().conditions.as_mut().unwrap();
    for condition in conditions.iter_mut() {
        condition.last_transition_time = Some("2029-06-01T00:00:00Z".parse().unwrap());
    }
    // Ready is True in a first step of the decision and False again in a later one.
    let decision = world.decide();
    assert!(decision.actions.is_empty(), "{decision:?}");
    assert_eq!(of(world.sandbox(), "Ready"), ("False", "InplaceUpdating"));
}

fn any_condition() -> impl Strategy<Value = Vec<Value>> {
    let one = |type_: &'static str, reasons: &'static [&'static str]| {
        let made = (prop::sample::select(vec!["True", "False"]), prop::sample::select(reasons))
            .prop_map(move |(status, reason)| condition(type_, status, reason));
        prop::option::of(made)
    };
    (
        one("Ready", &["PodReady", "StartContainerFailed", "PodCreateFailed", "InplaceUpdating"]),
        one("SandboxPaused", &["DeletePod", "SetPause", "StopPauseSucceed"]),
        one("SandboxResumed", &["CreatePod", "ResumePod"]),
        one(
            "InplaceUpdate",
            &["InplaceUpdating", "Succeeded", "Failed", "RecreateNotAllowed", "PodUpdateFailed"],
        ),
    )
        .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect())
}

prop_compose! {
    fn any_spec()(
        paused in prop::option::of(any::<bool>()),
        hibernate in prop::bool::weighted(0.2),
        policy in prop::option::of(prop::sample::select(vec!["Recreate", "CheckpointRestore"])),
        image in prop::sample::select(vec!["i:1", "i:2"]),
        resources in prop::option::of(prop::sample::select(vec!["1", "2"])),
        command in prop::option::of(Just("run")),
        timers in (prop::option::of(0_u8..2), prop::option::of(0_u8..2)),
    ) -> Value {
        let mut container = json!({"name": "a", "image": image});
        if let Some(cpu) = resources {
            container["resources"] = json!({"requests": {"cpu": cpu}});
        }
        if let Some(command) = command {
            container["command"] = json!([command]);
        }
        let time = |past: Option<u8>| {
            past.map(|past| if past == 1 { "2029-06-01T00:00:00Z" } else { "2030-06-01T00:00:00Z" })
        };
        let mut spec = json!({
            "paused": paused,
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [container]}},
            "shutdownTime": time(timers.0),
            "pauseTime": time(timers.1),
        });
        if hibernate {
            spec["pauseStrategy"] = json!({"type": "Hibernate"});
        }
        if let Some(policy) = policy {
            spec["upgradePolicy"] = json!({"type": policy});
        }
        spec
    }
}

prop_compose! {
    fn any_world()(
        spec in any_spec(),
        pod_spec in any_spec(),
        conditions in any_condition(),
        phase in prop::sample::select(vec![
            "", "Pending", "Running", "Paused", "Resuming", "Upgrading", "Succeeded", "Failed", "Recycling",
        ]),
        observed in 1_i64..=2,
        revision in prop::option::of(Just("foreign")),
        has_status in prop::bool::weighted(0.9),
        finalizer in any::<bool>(),
        deleted in prop::bool::weighted(0.2),
        pod in prop::sample::select(vec!["absent", "starting", "ready", "crash", "Failed", "Succeeded", "going", "foreign"]),
        refuses_updates in any::<bool>(),
        forbids_updates in prop::bool::weighted(0.2),
        marked in any::<bool>(),
    ) -> World {
        let mut metadata = json!({"generation": 2});
        if finalizer {
            metadata["finalizers"] = json!([FINALIZER_SANDBOX]);
        }
        if deleted {
            metadata["deletionTimestamp"] = json!("2029-12-31T00:00:00Z");
            metadata["finalizers"] = json!([FINALIZER_SANDBOX]);
        }
        let mut fields = json!({"metadata": metadata, "spec": pod_spec});
        if has_status {
            fields["status"] = json!({
                "phase": phase, "observedGeneration": observed, "updateRevision": revision,
                "conditions": conditions, "podInfo": {"podIP": "10.0.0.1"},
            });
        }
        let mut world = World::new(fields);
        (world.refuses_updates, world.forbids_updates) = (refuses_updates, forbids_updates);
        let waiting = json!({"reason": "ImagePullBackOff", "message": "m"});
        world = match pod {
            "absent" => world,
            "starting" => world.with_pod(json!({"phase": "Pending"})),
            "crash" => world.with_pod(json!({"phase": "Pending", "containerStatuses": [{
                "name": "a", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": waiting},
            }]})),
            "foreign" => world.with_foreign_pod(),
            "Failed" | "Succeeded" => world.with_pod(json!({"phase": pod})),
            _ => world.with_pod(pod_ready()),
        };
        if pod == "going" {
            world.pod.as_mut().unwrap().metadata.deletion_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
        }
        if !marked {
            world = world.unmarked();
        }
        // The pod was made of an older template.
        world.sandbox.as_mut().unwrap().spec = serde_json::from_value(spec).unwrap();
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    /// From every state the decisions come to an end, whatever the cluster does between them. The model fails if a pod of
    /// another UID is deleted, or a pod is created while the name is taken.
    #[test]
    fn every_state_comes_to_rest_and_the_spec_is_met(mut world in any_world()) {
        let was_deleted = world.sandbox().metadata.deletion_timestamp.is_some();
        let was_paused = world.sandbox().spec.paused == Some(true);
        for _ in 0..12 {
            world.settle();
            world.advance();
        }
        world.settle();
        let created = world.steps.iter().any(|step| matches!(step, Action::CreatePod { .. }));
        prop_assert!(!(was_paused && created), "a paused sandbox gets a pod");
        let past = |time: &Option<crate::api::v1alpha1::Time>| time.as_ref().is_some_and(|at| at.timestamp() <= now());
        let Some(sandbox) = &world.sandbox else {
            let is_foreign = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid == "another";
            prop_assert!(world.pod.as_ref().is_none_or(is_foreign), "a pod is left");
            return Ok(());
        };
        prop_assert!(!was_deleted && !past(&sandbox.spec.shutdown_time), "it should be gone: {sandbox:?}");
        let paused = sandbox.spec.paused == Some(true);
        prop_assert!(paused || !past(&sandbox.spec.pause_time) || matches!(phase(&world), "Failed" | "Succeeded"));
        match phase(&world) {
            "Running" => {
                prop_assert!(!paused);
                prop_assert_eq!(of(sandbox, "Ready"), ("True", "PodReady"));
                let info = sandbox.status.as_ref().unwrap().pod_info.as_ref().unwrap();
                let uid = info.pod_uid.as_ref().map(ToString::to_string);
                prop_assert_eq!(uid, world.pod.as_ref().unwrap().metadata.uid.clone());
                prop_assert_ne!(of(sandbox, "InplaceUpdate").1, "InplaceUpdating");
            }
            "Paused" => {
                prop_assert!(paused);
                prop_assert_eq!(of(sandbox, "SandboxPaused").0, "True");
            }
            "Failed" | "Succeeded" | "Recycling" => {}
            other => prop_assert!(false, "it stays in {:?}: {:?}", other, sandbox),
        }
    }
}
