//! The pool: SandboxSet -> Sandboxes. Rule numbers refer to docs/behaviours.md.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use memory_apiserver::{FaultPlan, On, PodOutcome, Pods, RequestFault, Times, Verb, WatchFault};
use sandbox_manager::api::v1alpha1::{
    Checkpoint, CheckpointPhase, LABEL_SANDBOX_POOL, LABEL_TEMPLATE_HASH, Sandbox, SandboxClaim,
    SandboxClaimPhase, SandboxPhase, StateKind,
};
use sandbox_manager::shared_cache::jiff::Timestamp;
use serde_json::{Value, json};

use super::pool_rig::{NAMESPACE, POOL, Rig, of_gold, spec};
use crate::support::{SOON, eventually};

const SANDBOXES: &str = "sandboxes";

/// What the current OpenKruise Agents leaves on a cluster, one object a line.
const UPSTREAM: &str = include_str!("../../data/upstream-objects.jsonl");

#[tokio::test(start_paused = true)]
async fn lp2_lp7_a_pool_is_filled_with_at_most_five_requests_a_member_and_never_more_members() {
    let rig = Rig::start().await;
    rig.create(spec(50, "i")).await;
    let set = rig.full(50).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 50);
    let writes = rig.writes();
    let requests: usize = writes.values().sum();
    assert!(requests <= 5 * 50, "{requests} requests: {writes:?}");
    assert_eq!(writes["Create sandboxes"], 50);
    assert!(writes["Patch sandboxsets/status"] <= 10, "lp6: the writes of the status are merged: {writes:?}");
    assert_eq!(set.status.unwrap().conditions, None);

    let member = rig.members().await.remove(0);
    assert_eq!(member.metadata.generate_name.as_deref(), Some("pool-"));
    let pods: Api<Pod> = Api::namespaced(rig.client(), NAMESPACE);
    let pod = pods.get(&member.name_any()).await.unwrap();
    assert_eq!(pod.labels()["agents.kruise.io/sandbox-pool"], POOL, "ls7");
}

#[tokio::test(start_paused = true)]
async fn lp6_the_status_is_not_written_while_nothing_changes() {
    let rig = Rig::start().await;
    rig.create(spec(3, "i")).await;
    rig.full(3).await;
    rig.rest().await;
    let before = rig.writes();
    let annotate = Patch::Merge(json!({ "metadata": { "annotations": { "a": "b" } } }));
    rig.sets().patch(POOL, &PatchParams::default(), &annotate).await.unwrap();
    rig.rest().await;
    assert_eq!(rig.writes(), before);
}

#[tokio::test(start_paused = true)]
async fn lp2_a_pool_follows_its_scale_down_and_up() {
    let rig = Rig::start().await;
    rig.create(spec(50, "i")).await;
    rig.full(50).await;
    rig.scale(10).await;
    rig.full(10).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_least_available(), 0, "before the first fill");
    rig.observer.take_most();
    rig.scale(30).await;
    rig.full(30).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 30);
    assert_eq!(rig.observer.take_least_available(), 10, "no member was replaced");
    // The scale subresource finds the members by the selector.
    let scale = rig.sets().get_scale(POOL).await.unwrap();
    let selector = scale.status.unwrap().selector.unwrap();
    let selected = rig.sandboxes().list(&ListParams::default().labels(&selector)).await.unwrap();
    assert_eq!(selected.items.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn lp2_the_limit_of_the_scale_strategy_holds_at_every_moment() {
    let rig = Rig::start().await;
    let mut limited = spec(12, "i");
    limited["scaleStrategy"] = json!({ "maxUnavailable": 3 });
    rig.kubelet.rule(Pods::all(), PodOutcome::Starting);
    rig.create(limited).await;
    rig.rest().await;
    assert_eq!(rig.members().await.len(), 3, "no more until one is available");
    rig.kubelet.clear_rules();
    rig.full(12).await;
}

#[tokio::test(start_paused = true)]
async fn lp5_a_rollout_replaces_every_member_within_its_limit() {
    let rig = Rig::start().await;
    rig.create(spec(20, "old")).await;
    rig.full(20).await;
    rig.rest().await;
    let old: HashSet<_> = rig.members().await.iter().map(ResourceExt::name_any).collect();
    rig.observer.take_least_available();
    rig.observer.take_most();
    rig.change(spec(20, "new")).await;
    let set = rig.full(20).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 20);
    let least = rig.observer.take_least_available();
    assert!(least >= 16, "20 % of 20 may be unavailable, and {} were", 20 - least);
    let revision = set.status.as_ref().unwrap().update_revision.clone().unwrap();
    for member in rig.members().await {
        assert!(!old.contains(&member.name_any()));
        assert_eq!(member.labels()[LABEL_TEMPLATE_HASH], revision);
        assert!(member.spec.template.unwrap().to_json().contains("\"new\""));
    }
    let set = rig.sets().get(POOL).await.unwrap();
    let condition = set.condition("Progressing").expect("a condition");
    assert_eq!((&*condition.reason, condition.is_true()), ("RolloutComplete", true));
}

