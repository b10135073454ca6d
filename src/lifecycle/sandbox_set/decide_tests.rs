//! Tests of single decisions, each named by its rule.

use std::time::Duration;

use serde_json::json;

use super::members::{Member, Refusal, Standing, Unseen};
use super::memory::{Attempted, Trouble};
use super::rollout::Cause;
use super::template::Template;
use super::test_support::{
    Pool, SandboxChanges as _, member, names, referring_set, sandbox_template, set, wall,
};
use crate::api::v1alpha1::{
    CONDITION_PROGRESSING, ConditionStatus, LABEL_TEMPLATE_HASH, OWNER_SCALE_DOWN, Sandbox, SandboxSet,
    SandboxSetStatus,
};

const SECOND: Duration = Duration::from_secs(1);

/// Members of a set with the names `a0`, `a1`...
fn some(set: &SandboxSet, count: usize) -> Vec<Sandbox> {
    (0..count).map(|i| member(set, &format!("a{i}"))).collect()
}

fn ready(set: &SandboxSet, count: usize) -> Vec<Sandbox> {
    some(set, count).into_iter().map(Sandbox::ready).collect()
}

fn with_scale_limit(mut set: SandboxSet, limit: &serde_json::Value) -> SandboxSet {
    set.spec.scale_strategy = serde_json::from_value(json!({ "maxUnavailable": limit })).unwrap();
    set
}

fn with_update_limit(mut set: SandboxSet, limit: &serde_json::Value) -> SandboxSet {
    set.spec.update_strategy = serde_json::from_value(json!({ "maxUnavailable": limit })).unwrap();
    set
}

#[tokio::test]
async fn lp1_members_are_counted_by_their_state_and_own_creations_too() {
    let set = set(9, "i");
    let mut dead = member(&set, "dead").failed("killed");
    dead.status.as_mut().unwrap().sandbox_ip = Some("10.0.0.1".into());
    let mut pool = Pool::new(
        set.clone(),
        [
            member(&set, "creating"),
            member(&set, "available").ready(),
            dead,
            member(&set, "claimed").ready().claimed(),
            member(&set, "locked by us").ready().locked_by(OWNER_SCALE_DOWN),
            member(&set, "being claimed").ready().locked_by("user"),
        ],
    );
    pool.unseen = Unseen { updated: 2, old: 1 };
    let decision = pool.decide();
    let SandboxSetStatus {
        replicas, available_replicas, updated_replicas, updated_available_replicas, ..
    } = decision.status;
    assert_eq!((replicas, available_replicas), (6, 2));
    assert_eq!((updated_replicas, updated_available_replicas), (Some(5), Some(2)));
    assert_eq!(decision.create, 3);
}

#[tokio::test]
async fn lp2_what_is_missing_is_created_within_the_limit_of_the_scale_strategy() {
    for (limit, expected) in [(json!(4), 2), (json!("50%"), 3), (json!(0), 0), (json!(1), 0), (json!("x"), 7)]
    {
        let set = with_scale_limit(set(10, "i"), &limit);
        let mut pool = Pool::new(set.clone(), some(&set, 2).into_iter().chain([member(&set, "r").ready()]));
        assert_eq!(pool.decide().create, expected, "{limit}");
    }
    let none = with_scale_limit(set(10, "i"), &json!(0));
    assert_eq!(Pool::new(none, []).decide().create, 1, "a pool can always grow");
}

#[tokio::test]
async fn lp2_old_revisions_go_first_then_members_that_are_not_available() {
    let (old, new) = (set(0, "old"), set(2, "new"));
    let mut pool = Pool::new(
        new.clone(),
        [
            member(&new, "new available").ready(),
            member(&new, "new creating"),
            member(&old, "old available").ready(),
            member(&old, "old creating"),
        ],
    );
    let decision = pool.decide();
    let [what] = decision.take_down.as_slice() else { panic!("{decision:?}") };
    assert_eq!((what.cause, what.count), (Cause::ScaleDown, 2));
    let order = ["old creating", "old available", "new creating", "new available"];
    assert_eq!(names(&what.candidates), order);
}

