//! Tests of a changed template on a cluster whose admission changes pods (LS8, LS9).

use proptest::prelude::*;
use serde_json::{Value, json};

use super::decision::Action;
use super::made::Made;
use super::model::{World, pod_ready, running};
use crate::api::v1alpha1::{
    CONDITION_INPLACE_UPDATE, Condition, LABEL_POD_TEMPLATE_HASH, Sandbox, SandboxPhase,
};

/// A template whose container sets what admission may change.
fn template(labels: &Value, container: &Value) -> Value {
    let mut full = json!({
        "name": "a", "image": "i:1", "imagePullPolicy": "IfNotPresent", "command": ["run"],
        "env": [{"name": "E", "value": "1"}], "resources": {"requests": {"cpu": "1"}},
    });
    for (field, value) in container.as_object().unwrap() {
        full[field] = value.clone();
    }
    json!({"metadata": {"labels": labels}, "spec": {"containers": [full], "hostNetwork": false}})
}

/// A running sandbox with this template. If the pod is another controller's, it does not tell of which spec it was made.
fn running_world(admission: Vec<(&'static str, Value)>, policy: Option<&str>, is_ours: bool) -> World {
    let mut spec = json!({"template": template(&json!({"app": "x"}), &json!({}))});
    if let Some(policy) = policy {
        spec["upgradePolicy"] = json!({"type": policy});
    }
    let mut world = World::new(json!({"spec": spec, "status": running()}));
    world.admission = admission;
    world = world.with_pod(pod_ready());
    if !is_ours {
        world = world.unmarked();
    }
    world.settle();
    assert!(world.steps.is_empty(), "adopted without a step: {:?}", world.steps);
    world
}

fn change(world: &mut World, template: Value) {
    let sandbox = world.sandbox.as_mut().unwrap();
    sandbox.spec.template = Some(serde_json::from_value(template).unwrap());
    *sandbox.metadata.generation.as_mut().unwrap() += 1;
    world.steps.clear();
}

fn pod_spec(world: &World) -> Value {
    serde_json::to_value(&world.pod.as_ref().unwrap().spec).unwrap()
}

fn hash_label(world: &World) -> &str {
    &world.pod.as_ref().unwrap().metadata.labels.as_ref().unwrap()[LABEL_POD_TEMPLATE_HASH]
}

fn update_reason(sandbox: &Sandbox) -> &str {
    sandbox.condition(CONDITION_INPLACE_UPDATE).map_or("", |known| &known.reason)
}

/// What a mirror and `AlwaysPullImages` do.
fn mirrored() -> Vec<(&'static str, Value)> {
    vec![
        ("/spec/containers/0/image", json!("mirror.test/i:1")),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
    ]
}

fn any_admission() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let changes = vec![
        ("/spec/containers/0/image", json!("mirror.test/i:1")),
        ("/spec/containers/0/imagePullPolicy", json!("Always")),
        ("/spec/containers/0/command", json!(["wrapped"])),
        ("/spec/containers/0/env", json!([{"name": "E", "value": "2"}])),
        ("/spec/containers/0/resources", json!({"requests": {"cpu": "7"}, "limits": {"cpu": "9"}})),
        ("/spec/containers/0/readinessProbe", json!({"exec": {"command": ["probe"]}})),
        ("/spec/containers", json!([{"name": "a", "image": "i:9"}, {"name": "b", "image": "added"}])),
        ("/spec/hostNetwork", json!(true)),
        ("/spec/volumes", json!([{"name": "v", "emptyDir": {}}])),
        ("/metadata/labels/app", json!("of admission")),
        ("/metadata/annotations/added", json!("1")),
    ];
    prop::sample::subsequence(changes, 0..=6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever admission does, labels are carried to the pod and nothing else, whoever has made the pod.
    #[test]
    fn ls9_a_change_of_labels_never_touches_the_spec_of_a_pod_that_admission_has_changed(
        admission in any_admission(),
        policy in prop::option::of(Just("Recreate")),
        is_ours in any::<bool>(),
        restarts in any::<bool>(),
    ) {
        let mut world = running_world(admission, policy, is_ours);
        for (round, owner) in ["u-1", "u-2"].into_iter().enumerate() {
            let before = pod_spec(&world);
            change(&mut world, template(&json!({"app": "x", "owner": owner}), &json!({})));
            world.settle();
            for step in &world.steps {
                let is_metadata = match step {
                    Action::WriteStatus => true,
                    Action::PatchPod { change, .. } => change.images.is_empty(),
                    _ => false,
                };
                prop_assert!(is_metadata, "round {}: {:?}", round, world.steps);
            }
            prop_assert_eq!(&pod_spec(&world), &before);
            prop_assert_eq!(world.sandbox().phase(), Some(&SandboxPhase::Running));
            prop_assert_eq!(&world.pod.as_ref().unwrap().metadata.labels.as_ref().unwrap()["owner"], owner);
            prop_assert!(world.sandbox().is_ready() && update_reason(world.sandbox()).is_empty());
            let steps = world.steps.len();
            world.advance();
            world.settle();
            prop_assert_eq!(steps, world.steps.len(), "it rests");
            if restarts {
                // What is remembered is lost. The pod tells it now.
                world.adopted = None;
            }
        }
        prop_assert_eq!(world.pods_created, 1);
    }

    /// A pod is replaced once for a change of the spec, whatever admission makes of the new one.
    #[test]
    fn ls9_a_changed_spec_leads_to_one_new_pod_with_the_policy_and_to_none_without(
        admission in any_admission(),
        recreate in any::<bool>(),
        is_ours in any::<bool>(),
    ) {
        let mut world = running_world(admission, recreate.then_some("Recreate"), is_ours);
        let label = hash_label(&world).to_owned();
        change(&mut world, template(&json!({"app": "x", "owner": "u"}), &json!({"workingDir": "/new"})));
        for _ in 0..6 {
            world.settle();
            world.advance();
        }
        world.settle();
        prop_assert_eq!(world.sandbox().phase(), Some(&SandboxPhase::Running));
        prop_assert!(world.sandbox().is_ready());
        prop_assert_eq!(world.pods_created, if recreate { 2 } else { 1 });
        if !recreate {
            prop_assert_eq!(update_reason(world.sandbox()), "RecreateNotAllowed");
            prop_assert_eq!(hash_label(&world), label, "it is no pod of the new template");
            change(&mut world, template(&json!({"app": "x", "owner": "u"}), &json!({})));
            let before = pod_spec(&world);
            world.settle();
            prop_assert_eq!(update_reason(world.sandbox()), "Succeeded", "the template fits again");
            prop_assert_eq!(pod_spec(&world), before);
        }
    }
}

#[test]
fn ls9_an_update_in_place_changes_what_the_template_has_changed_and_nothing_that_admission_has() {
    let mut world = running_world(mirrored(), None, true);
    let resources = json!({"requests": {"cpu": "2"}});
    change(&mut world, template(&json!({"app": "x"}), &json!({"resources": resources})));
    world.settle();
    let Some(Action::ResizePod { resources: changes, .. }) = world.steps.get(1) else {
        panic!("{:?}", world.steps)
    };
    assert_eq!(changes[0].value, resources);
    let Some(Action::PatchPod { change: patch, .. }) = world.steps.get(2) else {
        panic!("{:?}", world.steps)
    };
    assert!(patch.images.is_empty(), "the image stays that of the mirror");
    let spec = json!({"containers": [], "hostNetwork": false});
    assert_ne!(Made::on(world.pod.as_ref().unwrap()), Some(Made::of(&spec)));
    world.advance();
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "Succeeded");
    let container = &pod_spec(&world)["containers"][0];
    assert_eq!((&container["image"], &container["resources"]), (&json!("mirror.test/i:1"), &resources));
}