#[tokio::test(start_paused = true)]
async fn lp5_a_rollout_to_a_template_that_never_starts_leaves_most_of_the_pool() {
    let rig = Rig::start().await;
    rig.create(spec(10, "old")).await;
    rig.full(10).await;
    rig.rest().await;
    rig.observer.take_least_available();
    rig.kubelet.rule(
        Pods::matching(|pod| pod["spec"]["containers"][0]["image"] == "broken"),
        PodOutcome::failed("no such file"),
    );
    rig.change(spec(10, "broken")).await;
    eventually("the condition", SOON, async || {
        let set = rig.sets().get(POOL).await?;
        let condition = set.condition("Progressing");
        ensure!(condition.is_some_and(|condition| condition.reason == "MembersKeepFailing"), "{condition:?}");
        Ok(())
    })
    .await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    assert_eq!(rig.observer.take_least_available(), 8);
    // The old template is back: the budget starts anew, and the pool is full at once.
    rig.change(spec(10, "old")).await;
    rig.full(10).await;
}

#[tokio::test(start_paused = true)]
async fn lp2_no_claimed_sandbox_is_deleted_while_the_pool_shrinks_and_rolls_out() {
    let rig = Rig::start().await;
    rig.create(spec(50, "i")).await;
    rig.full(50).await;
    let mut claimed = BTreeSet::new();
    let claims = async {
        for _ in 0..20 {
            claimed.extend(rig.claim().await);
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let changes = async {
        rig.scale(10).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.change(spec(10, "j")).await;
    };
    tokio::join!(claims, changes);
    rig.full(10).await;
    rig.rest().await;
    assert!(claimed.len() >= 10, "{} claims", claimed.len());
    rig.observer.assert_no_claimed_was_deleted();
    for name in &claimed {
        let sandbox = rig.sandboxes().get(name).await.unwrap();
        assert_eq!(sandbox.state(Timestamp::now()).kind, StateKind::Running, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn lp7_a_burst_of_claims_empties_the_pool_and_it_refills_exactly() {
    let rig = Rig::start().await;
    rig.create(spec(30, "i")).await;
    rig.full(30).await;
    rig.rest().await;
    rig.observer.take_most();
    let mut claimed = 0;
    while claimed < 30 {
        claimed += usize::from(rig.claim().await.is_some());
    }
    rig.full(30).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 30);
    rig.observer.assert_no_claimed_was_deleted();
}

#[tokio::test(start_paused = true)]
async fn lp4_dead_members_are_replaced() {
    let rig = Rig::start().await;
    rig.create(spec(5, "i")).await;
    rig.full(5).await;
    rig.rest().await;
    let victims: Vec<_> = rig.members().await.iter().take(2).map(ResourceExt::name_any).collect();
    let pods: Api<Pod> = Api::namespaced(rig.client(), NAMESPACE);
    for name in &victims {
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    eventually("others take their places", SOON, async || {
        let members = rig.members().await;
        ensure!(members.iter().all(|member| !victims.contains(&member.name_any())), "still there");
        ensure!(members.len() == 5, "{} members", members.len());
        Ok(())
    })
    .await;
    rig.full(5).await;
}

#[tokio::test(start_paused = true)]
async fn lp4_members_that_fail_at_once_are_created_ever_more_slowly_until_the_template_changes() {
    let rig = Rig::start().await;
    rig.kubelet.rule(
        Pods::matching(|pod| pod["spec"]["containers"][0]["image"] == "broken"),
        PodOutcome::failed("no such file"),
    );
    rig.create(spec(10, "broken")).await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    let created = rig.writes()["Create sandboxes"];
    // Ten at first, then probes after 1, 2, 4 ... s: eight of them in four minutes.
    assert!((15..=22).contains(&created), "{created} sandboxes");
    let set = rig.sets().get(POOL).await.unwrap();
    let condition = set.condition("Progressing").expect("a condition");
    assert_eq!((condition.status.as_str(), &*condition.reason), ("False", "MembersKeepFailing"));
    assert!(condition.message.contains("no such file"), "{}", condition.message);
    rig.change(spec(10, "fixed")).await;
    rig.full(10).await;
}

#[tokio::test(start_paused = true)]
async fn lp4_members_that_cannot_be_scheduled_are_held() {
    let rig = Rig::start().await;
    rig.kubelet.rule(Pods::all(), PodOutcome::unschedulable("no node"));
    rig.create(spec(5, "i")).await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(rig.writes()["Create sandboxes"], 5);
    assert!(!rig.writes().contains_key("Delete sandboxes"));
    rig.kubelet.clear_rules();
    rig.full(5).await;
}

fn on_create(times: Times, then: RequestFault) -> FaultPlan {
    FaultPlan::request(On::request(Verb::Create, SANDBOXES), times, then)
}

#[tokio::test(start_paused = true)]
async fn lc2_lost_answers_of_creations_make_no_sandbox_too_many_and_none_too_few() {
    for fault in [
        RequestFault::DropAnswer,
        RequestFault::Drop,
        RequestFault::Answer { code: 500, retry_after: None },
        RequestFault::Answer { code: 429, retry_after: Some(1) },
        RequestFault::Silence,
    ] {
        let rig = Rig::start().await;
        rig.server.inject(&on_create(Times::Every(5), fault.clone()));
        rig.create(spec(40, "i")).await;
        rig.full_within(40, Duration::from_mins(5)).await;
        rig.rest().await;
        assert!(rig.server.faults_fired()[0].1 > 0, "{fault:?}");
        assert_eq!(rig.observer.take_most(), 40, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lc2_a_watch_that_is_late_leads_to_no_sandbox_too_many() {
    let rig = Rig::start().await;
    let late = WatchFault::Hold(Duration::from_secs(3));
    rig.server.inject(&FaultPlan::event(On::kind(SANDBOXES), Times::Every(7), late));
    rig.server.inject(&on_create(Times::Every(6), RequestFault::DropAnswer));
    rig.create(spec(40, "i")).await;
    let mut claimed = 0;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        claimed += usize::from(rig.claim().await.is_some());
    }
    assert!(claimed > 10, "{claimed} claims");
    rig.server.clear_faults();
    rig.server.cut();
    rig.full_within(40, Duration::from_mins(5)).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 40);
}

#[tokio::test(start_paused = true)]
async fn lc2_a_process_that_begins_in_the_middle_creates_no_sandbox_too_many() {
    let mut rig = Rig::start().await;
    rig.server.inject(&on_create(Times::Always, RequestFault::Delay(Duration::from_millis(200))));
    rig.create(spec(100, "i")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.kill_manager().await;
    let begun = rig.members().await.len();
    assert!(begun > 0 && begun < 100, "in the middle: {begun}");
    rig.server.clear_faults();
    rig.start_manager().await;
    rig.full(100).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 100);
}

#[tokio::test(start_paused = true)]
async fn lc2_a_process_whose_cache_is_late_asks_the_api_server_before_it_creates_the_first_sandbox() {
    let rig = Rig::start().await;
    let set = rig.create(spec(0, "i")).await;
    let set = eventually("a status", SOON, async || {
        let set = rig.sets().get(&set.name_any()).await?;
        ensure!(set.status.is_some(), "none");
        Ok(set)
    })
    .await;
    let late = WatchFault::Hold(Duration::from_secs(20));
    rig.server.inject(&FaultPlan::event(On::kind(SANDBOXES), Times::Always, late));
    // What an earlier leader has created.
    for i in 0..20 {
        let owner = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": POOL,
            "uid": set.metadata.uid, "controller": true, "blockOwnerDeletion": true,
        });
        let labels = json!({
            LABEL_SANDBOX_POOL: POOL,
            LABEL_TEMPLATE_HASH: set.status.as_ref().unwrap().update_revision,
        });
        let object = json!({
            "metadata": { "name": format!("early-{i}"), "labels": labels, "ownerReferences": [owner] },
            "spec": { "template": spec(0, "i")["template"] },
        });
        let object = serde_json::from_value(object).unwrap();
        rig.sandboxes().create(&PostParams::default(), &object).await.unwrap();
    }
    rig.scale(25).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(rig.members().await.len(), 25);
    rig.server.clear_faults();
    rig.server.cut();
    rig.full(25).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 25);
}

#[tokio::test(start_paused = true)]
async fn lp2_a_lock_that_an_earlier_process_left_is_taken_up_after_a_minute() {
    let rig = Rig::start().await;
    rig.create(spec(3, "i")).await;
    rig.full(3).await;
    let name = rig.members().await[0].name_any();
    let lock = Patch::Merge(json!({ "metadata": { "annotations": {
        "agents.kruise.io/lock": "l", "agents.kruise.io/owner": "__manager_scale_down",
    } } }));
    rig.sandboxes().patch(&name, &PatchParams::default(), &lock).await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    rig.sandboxes().get(&name).await.expect("its owner may still be at work");
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert!(rig.sandboxes().get_opt(&name).await.unwrap().is_none());
    rig.full(3).await;
}

#[tokio::test(start_paused = true)]
async fn lp2_a_member_whose_deletion_failed_is_deleted_later() {
    let rig = Rig::start().await;
    rig.create(spec(20, "i")).await;
    rig.full(20).await;
    let on = On::request(Verb::Delete, SANDBOXES);
    let fault = RequestFault::Answer { code: 503, retry_after: None };
    rig.server.inject(&FaultPlan::request(on.clone(), Times::Every(2), fault));
    rig.server.inject(&FaultPlan::request(
        On::request(Verb::Patch, SANDBOXES),
        Times::Every(3),
        RequestFault::DropAnswer,
    ));
    rig.scale(5).await;
    rig.full_within(5, Duration::from_mins(5)).await;
    rig.rest().await;
    assert_eq!(rig.members().await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn lc7_a_refused_creation_is_shown_and_backs_off() {
    let rig = Rig::start().await;
    rig.server.inject(&on_create(Times::Always, RequestFault::Forbid));
    rig.create(spec(30, "i")).await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    let tries =
        rig.server.requests().iter().filter(|r| r.verb == Verb::Create && r.resource == SANDBOXES).count();
    assert!((20..=30).contains(&tries), "16 at first, then 1 after 1, 2, 4 ... s: {tries}");
    let set = rig.sets().get(POOL).await.unwrap();
    let condition = set.condition("Progressing").expect("a condition");
    assert_eq!((condition.status.as_str(), &*condition.reason), ("False", "CreateSandboxFailed"));
    let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(rig.client(), NAMESPACE);
    let events = events.list(&ListParams::default()).await.unwrap().items;
    assert!(events.iter().any(|event| event.reason.as_deref() == Some("CreateSandboxFailed")), "lc5");
    rig.server.clear_faults();
    rig.full_within(30, Duration::from_mins(10)).await;
    let set = rig.sets().get(POOL).await.unwrap();
    assert!(set.condition("Progressing").unwrap().is_true());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_set_leaves_nothing_but_what_users_have_claimed() {
    let rig = Rig::start().await;
    rig.create(spec(10, "i")).await;
    rig.full(10).await;
    let claimed = rig.claim().await.unwrap();
    rig.sets().delete(POOL, &DeleteParams::default()).await.unwrap();
    eventually("nothing else is left", SOON, async || {
        let left = rig.sandboxes().list(&ListParams::default()).await?.items;
        let left: Vec<_> = left.iter().map(ResourceExt::name_any).collect();
        ensure!(left == [claimed.clone()], "{left:?}");
        let pods: Api<Pod> = Api::namespaced(rig.client(), NAMESPACE);
        ensure!(pods.list(&ListParams::default()).await?.items.len() == 1, "pods");
        Ok(())
    })
    .await;
    // A set of the same name starts from zero.
    rig.create(spec(4, "i")).await;
    rig.full(4).await;
    rig.observer.assert_no_claimed_was_deleted();
}

/// The objects of OpenKruise Agents of these kinds.
fn upstream(kinds: &[&str]) -> Vec<Value> {
    let lines = UPSTREAM.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["object"].clone());
    lines.filter(|object| kinds.contains(&object["kind"].as_str().unwrap_or_default())).collect()
}

#[tokio::test(start_paused = true)]
async fn ls7_a_set_of_openkruise_agents_and_its_members_are_taken_over_without_a_write() {
    let rig = Rig::with_objects(&upstream(&["SandboxSet", "Sandbox", "Pod"])).await;
    rig.rest().await;
    let of_sets: Vec<_> =
        rig.writes().into_iter().filter(|(request, _)| request.contains("sandboxsets")).collect();
    assert_eq!(of_sets, [], "the set");
    let creations: Vec<_> =
        rig.writes().into_iter().filter(|(request, _)| request.starts_with("Create sandboxes")).collect();
    assert_eq!(creations, [], "its members");
}

#[tokio::test(start_paused = true)]
async fn ls4_scaling_a_set_of_openkruise_agents_replaces_no_member() {
    let rig = Rig::with_objects(&upstream(&["SandboxSet", "Sandbox", "Pod"])).await;
    rig.rest().await;
    let before: BTreeSet<_> = rig.members().await.iter().map(ResourceExt::name_any).collect();
    let scale = Patch::Merge(json!({ "spec": { "replicas": 5 } }));
    rig.sets().patch("code-interpreter", &PatchParams::default(), &scale).await.unwrap();
    eventually("five members", SOON, async || {
        let status = rig.sets().get("code-interpreter").await?.status.unwrap();
        ensure!(status.available_replicas == 5 && status.updated_replicas == Some(5), "{status:?}");
        ensure!(status.update_revision.as_deref() == Some("5844467cf5"), "{status:?}");
        Ok(())
    })
    .await;
    let after: BTreeSet<_> = rig.members().await.iter().map(ResourceExt::name_any).collect();
    assert!(before.is_subset(&after), "{before:?} {after:?}");
    let claimed = rig.sandboxes().get("code-interpreter-225bt").await.unwrap();
    assert_eq!(claimed.phase(), Some(&SandboxPhase::Running));
}

#[tokio::test(start_paused = true)]
async fn lc7_refused_deletions_are_shown_while_they_last() {
    let rig = Rig::start().await;
    rig.create(spec(5, "i")).await;
    rig.full(5).await;
    rig.rest().await;
    let on = On::request(Verb::Delete, SANDBOXES);
    rig.server.inject(&FaultPlan::request(on, Times::Always, RequestFault::Forbid));
    rig.scale(2).await;
    let status = rig.progressing("DeleteSandboxFailed").await.status.unwrap();
    assert_eq!(
        (status.replicas, status.available_replicas),
        (2, 2),
        "what is locked has no place in the pool"
    );
    assert_eq!(status.observed_generation, Some(2));
    // The status goes on to be right while nothing can be deleted.
    assert!(rig.claim().await.is_some());
    eventually("the claim is shown", SOON, async || {
        let status = rig.sets().get(POOL).await?.status.unwrap();
        ensure!(status.replicas <= 2 && status.observed_generation == Some(2), "{status:?}");
        let members = rig.members().await;
        ensure!(members.iter().filter(|member| !member.is_locked()).count() == 2, "not refilled");
        Ok(())
    })
    .await;
    rig.server.clear_faults();
    rig.full(2).await;
    rig.progressing("RolloutComplete").await;
    rig.observer.assert_no_claimed_was_deleted();
}

fn on_delete() -> On {
    On::request(Verb::Delete, SANDBOXES)
}

#[tokio::test(start_paused = true)]
async fn lp7_a_rollout_whose_deletions_are_refused_takes_down_no_more_than_may_be_unavailable() {
    let rig = Rig::start().await;
    rig.create(spec(50, "old")).await;
    rig.full(50).await;
    rig.rest().await;
    rig.server.inject(&FaultPlan::request(on_delete(), Times::Always, RequestFault::Forbid));
    rig.change(spec(50, "new")).await;
    rig.progressing("DeleteSandboxFailed").await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    let members = rig.members().await;
    let locked = members.iter().filter(|member| member.is_locked()).count();
    assert_eq!((locked, members.len()), (10, 60), "20 % of 50");
    let status = rig.progressing("DeleteSandboxFailed").await.status.unwrap();
    assert_eq!((status.available_replicas, status.updated_available_replicas), (50, Some(10)));
    rig.server.clear_faults();
    rig.full_within(50, Duration::from_mins(6)).await;
    rig.progressing("RolloutComplete").await;
}

#[tokio::test(start_paused = true)]
async fn lp7_a_deletion_without_an_answer_ends_the_pass() {
    let rig = Rig::start().await;
    rig.create(spec(20, "old")).await;
    rig.full(20).await;
    rig.rest().await;
    let fault = RequestFault::Answer { code: 503, retry_after: None };
    rig.server.inject(&FaultPlan::request(on_delete(), Times::Always, fault));
    rig.change(spec(20, "new")).await;
    rig.progressing("DeleteSandboxFailed").await;
    tokio::time::sleep(Duration::from_mins(3)).await;
    let members = rig.members().await;
    assert_eq!(members.iter().filter(|member| member.is_locked()).count(), 4, "20 % of 20");
    rig.server.clear_faults();
    rig.full(20).await;
}

#[tokio::test(start_paused = true)]
async fn lc7_members_that_cannot_be_deleted_hold_up_no_other_member() {
    let rig = Rig::start().await;
    rig.create(spec(70, "i")).await;
    rig.full(70).await;
    rig.rest().await;
    let pods: Api<Pod> = Api::namespaced(rig.client(), NAMESPACE);
    let names: Vec<_> = rig.members().await.iter().map(ResourceExt::name_any).collect();
    // More than a batch of deletions.
    let (kept, others) = names.split_at(66);
    for name in kept {
        let on = on_delete().named(name);
        rig.server.inject(&FaultPlan::request(on, Times::Always, RequestFault::Forbid));
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    let available = async |count: i32| {
        eventually(&format!("{count} available"), Duration::from_secs(3), async || {
            let status = rig.sets().get(POOL).await?.status.unwrap();
            ensure!(status.available_replicas == count, "{status:?}");
            Ok(())
        })
        .await;
    };
    available(70).await;
    tokio::time::sleep(Duration::from_mins(4)).await;
    let set = rig.progressing("DeleteSandboxFailed").await;
    let condition = set.condition("Progressing").unwrap();
    let first = kept.iter().min().unwrap();
    assert!(condition.message.contains(&**first), "{}", condition.message);
    let requests = rig.server.requests();
    let deletions = requests.iter().filter(|r| r.verb == Verb::Delete && r.resource == SANDBOXES);
    let mut tries = BTreeMap::new();
    for request in deletions {
        *tries.entry(request.name.as_deref().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(tries.len(), kept.len());
    assert!(tries.values().all(|tries| (7..=9).contains(tries)), "after 1, 2, 4 ... s: {tries:?}");
    // Another one that dies is deleted, and the pool grows, at once.
    pods.delete(&others[0], &DeleteParams::default()).await.unwrap();
    eventually("it is deleted", Duration::from_secs(3), async || {
        ensure!(rig.sandboxes().get_opt(&others[0]).await?.is_none(), "still there");
        Ok(())
    })
    .await;
    rig.scale(150).await;
    available(150).await;
    rig.server.clear_faults();
    rig.full_within(150, Duration::from_mins(6)).await;
}

/// A lock of another process of a set.
fn foreign_lock() -> Patch<Value> {
    Patch::Merge(json!({ "metadata": { "annotations": {
        "agents.kruise.io/lock": "l", "agents.kruise.io/owner": "__manager_scale_down",
    } } }))
}

#[tokio::test(start_paused = true)]
async fn lp2_a_member_whose_lock_somebody_removes_is_kept() {
    let rig = Rig::start().await;
    rig.create(spec(1, "i")).await;
    rig.full(1).await;
    let name = rig.members().await[0].name_any();
    rig.sandboxes().patch(&name, &PatchParams::default(), &foreign_lock()).await.unwrap();
    rig.rest().await;
    // The replacement has filled the place. With two replicas there is one for the rescued member, as none can be created.
    assert_eq!(rig.members().await.len(), 2);
    let refused = RequestFault::Answer { code: 403, retry_after: None };
    rig.server.inject(&FaultPlan::request(On::request(Verb::Create, SANDBOXES), Times::Always, refused));
    rig.scale(2).await;
    let unlock = Patch::Merge(json!({ "metadata": { "annotations": {
        "agents.kruise.io/lock": null, "agents.kruise.io/owner": null,
    } } }));
    rig.sandboxes().patch(&name, &PatchParams::default(), &unlock).await.unwrap();
    tokio::time::sleep(Duration::from_mins(2)).await;
    rig.sandboxes().get(&name).await.expect("it is kept");
    rig.full(2).await;
}

#[tokio::test(start_paused = true)]
async fn lp2_a_locked_member_that_was_claimed_since_the_cache_has_seen_it_is_kept() {
    let rig = Rig::start().await;
    rig.create(spec(1, "i")).await;
    rig.full(1).await;
    let name = rig.members().await[0].name_any();
    rig.sandboxes().patch(&name, &PatchParams::default(), &foreign_lock()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(55)).await;
    let late = WatchFault::Hold(Duration::from_secs(20));
    rig.server.inject(&FaultPlan::event(On::kind(SANDBOXES), Times::Always, late));
    let claim = Patch::Merge(json!({ "metadata": {
        "ownerReferences": null,
        "labels": { "agents.kruise.io/sandbox-claimed": "true" },
        "annotations": { "agents.kruise.io/lock": "a claim", "agents.kruise.io/owner": "user" },
    } }));
    rig.sandboxes().patch(&name, &PatchParams::default(), &claim).await.unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    let deletions = rig.server.requests().iter().filter(|r| r.verb == Verb::Delete).count();
    assert_eq!(deletions, 1, "the lock fell due, and the conflict is not tried again");
    rig.server.clear_faults();
    tokio::time::sleep(Duration::from_mins(1)).await;
    rig.sandboxes().get(&name).await.expect("it belongs to its user");
    rig.observer.assert_no_claimed_was_deleted();
}

#[tokio::test(start_paused = true)]
async fn lc6_after_a_long_outage_every_timer_is_at_most_half_a_minute_late() {
    let rig = Rig::start().await;
    let fault = RequestFault::Answer { code: 503, retry_after: None };
    for (verb, kind) in
        [(Verb::Delete, SANDBOXES), (Verb::Patch, "sandboxclaims"), (Verb::Patch, "checkpoints")]
    {
        rig.server.inject(&FaultPlan::request(On::request(verb, kind), Times::Always, fault.clone()));
    }
    let past = "2020-01-01T00:00:00Z";
    for (plural, kind, spec) in [
        ("sandboxes", "Sandbox", json!({ "shutdownTime": past, "template": spec(0, "i")["template"] })),
        ("sandboxclaims", "SandboxClaim", json!({ "templateName": "nowhere", "replicas": 1 })),
        ("checkpoints", "Checkpoint", json!({ "sandboxName": "gone" })),
    ] {
        let object = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": kind,
            "metadata": {
                "namespace": NAMESPACE, "name": "x", "uid": format!("uid-{plural}"), "generation": 1,
                "creationTimestamp": past,
            },
            "spec": spec,
        });
        rig.server.force(&format!("{plural}.agents.kruise.io"), object);
    }
    tokio::time::sleep(Duration::from_mins(25)).await;
    for (_, fired) in rig.server.faults_fired() {
        assert!(fired > 40, "every 30 s: {fired}");
    }
    rig.server.clear_faults();
    let claims: Api<SandboxClaim> = Api::namespaced(rig.client(), NAMESPACE);
    let checkpoints: Api<Checkpoint> = Api::namespaced(rig.client(), NAMESPACE);
    eventually("all are done", Duration::from_secs(31), async || {
        ensure!(rig.sandboxes().get_opt("x").await?.is_none(), "the sandbox is there");
        let claim = claims.get("x").await?;
        ensure!(claim.phase() == Some(&SandboxClaimPhase::Completed), "{claim:?}");
        let checkpoint = checkpoints.get("x").await?;
        ensure!(checkpoint.phase() == Some(&CheckpointPhase::Failed), "{checkpoint:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lc7_creations_that_fail_are_shown_while_they_last_and_cost_few_requests() {
    let rig = Rig::start().await;
    rig.server.inject(&on_create(Times::Always, RequestFault::Answer { code: 500, retry_after: None }));
    rig.create(spec(30, "i")).await;
    let set = rig.progressing("CreateSandboxFailed").await;
    assert_eq!(set.status.unwrap().available_replicas, 0);
    let before = rig.server.requests().len();
    tokio::time::sleep(Duration::from_mins(10)).await;
    // One read and one creation every 15 s, and the status if the message has changed.
    let requests =
        rig.server.requests()[before..].iter().filter(|request| request.verb != Verb::Watch).count();
    assert!(requests < 200, "{requests} requests");
    let set = rig.progressing("CreateSandboxFailed").await;
    assert!(!set.condition("Progressing").unwrap().is_true());
    rig.server.clear_faults();
    rig.full_within(30, Duration::from_mins(3)).await;
    rig.rest().await;
    assert_eq!(rig.observer.take_most(), 30);
    rig.progressing("RolloutComplete").await;
}

#[tokio::test(start_paused = true)]
async fn lp7_a_large_set_does_not_keep_the_only_worker_from_a_small_one() {
    let rig = Rig::with_one_worker().await;
    rig.server.inject(&on_create(Times::Always, RequestFault::Delay(Duration::from_millis(800))));
    rig.create(spec(2000, "i")).await;
    eventually("the large set has begun", SOON, async || {
        ensure!(!rig.members().await.is_empty(), "no member");
        Ok(())
    })
    .await;
    rig.create_named("small", spec(3, "i")).await;
    eventually("the small set is full", SOON, async || {
        let status = rig.sets().get("small").await?.status.unwrap_or_default();
        ensure!(status.available_replicas == 3, "{status:?}");
        Ok(())
    })
    .await;
    let of_large = rig.members().await.len();
    assert!(of_large < 1500, "the large set was filled before: {of_large}");
}

#[tokio::test(start_paused = true)]
async fn lp5_an_edited_sandbox_template_replaces_the_members_of_the_sets_that_refer_to_it() {
    let mut rig = Rig::start().await;
    rig.gold("old").await;
    rig.create(of_gold(10)).await;
    rig.create_named("other", spec(3, "i")).await;
    let first = eventually("full", SOON, async || {
        let status = rig.sets().get(POOL).await?.status.unwrap_or_default();
        ensure!(status.available_replicas == 10, "{status:?}");
        Ok(status)
    })
    .await;
    assert_eq!(first.current_revision.as_deref(), Some("gold"));
    rig.rest().await;
    rig.observer.take_least_available();
    let all_run = async |rig: &Rig, image: &str| {
        eventually(&format!("all run {image}"), Duration::from_mins(2), async || {
            let status = rig.sets().get(POOL).await?.status.unwrap();
            ensure!(status.updated_available_replicas == Some(10), "{status:?}");
            let pods: Api<Pod> = Api::namespaced(rig.client(), NAMESPACE);
            let of_pool = ListParams::default().labels("app=x");
            for member in rig.members().await {
                if member.labels()[LABEL_SANDBOX_POOL] != POOL {
                    continue;
                }
                ensure!(
                    Some(&member.labels()[LABEL_TEMPLATE_HASH]) == status.update_revision.as_ref(),
                    "old"
                );
                let pod = pods.get(&member.name_any()).await?;
                ensure!(pod.spec.unwrap().containers[0].image.as_deref() == Some(image), "an old pod");
            }
            ensure!(pods.list(&of_pool).await?.items.len() == 13, "pods");
            Ok(status)
        })
        .await
    };
    let claimed = rig.claim().await.unwrap();
    rig.rest().await;
    let others: BTreeSet<_> = names_of(&rig, "other").await;
    rig.gold("new").await;
    let second = {
        rig.progressing("RollingUpdate").await;
        rig.rest().await;
        rig.sets().get(POOL).await.unwrap().status.unwrap()
    };
    assert_ne!(first.update_revision, second.update_revision);
    assert!(rig.observer.take_least_available() >= 10, "20 % of 10 may be unavailable, beside the other set");
    assert_eq!(names_of(&rig, "other").await, others, "the other set does not refer to it");
    assert_eq!(rig.sandboxes().get(&claimed).await.unwrap().phase(), Some(&SandboxPhase::Running));
    rig.sandboxes().delete(&claimed, &DeleteParams::default()).await.unwrap();
    all_run(&rig, "new").await;

    // An edit while no process runs.
    rig.kill_manager().await;
    rig.gold("newest").await;
    rig.start_manager().await;
    all_run(&rig, "newest").await;
}

/// The names of the members of a set.
async fn names_of(rig: &Rig, set: &str) -> BTreeSet<String> {
    let members = rig.members().await;
    let of_set = members
        .iter()
        .filter(|member| member.labels().get(LABEL_SANDBOX_POOL).is_some_and(|pool| pool == set));
    of_set.map(ResourceExt::name_any).collect()
}

#[tokio::test(start_paused = true)]
async fn ls2_a_set_whose_sandbox_template_is_missing_says_so_and_fills_when_it_appears() {
    let rig = Rig::start().await;
    rig.create(of_gold(4)).await;
    let set = rig.progressing("TemplateNotFound").await;
    assert_eq!(&*set.condition("Progressing").unwrap().message, "SandboxTemplate gold not found");
    assert_eq!(set.status.unwrap().update_revision, None);
    rig.rest().await;
    assert!(rig.members().await.is_empty());
    rig.gold("i").await;
    let begun = tokio::time::Instant::now();
    rig.full(4).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the event of the template was missed");
    // Without the template the pool stays as it is.
    rig.templates().delete("gold", &DeleteParams::default()).await.unwrap();
    rig.progressing("TemplateNotFound").await;
    rig.rest().await;
    let before = names_of(&rig, POOL).await;
    assert_eq!(before.len(), 4);
    rig.gold("i").await;
    rig.progressing("RolloutComplete").await;
    rig.rest().await;
    assert_eq!(names_of(&rig, POOL).await, before, "the same content is the same revision");
}

/// The set of OpenKruise Agents with a reference to a SandboxTemplate, and its free members.
fn upstream_of_gold() -> Vec<Value> {
    let mut objects = upstream(&["SandboxSet", "Sandbox", "Pod"]);
    let template = objects[0]["spec"].as_object_mut().unwrap().remove("template").unwrap();
    objects[0]["spec"]["templateRef"] = json!({ "name": "gold" });
    objects[0]["status"]["currentRevision"] = json!("gold");
    for object in objects.iter_mut().filter(|object| object["kind"] == "Sandbox") {
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            object.pointer_mut(labels).unwrap()["agents.kruise.io/sandbox-template"] = json!("gold");
        }
        // That of the claimed ones is over.
        object["spec"].as_object_mut().unwrap().remove("shutdownTime");
    }
    objects.push(json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxTemplate",
        "metadata": { "name": "gold", "namespace": "default" }, "spec": { "template": template },
    }));
    objects
}

#[tokio::test(start_paused = true)]
async fn lp5_a_set_of_openkruise_agents_that_refers_to_a_template_is_replaced_only_by_an_edit() {
    let mut rig = Rig::with_objects(&upstream_of_gold()).await;
    let members = |rig: &Rig| {
        let sandboxes = rig.sandboxes();
        async move {
            let all = sandboxes.list(&ListParams::default()).await.unwrap().items;
            let free = all.into_iter().filter(Sandbox::is_controlled_by_sandbox_set);
            free.map(|sandbox| sandbox.name_any()).collect::<BTreeSet<_>>()
        }
    };
    rig.rest().await;
    let before = members(&rig).await;
    assert_eq!(before.len(), 3);
    // A restart and a change of the replicas replace none.
    rig.kill_manager().await;
    rig.start_manager().await;
    let scale = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    rig.sets().patch("code-interpreter", &PatchParams::default(), &scale).await.unwrap();
    rig.rest().await;
    let scaled = members(&rig).await;
    assert!(scaled.len() == 4 && before.is_subset(&scaled), "{before:?} {scaled:?}");
    let status = rig.sets().get("code-interpreter").await.unwrap().status.unwrap();
    assert_eq!(status.update_revision.as_deref(), Some("5844467cf5"));
    assert_eq!(status.updated_available_replicas, Some(4));

    rig.gold("edited").await;
    eventually("all are replaced", SOON, async || {
        let status = rig.sets().get("code-interpreter").await?.status.unwrap();
        ensure!(status.updated_available_replicas == Some(4), "{status:?}");
        ensure!(status.update_revision.as_deref() != Some("5844467cf5"), "{status:?}");
        Ok(())
    })
    .await;
    rig.rest().await;
    assert!(members(&rig).await.is_disjoint(&scaled));
    rig.observer.assert_no_claimed_was_deleted();
}
