//! One or two candidates: take, renew, lose, release.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::support::{Candidate, SECOND, lease, lease_writes, leases, options};
use crate::http::CheckStatus;

async fn notes(server: &ApiServer) -> Vec<String> {
    let events: Api<Event> = Api::namespaced(server.client_without_faults(), "default");
    let events = events.list(&ListParams::default()).await.unwrap();
    let mut notes: Vec<_> = events.into_iter().filter_map(|event| event.note).collect();
    notes.sort();
    notes
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_exist_is_created_and_renewed() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    assert!(!a.may_write(), "not before the lease is won");
    a.wins_within(SECOND).await;
    assert_eq!(lease(&server).await, ("a".to_owned(), 0, 15));
    let first = leases(&server).get("lock").await.unwrap();
    for _ in 0..120 {
        sleep(SECOND).await;
        assert!(a.may_write());
    }
    let renewed = leases(&server).get("lock").await.unwrap();
    assert_ne!(first.resource_version(), renewed.resource_version());
    assert_eq!(lease(&server).await, ("a".to_owned(), 0, 15));
    assert_eq!(first.spec.unwrap().acquire_time, renewed.spec.unwrap().acquire_time);
    assert_eq!(
        (a.metric("leader_election_master_status"), a.metric("leader_election_slowpath_total")),
        ("1".into(), "0".into())
    );
    assert_eq!(a.status.check(), CheckStatus::OkWith("this process leads as a".to_owned()));
    assert_eq!(notes(&server).await, ["a became leader"]);
}