#[test]
fn ls9_an_image_that_admission_rewrites_again_is_written_once() {
    for is_ours in [true, false] {
        let mut world = running_world(mirrored(), None, is_ours);
        world.admission = vec![("/spec/containers/0/image", json!("mirror.test/i:2"))];
        change(&mut world, template(&json!({"app": "x"}), &json!({"image": "i:2"})));
        world.settle();
        world.advance();
        world.settle();
        let patches = world.steps.iter().filter(|step| matches!(step, Action::PatchPod { .. })).count();
        assert_eq!((patches, update_reason(world.sandbox())), (1, "Succeeded"), "{:?}", world.steps);
        assert!(world.sandbox().is_ready());
    }
}

#[test]
fn ls8_a_label_of_the_revision_is_no_proof_that_a_foreign_pod_fits() {
    let mut world = running_world(mirrored(), Some("Recreate"), false);
    let changed = template(&json!({"app": "x"}), &json!({"command": ["other"]}));
    change(&mut world, changed.clone());
    let revision = crate::lifecycle::revision::of(&serde_json::from_value(changed).unwrap());
    let labels = world.pod.as_mut().unwrap().metadata.labels.as_mut().unwrap();
    labels.insert(LABEL_POD_TEMPLATE_HASH.into(), revision);
    for _ in 0..4 {
        world.settle();
        world.advance();
    }
    assert_eq!(world.pods_created, 2);
}