#[tokio::test]
async fn lp2_no_claimed_and_no_locked_member_is_taken_down() {
    let set = set(0, "i");
    let mut pool = Pool::new(
        set.clone(),
        [
            member(&set, "claimed").ready().claimed(),
            member(&set, "being claimed").ready().locked_by("user"),
            member(&set, "dead and being claimed").failed("m").locked_by("user"),
            member(&set, "free").ready(),
        ],
    );
    let decision = pool.decide();
    assert_eq!(decision.take_down.len(), 1);
    assert_eq!(names(&decision.take_down[0].candidates), ["free"]);
    assert!(decision.bury.is_empty(), "{decision:?}");
}

#[tokio::test]
async fn lp2_a_lock_of_ours_is_taken_up_when_it_is_due() {
    let set = set(1, "i");
    let locked = member(&set, "locked").ready().locked_by(OWNER_SCALE_DOWN);
    let mut pool = Pool::new(set.clone(), [locked, member(&set, "other").ready()]);
    pool.members[0].due = Some(pool.now + 30 * SECOND);
    let decision = pool.decide();
    assert!(decision.is_idle(), "{decision:?}");
    assert_eq!(decision.requeue, Some(30 * SECOND), "lc6");
    pool.now += 30 * SECOND;
    assert_eq!(names(&pool.decide().finish), ["locked"]);
}

#[tokio::test]
async fn lc7_a_member_whose_deletion_is_refused_is_left_alone_for_a_while() {
    let set = set(1, "i");
    // It was available before.
    let died = |name: &str| {
        let mut sandbox = member(&set, name).failed("m");
        sandbox.status.as_mut().unwrap().sandbox_ip = Some("10.0.0.1".into());
        sandbox
    };
    let mut pool = Pool::new(
        set.clone(),
        [
            died("a"),
            died("b"),
            member(&set, "c").ready().locked_by(OWNER_SCALE_DOWN),
            member(&set, "d").ready(),
        ],
    );
    let retry_at = pool.now + 8 * SECOND;
    pool.members[2].due = Some(pool.now);
    for (i, message) in [(0, "keep a"), (2, "keep c")] {
        pool.members[i].refusal = Some(Refusal { message: message.to_owned(), retry_at });
    }
    // As the memory of the set does it.
    pool.members[0].is_protected = true;
    let decision = pool.decide();
    assert_eq!((names(&decision.bury), names(&decision.finish)), (vec!["b"], vec![]));
    assert_eq!(decision.requeue, Some(8 * SECOND), "lc6");
    let condition = &decision.status.conditions.unwrap()[0];
    assert_eq!((&*condition.reason, &*condition.message), ("DeleteSandboxFailed", "keep a"));
    pool.now = retry_at;
    pool.members[0].is_protected = false;
    let decision = pool.decide();
    assert_eq!((names(&decision.bury), names(&decision.finish)), (vec!["a", "b"], vec!["c"]));
}

#[tokio::test]
async fn lp7_a_rollout_counts_members_that_could_not_be_deleted_as_taken_down() {
    let (old, new) = (set(0, "old"), set(10, "new"));
    // Overdue members, old ones that are being created, and how many of these and of the available ones may go.
    for (overdue, creating, expected) in [
        (0, 0, vec![2]),
        (1, 0, vec![1]),
        (2, 0, vec![]),
        (3, 0, vec![]),
        (0, 5, vec![5]),
        (1, 5, vec![1]),
        (2, 5, vec![]),
    ] {
        let locked = (0..overdue).map(|i| member(&old, &format!("l{i}")).ready().locked_by(OWNER_SCALE_DOWN));
        let members = locked.chain(some(&old, creating));
        let members = members.chain(ready(&old, 10).into_iter().skip(creating));
        let mut pool = Pool::new(new.clone(), members.collect::<Vec<_>>());
        for i in 0..overdue {
            pool.members[i].due = Some(pool.now);
        }
        let counts: Vec<_> = pool.decide().take_down.iter().map(|what| what.count).collect();
        assert_eq!(counts, expected, "{overdue} overdue, {creating} creating");
    }
}

#[tokio::test]
async fn lp4_dead_members_are_deleted_and_replaced() {
    let set = set(2, "i");
    let mut pool = Pool::new(set.clone(), ready(&set, 2));
    assert!(pool.decide().is_idle());
    let died = member(&set, "a1").ready().failed("killed");
    pool.show([member(&set, "a0").ready(), died]);
    let decision = pool.decide();
    assert_eq!(names(&decision.bury), ["a1"]);
    assert_eq!(decision.create, 1, "a member that was available is no failure of the set");
}