#[tokio::test(start_paused = true)]
async fn a_released_lease_is_taken_within_the_retry_period() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let b = Candidate::start(&server, "b");
    sleep(40 * SECOND).await;
    assert!(a.may_write() && !b.may_write());
    assert_eq!(b.status.check(), CheckStatus::OkWith("a leads".to_owned()));
    assert_eq!(b.metric("leader_election_master_status"), "0");
    let (fence, status) = (a.fence.clone(), a.status.clone());
    a.leadership.release().await;
    assert!(fence.check().is_err());
    assert_eq!(status.check(), CheckStatus::OkWith("nobody leads".to_owned()));
    assert_eq!(lease(&server).await, (String::new(), 0, 1));
    b.wins_within(2 * SECOND).await;
    assert_eq!(lease(&server).await, ("b".to_owned(), 1, 15));
    sleep(SECOND).await;
    assert_eq!(notes(&server).await, ["a became leader", "a stopped leading", "b became leader"]);
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_process_that_died_is_taken_when_it_has_expired() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let b = Candidate::start_with(server.client(), options("b"), 1000 * SECOND);
    sleep(3 * SECOND).await;
    drop(a);
    let died = Instant::now();
    b.wins_within(20 * SECOND).await;
    assert!(died.elapsed() >= 13 * SECOND, "{:?}", died.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_a_network_stops_writing_before_another_process_takes_the_lease() {
    let server = ApiServer::new();
    let mut a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let b = Candidate::start(&server, "b");
    sleep(5 * SECOND).await;
    a.network.freeze(true);
    let frozen = Instant::now();
    let lost = a.loses_within(11 * SECOND).await;
    assert!(frozen.elapsed() <= 10 * SECOND, "{:?}", frozen.elapsed());
    assert_eq!((lost.remaining, lost.lease.as_str()), (std::time::Duration::ZERO, "default/lock"));
    assert!(lost.cause.starts_with("not renewed for 10 s: no answer"), "{lost}");
    assert!(!b.may_write());
    b.wins_within(10 * SECOND).await;
    assert_eq!(a.metric("leader_election_master_status"), "0");
    a.network.freeze(false);
    sleep(60 * SECOND).await;
    assert!(!a.may_write() && b.may_write(), "the old leader does not come back");
    assert_eq!(lease(&server).await, ("b".to_owned(), 1, 15));
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_api_server_does_not_lose_the_lease() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    server.inject(&FaultPlan::request(
        On::kind("leases"),
        Times::Always,
        RequestFault::Answer { code: 503, retry_after: None },
    ));
    sleep(7 * SECOND).await;
    assert!(
        matches!(a.status.check(), CheckStatus::Degraded(problem) if problem.contains("cannot update the lease default/lock"))
    );
    server.clear_faults();
    sleep(20 * SECOND).await;
    assert!(a.may_write());
    assert_eq!(a.status.check(), CheckStatus::OkWith("this process leads as a".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on() {
    let server = ApiServer::new();
    let mut a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    sleep(5 * SECOND).await;
    let writes = lease_writes(&server);
    a.process.pause(true);
    sleep(11 * SECOND).await;
    assert!(!a.may_write(), "before any task has run");
    a.process.pause(false);
    let lost = a.loses_within(SECOND).await;
    assert_eq!(lost.cause, "not renewed for 10 s: the process did not run");
    assert_eq!(lease_writes(&server), writes, "it must not renew a lease that may be another's");
}

/// Timers stand still while the machine is suspended, the clock does not.
#[tokio::test(start_paused = true)]
async fn a_process_on_a_machine_that_was_suspended_writes_nothing_after_it() {
    let server = ApiServer::new();
    let mut a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    sleep(5 * SECOND).await;
    let writes = lease_writes(&server);
    a.clock.jump(3600 * SECOND);
    assert!(!a.may_write(), "before any timer has fired");
    a.loses_within(3 * SECOND).await;
    assert_eq!(lease_writes(&server), writes);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_comes_too_late_does_not_count() {
    let server = ApiServer::new();
    let mut a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    sleep(5 * SECOND).await;
    a.network.freeze(true);
    sleep(3 * SECOND).await;
    a.clock.jump(11 * SECOND);
    a.network.freeze(false);
    a.loses_within(3 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_to_another_process_is_lost_at_once() {
    let server = ApiServer::new();
    for (holder, cause) in [("intruder", "intruder has taken it"), ("", "its holder was removed")] {
        let mut a = Candidate::start(&server, "a");
        a.wins_within(20 * SECOND).await;
        let mut changed = leases(&server).get("lock").await.unwrap();
        changed.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
        changed = leases(&server).replace("lock", &PostParams::default(), &changed).await.unwrap();
        let lost = a.loses_within(3 * SECOND).await;
        assert_eq!(lost.cause, cause);
        assert!(lost.remaining > 5 * SECOND, "handlers may end: {:?}", lost.remaining);
        assert_eq!(leases(&server).get("lock").await.unwrap().spec, changed.spec, "nothing is written");
        assert_eq!(a.metric("leader_election_slowpath_total"), "1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_or_deleted_lease_is_read_and_kept() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let mut labelled = leases(&server).get("lock").await.unwrap();
    labelled.labels_mut().insert("team".to_owned(), "x".to_owned());
    leases(&server).replace("lock", &PostParams::default(), &labelled).await.unwrap();
    sleep(10 * SECOND).await;
    assert!(a.may_write());
    assert_eq!(a.metric("leader_election_slowpath_total"), "1");
    assert_eq!(leases(&server).get("lock").await.unwrap().labels()["team"], "x");
    leases(&server).delete("lock", &DeleteParams::default()).await.unwrap();
    sleep(10 * SECOND).await;
    assert!(a.may_write());
    assert_eq!(a.metric("leader_election_slowpath_total"), "2");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_found_out() {
    let server = ApiServer::new();
    for verb in [Verb::Create, Verb::Update] {
        server.inject(&FaultPlan::request(
            On::request(verb, "leases"),
            Times::First(1),
            RequestFault::DropAnswer,
        ));
        let a = Candidate::start(&server, "a");
        a.wins_within(3 * SECOND).await;
        sleep(10 * SECOND).await;
        assert!(a.may_write());
        assert_eq!(lease(&server).await.0, "a");
        a.leadership.release().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_though_the_answer_to_a_renewal_was_not_waited_for() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let update = On::request(Verb::Update, "leases");
    server.inject(&FaultPlan::request(update, Times::First(1), RequestFault::DropAnswer));
    sleep(2 * SECOND).await;
    a.leadership.release().await;
    assert_eq!(lease(&server).await.0, "");
}

/// The process stops before it knows that it holds the lease.
#[tokio::test(start_paused = true)]
async fn a_lease_is_released_though_the_answer_to_the_first_write_was_lost() {
    for verb in [Verb::Create, Verb::Update] {
        let server = ApiServer::new();
        if verb == Verb::Update {
            let first = Candidate::start(&server, "first");
            first.wins_within(SECOND).await;
            first.leadership.release().await;
        }
        let write = On::request(verb, "leases");
        server.inject(&FaultPlan::request(write, Times::First(1), RequestFault::DropAnswer));
        let a = Candidate::start(&server, "a");
        sleep(SECOND).await;
        assert!(!a.may_write());
        assert_eq!(lease(&server).await.0, "a", "the write was executed");
        a.leadership.release().await;
        assert_eq!(lease(&server).await.0, "", "{verb:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_released_though_the_process_did_not_run_while_it_took_it() {
    let server = ApiServer::new();
    let slow = RequestFault::Delay(SECOND);
    server.inject(&FaultPlan::request(On::request(Verb::Create, "leases"), Times::First(1), slow));
    let a = Candidate::start(&server, "a");
    sleep(SECOND / 2).await;
    a.clock.jump(11 * SECOND);
    sleep(SECOND).await;
    assert!(!a.may_write(), "the answer came too late");
    assert_eq!(lease(&server).await.0, "a");
    a.leadership.release().await;
    assert_eq!(lease(&server).await.0, "");
}

/// Its write was not executed, and another process has taken the lease meanwhile.
#[tokio::test(start_paused = true)]
async fn a_candidate_whose_write_has_failed_does_not_release_the_lease_of_another() {
    let server = ApiServer::new();
    server.inject(&FaultPlan::request(
        On::request(Verb::Create, "leases"),
        Times::First(1),
        RequestFault::Drop,
    ));
    let a = Candidate::start(&server, "a");
    sleep(SECOND).await;
    let b = Candidate::start(&server, "b");
    b.wins_within(SECOND / 4).await;
    a.leadership.release().await;
    assert_eq!(lease(&server).await.0, "b");
    assert!(b.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_stopped_while_it_waits_leaves_the_lease_alone() {
    let server = ApiServer::new();
    let a = Candidate::start(&server, "a");
    a.wins_within(SECOND).await;
    let b = Candidate::start(&server, "b");
    sleep(5 * SECOND).await;
    b.leadership.release().await;
    assert_eq!(lease(&server).await.0, "a");
    assert!(a.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_and_retried_more_and_more_seldom() {
    let server = ApiServer::new();
    let a = Candidate::start_with(server.client_as("nobody"), options("a"), SECOND);
    sleep(300 * SECOND).await;
    let CheckStatus::Degraded(problem) = a.status.check() else { panic!("{:?}", a.status.check()) };
    let expected = r#"no permission to get leases.coordination.k8s.io "lock" in namespace "default": "#;
    assert!(problem.starts_with(expected), "{problem}");
    let requests = server.requests().len();
    assert!((10..20).contains(&requests), "{requests} requests in 300 s");
    for object in [
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
               "metadata": {"name": "r", "namespace": "default"},
               "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}]}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
               "metadata": {"name": "r", "namespace": "default"},
               "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
               "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "nobody"}]}),
    ] {
        server.load(&object).unwrap();
    }
    a.wins_within(30 * SECOND).await;
    // It may not write Events, which is no reason not to lead.
    sleep(30 * SECOND).await;
    assert!(a.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_missing_namespace_is_named_and_waited_for() {
    let server = ApiServer::new();
    let mut elsewhere = options("a");
    elsewhere.namespace = "elsewhere".to_owned();
    let a = Candidate::start_with(server.client(), elsewhere, SECOND);
    sleep(60 * SECOND).await;
    let problem = "cannot create the lease \"lock\": the namespace \"elsewhere\" does not exist";
    assert_eq!(a.status.check(), CheckStatus::Degraded(problem.to_owned()));
    let metadata = ObjectMeta { name: Some("elsewhere".to_owned()), ..ObjectMeta::default() };
    let namespaces: Api<Namespace> = Api::all(server.client());
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await.unwrap();
    a.wins_within(30 * SECOND).await;
}