#[test]
fn ls8_what_is_remembered_is_of_one_pod_and_survives_in_its_annotation_when_the_spec_does_not_fit() {
    let mut world = running_world(mirrored(), None, false);
    let made = world.adopted.clone().unwrap().made.clone();
    change(&mut world, template(&json!({"app": "x", "owner": "u"}), &json!({"workingDir": "/new"})));
    world.settle();
    assert_eq!(Made::on(world.pod.as_ref().unwrap()), Some(made));
    let mut replaced = running_world(mirrored(), None, false);
    replaced.pod.as_mut().unwrap().metadata.uid = Some("another".into());
    change(&mut replaced, template(&json!({"app": "x", "owner": "u"}), &json!({})));
    let sandbox = replaced.sandbox().clone();
    assert_eq!(replaced.observe(&sandbox).adopted, None);
}

#[test]
fn ls9_a_template_that_changed_before_the_first_status_is_carried_to_the_pod() {
    let mut world = World::new(json!({}));
    world.settle();
    world.advance();
    // The status was not written: the sandbox had changed.
    world.sandbox.as_mut().unwrap().status = None;
    let labels = json!({"app": "y"});
    let spec = json!({"containers": [{"name": "a", "image": "i:2"}]});
    change(&mut world, json!({"metadata": {"labels": labels}, "spec": spec}));
    for _ in 0..3 {
        world.settle();
        world.advance();
    }
    assert_eq!(pod_spec(&world)["containers"][0]["image"], "i:2");
    assert_eq!(world.pod.as_ref().unwrap().metadata.labels.as_ref().unwrap()["app"], "y");
    assert_eq!(update_reason(world.sandbox()), "Succeeded");
}

/// A world whose resize waits, with a condition of the kubelet.
fn resizing(policy: Option<&str>, reason: &str) -> World {
    let mut world = running_world(Vec::new(), policy, true);
    let resources = json!({"requests": {"cpu": "99"}});
    change(&mut world, template(&json!({"app": "x"}), &json!({"resources": resources})));
    world.settle();
    let mut status = serde_json::to_value(world.pod.as_ref().unwrap().status.as_ref().unwrap()).unwrap();
    let condition =
        json!({"type": "PodResizePending", "status": "True", "reason": reason, "message": "99 CPUs"});
    status["conditions"].as_array_mut().unwrap().push(condition);
    world.set_pod_status(status);
    world
}

#[test]
fn ls9_an_infeasible_resize_is_refused_and_leaves_the_sandbox_ready() {
    let mut world = resizing(None, "Infeasible");
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "RecreateNotAllowed");
    let message = &world.sandbox().condition(CONDITION_INPLACE_UPDATE).unwrap().message;
    assert_eq!(&**message, "containers[a].resources cannot be changed in the running pod: 99 CPUs");
    assert!(world.sandbox().is_ready());
    // The user takes the change back.
    change(&mut world, template(&json!({"app": "x"}), &json!({})));
    world.settle();
    world.advance();
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "Succeeded");
}