#[tokio::test]
async fn lp4_members_that_die_before_they_were_available_use_up_the_budget() {
    let set = set(10, "i");
    let mut pool = Pool::new(set.clone(), some(&set, 10));
    assert!(pool.decide().is_idle());
    // All of them die: one failure.
    pool.show(some(&set, 10).into_iter().map(|sandbox| sandbox.failed("no such file")));
    for (delay, probe) in [(1, "p1"), (2, "p2"), (4, "p3")] {
        let decision = pool.decide();
        assert_eq!(decision.create, 0);
        assert_eq!(decision.requeue, Some(delay * SECOND));
        let condition = &decision.status.conditions.as_ref().unwrap()[0];
        assert_eq!((&*condition.type_, &condition.status), (CONDITION_PROGRESSING, &ConditionStatus::False));
        assert_eq!(&*condition.reason, "MembersKeepFailing");
        assert!(condition.message.contains("no such file"), "{}", condition.message);
        pool.show([]);
        pool.now += delay * SECOND;
        assert_eq!(pool.decide().create, 1, "one probe");
        pool.show([member(&set, probe)]);
        pool.now += SECOND / 10;
        assert_eq!(pool.decide().create, 0, "while the probe is not available");
        pool.show([member(&set, probe).failed("no such file")]);
    }
    assert_eq!(pool.decide().requeue, Some(8 * SECOND));
    pool.now += 8 * SECOND;
    pool.show([member(&set, "p4").ready()]);
    let decision = pool.decide();
    assert_eq!(decision.create, 9, "a member that becomes available ends the back-off");
}

#[tokio::test]
async fn lp4_the_delay_ends_at_five_minutes() {
    let set = set(1, "i");
    let mut pool = Pool::new(set.clone(), []);
    pool.decide();
    let mut last = None;
    for i in 0..20 {
        pool.show([member(&set, &format!("p{i}")).failed("m")]);
        last = pool.decide().requeue;
        pool.now += last.unwrap();
    }
    assert_eq!(last, Some(Duration::from_mins(5)));
}

#[tokio::test]
async fn lp4_a_new_template_ends_the_back_off() {
    let old = set(3, "broken");
    let mut pool = Pool::new(old.clone(), [member(&old, "a").failed("m")]);
    assert_eq!(pool.decide().create, 0);
    pool.set = set(3, "fixed");
    pool.show([]);
    assert_eq!(pool.decide().create, 3);
}

#[tokio::test]
async fn lp4_members_that_cannot_be_scheduled_are_kept() {
    let set = set(2, "i");
    let mut pool = Pool::new(set.clone(), some(&set, 2));
    pool.now += Duration::from_hours(1);
    let decision = pool.decide();
    assert!(decision.is_idle(), "{decision:?}");
}

#[tokio::test]
async fn lc7_a_refused_creation_is_shown_and_tried_again_with_one() {
    let set = set(5, "i");
    let mut pool = Pool::new(set, []);
    pool.refusals.failed(pool.now, "exceeded quota".into());
    let decision = pool.decide();
    assert_eq!((decision.create, decision.requeue), (0, Some(SECOND)));
    let condition = &decision.status.conditions.as_ref().unwrap()[0];
    assert_eq!((&*condition.reason, &*condition.message), ("CreateSandboxFailed", "exceeded quota"));
    pool.now += SECOND;
    assert_eq!(pool.decide().create, 1);
}

#[tokio::test]
async fn lp5_a_rollout_takes_old_creating_members_and_as_many_available_ones_as_the_limit_allows() {
    for (limit, replicas, expected) in [
        (None, 10, 2),
        (None, 1, 1),
        (None, 0, 0),
        (Some(json!(3)), 10, 3),
        (Some(json!("25%")), 10, 3),
        (Some(json!(0)), 10, 0),
    ] {
        let old = set(replicas, "old");
        let new = limit
            .as_ref()
            .map_or(set(replicas, "new"), |limit| with_update_limit(set(replicas, "new"), limit));
        let count = usize::try_from(replicas).unwrap();
        let mut pool = Pool::new(new, ready(&old, count));
        let decision = pool.decide();
        let taken: usize = decision.take_down.iter().map(|what| what.count).sum();
        assert_eq!(taken, expected, "{limit:?} of {replicas}");
        assert!(decision.take_down.iter().all(|what| what.cause == Cause::Rollout));
    }
}

#[tokio::test]
async fn lp5_a_rollout_counts_what_is_not_available_already() {
    let (old, new) = (set(10, "old"), set(10, "new"));
    let members = ready(&old, 8).into_iter().chain([member(&new, "n1"), member(&old, "o1")]);
    let decision = Pool::new(new.clone(), members).decide();
    let [what] = decision.take_down.as_slice() else { panic!("{decision:?}") };
    assert_eq!((what.count, names(&what.candidates)), (1, vec!["o1"]), "two are not available");
}

#[tokio::test]
async fn lp5_the_numbers_and_the_condition_are_right_during_a_rollout() {
    let (old, new) = (set(10, "old"), set(10, "new"));
    let members = ready(&old, 6).into_iter().chain([member(&new, "n1"), member(&new, "n2").ready()]);
    let mut pool = Pool::new(new.clone(), members);
    pool.unseen = Unseen { updated: 2, old: 0 };
    let status = pool.decide().status;
    assert_eq!((status.replicas, status.available_replicas), (10, 7));
    assert_eq!((status.updated_replicas, status.updated_available_replicas), (Some(4), Some(1)));
    let condition = &status.conditions.as_ref().unwrap()[0];
    assert_eq!((&*condition.reason, &condition.status), ("RollingUpdate", &ConditionStatus::True));
    assert!(condition.message.starts_with("6 sandboxes"), "{}", condition.message);
    // Afterwards the condition says so.
    pool.set.status = Some(status);
    pool.unseen = Unseen::default();
    pool.show(ready(&new, 10));
    let condition = pool.decide().status.conditions.unwrap().remove(0);
    assert_eq!(&*condition.reason, "RolloutComplete");
}

#[tokio::test]
async fn lp6_the_status_of_a_quiet_pool_has_no_condition() {
    let set = set(2, "i");
    let mut pool = Pool::new(set.clone(), ready(&set, 2));
    let status = pool.decide().status;
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.update_revision.as_deref(), Some(&*pool.revision()));
    let selector = "agents.kruise.io/sandbox-claimed=false,agents.kruise.io/sandbox-pool=pool";
    assert_eq!(status.selector.as_deref(), Some(selector));
    assert_eq!(status.conditions, None);
    pool.set.status = Some(status.clone());
    assert_eq!(pool.decide().status, status, "nothing changes");
}

#[tokio::test]
async fn lc6_a_member_that_will_end_leads_to_a_new_decision() {
    let set = set(1, "i");
    let mut ending = member(&set, "a").ready();
    let end = wall().checked_add(Duration::from_secs(7)).unwrap();
    ending.spec.shutdown_time = Some(end.into());
    assert_eq!(Pool::new(set, [ending]).decide().requeue, Some(7 * SECOND + Duration::from_millis(1)));
}

#[tokio::test]
async fn lc2_sandboxes_out_of_scope_are_not_created_again() {
    let set = set(3, "i");
    let mut pool = Pool::new(set, []);
    pool.is_out_of_scope = true;
    let decision = pool.decide();
    assert_eq!(decision.create, 0);
    assert_eq!(&*decision.status.conditions.unwrap()[0].reason, "SandboxesOutOfScope");
}

#[tokio::test]
async fn v9_a_set_whose_replicas_could_not_be_read_is_left_alone() {
    let mut set = set(3, "i");
    set.spec.replicas = None;
    let decision = Pool::new(set.clone(), ready(&set, 5)).decide();
    assert!(decision.is_idle(), "{decision:?}");
}

#[tokio::test]
async fn v9_a_member_whose_state_could_not_be_read_keeps_its_place() {
    let set = set(1, "i");
    let mut unread = member(&set, "a").ready();
    let fault = shared_cache::DecodeError { field: "status.phase".into(), problem: String::new() };
    unread.unread = vec![fault].into();
    let member = Member::new(unread.clone().into(), "r", wall());
    assert_eq!((member.standing, member.is_protected), (Standing::Creating, true));
    assert!(Pool::new(set, [unread]).decide().is_idle());
}