#[test]
fn ls9_an_infeasible_resize_leads_to_a_new_pod_with_the_policy() {
    let mut world = resizing(Some("Recreate"), "Infeasible");
    world.settle();
    assert_eq!(world.sandbox().phase(), Some(&SandboxPhase::Upgrading));
    for _ in 0..4 {
        world.advance();
        world.settle();
    }
    assert_eq!(world.sandbox().phase(), Some(&SandboxPhase::Running));
    assert_eq!((world.pods_created, update_reason(world.sandbox())), (2, "Succeeded"));
    assert_eq!(pod_spec(&world)["containers"][0]["resources"]["requests"]["cpu"], "99");
}

#[test]
fn ls9_a_deferred_resize_waits_while_the_sandbox_is_ready() {
    let mut world = resizing(None, "Deferred");
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "InplaceUpdating");
    assert!(world.sandbox().is_ready());
    world.advance();
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "Succeeded");
}

/// A new image, new resources and a new label.
fn everything_in_place() -> Value {
    let container = json!({"image": "i:2", "resources": {"requests": {"cpu": "2"}}});
    template(&json!({"app": "y"}), &container)
}

#[test]
fn ls9_an_update_in_place_that_breaks_off_after_any_step_is_shown_until_the_containers_run_with_it() {
    let mut changed = running_world(Vec::new(), None, true);
    change(&mut changed, everything_in_place());
    let decision = changed.decide();
    assert_eq!(decision.actions.len(), 3, "{decision:?}");
    for done in 0..=decision.actions.len() {
        let mut world = changed.clone();
        for action in &decision.actions[..done] {
            world.apply(action, &decision);
        }
        world.settle();
        assert_eq!(update_reason(world.sandbox()), "InplaceUpdating", "after {done} steps");
        assert!(!world.sandbox().is_ready(), "after {done} steps");
        let message = &world.sandbox().condition(CONDITION_INPLACE_UPDATE).unwrap().message;
        assert_eq!(&**message, "containers[a].image, containers[a].resources", "after {done} steps");
        let spec = &pod_spec(&world)["containers"][0];
        assert_eq!((&spec["image"], &spec["resources"]["requests"]["cpu"]), (&json!("i:2"), &json!("2")));
        assert_eq!(world.pod.as_ref().unwrap().metadata.labels.as_ref().unwrap()["app"], "y");
        world.advance();
        world.settle();
        assert_eq!(update_reason(world.sandbox()), "Succeeded", "after {done} steps");
        assert!(world.sandbox().is_ready());
    }
}

#[test]
fn ls9_labels_are_carried_if_an_update_in_place_breaks_off_before_them() {
    let mut world = running_world(vec![("/metadata/labels/of", json!("admission"))], None, true);
    let labels = json!({"app": "y", "of": "the template"});
    change(&mut world, template(&labels, &json!({"resources": {"requests": {"cpu": "2"}}})));
    let decision = world.decide();
    let is_patch = |action: &&Action| matches!(action, Action::PatchPod { .. });
    for action in decision.actions.iter().filter(|action| !is_patch(action)) {
        world.apply(action, &decision);
    }
    world.settle();
    assert_eq!(world.pod.as_ref().unwrap().metadata.labels.as_ref().unwrap()["app"], "y");
    assert_eq!(world.steps.iter().filter(is_patch).count(), 1, "{:?}", world.steps);
}

#[test]
fn lc7_labels_that_the_api_server_refuses_are_shown_and_freeze_nothing() {
    for policy in [None, Some("Recreate")] {
        for container in [json!({}), json!({"image": "i:2"}), json!({"command": ["other"]})] {
            let mut world = running_world(Vec::new(), policy, true);
            world.refuses_labels = true;
            change(&mut world, template(&json!({"app": "not valid!"}), &container));
            world.settle();
            let update = world.sandbox().condition(CONDITION_INPLACE_UPDATE).unwrap().clone();
            assert_eq!(update.reason, "PodUpdateFailed", "{policy:?} {container}");
            assert!(update.message.ends_with(" cannot be changed in the running pod: refused"), "{update:?}");
            let status = world.sandbox().status.as_ref().unwrap();
            assert_eq!(status.observed_generation.unwrap().get(), 2);
            assert!(world.sandbox().is_ready(), "{policy:?} {container}");
            // The status follows the pod, and the pod stays. Each try costs no write of the status.
            let (steps, refused) = (world.steps.len(), world.refused);
            world.advance();
            world.settle();
            assert!(world.refused > refused, "it is tried again");
            assert_eq!(world.steps.len(), steps, "{:?}", world.steps);
            world.set_pod_status(json!({"phase": "Running"}));
            world.settle();
            assert!(!world.sandbox().is_ready());
            assert_eq!((world.pods_created, world.sandbox().phase()), (1, Some(&SandboxPhase::Running)));
            // The user takes the change back.
            world.refuses_labels = false;
            change(&mut world, template(&json!({"app": "x"}), &json!({})));
            world.advance();
            world.settle();
            assert_eq!(update_reason(world.sandbox()), "Succeeded");
        }
    }
}

#[test]
fn lc7_an_update_that_a_quota_forbids_is_shown_and_tried_again_after_the_back_off() {
    for policy in [None, Some("Recreate")] {
        let mut world = running_world(Vec::new(), policy, true);
        world.forbids_updates = true;
        change(&mut world, everything_in_place());
        world.settle();
        assert_eq!(update_reason(world.sandbox()), "PodUpdateFailed");
        let message = &world.sandbox().condition(CONDITION_INPLACE_UPDATE).unwrap().message;
        let fields = "containers[a].image, containers[a].resources";
        assert_eq!(&**message, format!("{fields} cannot be changed in the running pod: refused"));
        assert!(world.sandbox().is_ready(), "the pod goes on to run as it was");
        let decision = world.decide();
        assert_eq!((decision.actions.len(), decision.requeue), (0, world.held));
        // The back-off ends, and the quota does not.
        let steps = world.steps.len();
        world.advance();
        world.settle();
        assert_eq!(world.steps.len(), steps, "{:?}", world.steps);
        // The API server accepts the change, and the status is lost.
        world.forbids_updates = false;
        world.advance();
        let decision = world.decide();
        for action in decision.actions.iter().filter(|action| **action != Action::WriteStatus) {
            world.apply(action, &decision);
        }
        world.settle();
        assert_eq!(update_reason(world.sandbox()), "InplaceUpdating");
        world.advance();
        world.settle();
        assert_eq!((update_reason(world.sandbox()), world.pods_created), ("Succeeded", 1));
        assert!(world.sandbox().is_ready());
    }
}

#[test]
fn ls9_a_container_that_started_before_the_newest_update_does_not_run_its_image() {
    let mut world = running_world(Vec::new(), None, true);
    let with_image = |image: &str| template(&json!({"app": "x"}), &json!({"image": image}));
    change(&mut world, with_image("i:2"));
    world.settle();
    let conditions = world.sandbox.as_mut().unwrap().status.as_mut().unwrap().conditions.as_mut();
    let is_update = |known: &&mut Condition| known.type_ == CONDITION_INPLACE_UPDATE;
    let update = conditions.unwrap().iter_mut().find(is_update).unwrap();
    update.last_transition_time = Some("2029-06-01T00:00:00Z".parse().unwrap());
    // The runtime reports the image by its digest. So only the time tells which one runs.
    let started = |at: &str| {
        let mut status = pod_ready();
        status["containerStatuses"] = json!([{
            "name": "a", "image": "sha256:77", "imageID": "sha256:77", "ready": true, "restartCount": 1,
            "state": {"running": {"startedAt": at}},
        }]);
        status
    };
    // The container starts with i:2, and before it is ready the template has i:3.
    change(&mut world, with_image("i:3"));
    world.settle();
    world.set_pod_status(started("2029-07-01T00:00:00Z"));
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "InplaceUpdating");
    assert!(!world.sandbox().is_ready());
    world.set_pod_status(started("2030-01-01T00:00:01Z"));
    world.settle();
    assert_eq!(update_reason(world.sandbox()), "Succeeded");
    assert!(world.sandbox().is_ready());
}