#[tokio::test]
async fn a_set_without_a_template_says_so() {
    let mut set = set(1, "i");
    set.spec.template = None;
    let decision = Pool::new(set, []).decide();
    assert_eq!(decision.create, 0);
    assert_eq!(&*decision.status.conditions.unwrap()[0].reason, "TemplateMissing");
}

#[tokio::test]
async fn ls2_a_set_whose_template_is_missing_creates_nothing_and_replaces_nothing() {
    let set = referring_set(3);
    let mut pool = Pool::new(set.clone(), [member(&set, "old").ready()]);
    let decision = pool.decide();
    assert!(decision.is_idle(), "two are missing: {decision:?}");
    let condition = &decision.status.conditions.as_ref().unwrap()[0];
    assert_eq!((&*condition.reason, condition.is_true()), ("TemplateNotFound", false));
    assert_eq!(&*condition.message, "SandboxTemplate gold not found");
    // The template appears, and the members are of another revision.
    pool.template = Template::of(&set, Some(sandbox_template("i").into()));
    pool.show([member(&set, "old").ready()]);
    assert_eq!(pool.decide().create, 2);
    pool.show(ready(&set, 3));
    assert_eq!(pool.decide().take_down.len(), 1);
    // Without a template the set still shrinks.
    pool = Pool::new(referring_set(0), [member(&set, "old").ready()]);
    assert_eq!(names(&pool.decide().take_down[0].candidates), ["old"]);
}

#[tokio::test]
async fn lp5_an_edited_sandbox_template_replaces_the_members() {
    let set = referring_set(10);
    let template = |image: &str| Template::of(&set, Some(sandbox_template(image).into()));
    let mut pool = Pool::new(set.clone(), []);
    pool.template = template("old");
    let revision = pool.revision();
    let of_revision = |mut sandbox: Sandbox| {
        sandbox.metadata.labels.as_mut().unwrap().insert(LABEL_TEMPLATE_HASH.into(), revision.to_string());
        sandbox
    };
    let members: Vec<_> = ready(&set, 10).into_iter().map(of_revision).collect();
    pool.show(members.clone());
    assert!(pool.decide().is_idle());
    pool.template = template("new");
    pool.show(members);
    let decision = pool.decide();
    assert_eq!((decision.take_down[0].cause, decision.take_down[0].count), (Cause::Rollout, 2));
    assert_eq!(decision.status.updated_replicas, Some(0));
}

#[tokio::test]
async fn lp6_the_current_revision_names_the_sandbox_template_of_the_revision() {
    let set = referring_set(1);
    let mut pool = Pool::new(set.clone(), []);
    pool.template = Template::of(&set, Some(sandbox_template("i").into()));
    let status = pool.decide().status;
    assert_eq!(status.current_revision.as_deref(), Some("gold"));
    // A set that has a template of its own has no such object, except those of OpenKruise Agents.
    let mut pool = Pool::new(set_of_upstream("i"), []);
    pool.known = Some("5844467cf5".into());
    assert_eq!(pool.decide().status.current_revision.as_deref(), Some("pool-5844467cf5"));
    pool.known = None;
    let status = pool.decide().status;
    assert_eq!((status.update_revision.as_deref(), status.current_revision), (Some(&*pool.revision()), None));
}

fn set_of_upstream(image: &str) -> SandboxSet {
    let mut set = set(1, image);
    let status = set.status.get_or_insert_default();
    status.update_revision = Some("5844467cf5".into());
    status.current_revision = Some("pool-5844467cf5".into());
    set
}

#[tokio::test]
async fn lc7_a_request_that_failed_is_shown() {
    for (attempted, reason) in
        [(Attempted::Creation, "CreateSandboxFailed"), (Attempted::Deletion, "DeleteSandboxFailed")]
    {
        let mut pool = Pool::new(set(1, "i"), []);
        pool.trouble = Some(Trouble { attempted, message: "no webhook".into() });
        let condition = pool.decide().status.conditions.unwrap().remove(0);
        assert_eq!((&*condition.reason, &*condition.message), (reason, "no webhook"));
        assert_eq!(condition.status, ConditionStatus::False);
    }
}
