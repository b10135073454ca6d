//! Compares the ready queue with a plain list, in random sequences of events, claims and passing time (Q1).

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::Instant;

use super::pools::{Pools, Tried};
use super::*;

const UIDS: usize = 6;

/// A member of set `set` in revision `revision`.
fn member(uid: usize, set: usize, revision: usize, version: u64, is_ready: bool) -> Arc<Sandbox> {
    let status = if is_ready { "True" } else { "False" };
    let object = json!({
        "metadata": {
            "namespace": "ns", "name": format!("m-{uid}"), "uid": format!("u-{uid}"),
            "resourceVersion": version.to_string(),
            "labels": {
                "agents.kruise.io/sandbox-pool": format!("set-{set}"),
                "agents.kruise.io/template-hash": format!("r-{revision}"),
            },
            "ownerReferences": [{
                "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": format!("set-{set}"),
                "uid": format!("s-{set}"), "controller": true,
            }],
        },
        "spec": {},
        "status": {
            "phase": "Running", "podInfo": {"podIP": "10.0.0.1"},
            "conditions": [{"type": "Ready", "status": status, "reason": "PodReady", "message": "",
                            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    Apply { uid: usize, set: usize, revision: usize, is_ready: bool },
    Delete { uid: usize },
    Take { set: usize, revision: usize, random: usize },
    Unchanged { which: usize },
    Changed { which: usize, newer: u64, millis: u64 },
    Pass { millis: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..UIDS, 0..2_usize, 0..2_usize, prop::bool::weighted(0.8))
            .prop_map(|(uid, set, revision, is_ready)| Step::Apply { uid, set, revision, is_ready }),
        1 => (0..UIDS).prop_map(|uid| Step::Delete { uid }),
        4 => (0..2_usize, 0..3_usize, any::<usize>())
            .prop_map(|(set, revision, random)| Step::Take { set, revision, random }),
        2 => any::<usize>().prop_map(|which| Step::Unchanged { which }),
        2 => (any::<usize>(), 0..3_u64, 1..1000_u64)
            .prop_map(|(which, newer, millis)| Step::Changed { which, newer, millis }),
        1 => (1..800_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

/// The plain list: everything that is known of each sandbox.
#[derive(Default)]
struct Model {
    /// The newest state, if the sandbox exists: its set if it is free, its revision, its version.
    known: BTreeMap<usize, (Option<usize>, usize, u64)>,
    held: Vec<usize>,
    parked: BTreeMap<usize, (u64, Instant)>,
}

impl Model {
    fn free(&self, set: usize, now: Instant) -> Vec<(usize, usize)> {
        let is_parked = |uid: &usize, version: u64| {
            self.parked.get(uid).is_some_and(|(above, until)| version <= *above && *until > now)
        };
        let free = self.known.iter().filter(|(uid, (of, _, version))| {
            *of == Some(set) && !self.held.contains(uid) && !is_parked(uid, *version)
        });
        free.map(|(uid, (_, revision, _))| (*uid, *revision)).collect()
    }
}

fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (mut pools, mut model) = (Pools::default(), Model::default());
    let (mut now, mut version) = (Instant::now(), 10);
    for step in steps {
        match step {
            Step::Apply { uid, set, revision, is_ready } => {
                version += 1;
                let sandbox = member(uid, set, revision, version, is_ready);
                pools.see(&sandbox, pool_of(&sandbox, Timestamp::now()));
                model.known.insert(uid, (is_ready.then_some(set), revision, version));
                if model.parked.get(&uid).is_some_and(|(above, _)| version > *above) {
                    model.parked.remove(&uid);
                }
            }
            Step::Delete { uid } => {
                pools.forget(&format!("u-{uid}"));
                model.known.remove(&uid);
                model.parked.remove(&uid);
            }
            Step::Take { set, revision, random } => {
                // The API server never gives a UID again, so a sandbox that is gone is not parked for its successor.
                let free = model.free(set, now);
                let wanted = format!("r-{revision}");
                let taken = pools.take(&format!("s-{set}"), Some(&wanted), random, now);
                let Some(taken) = taken else {
                    prop_assert!(free.is_empty(), "{free:?} was not offered");
                    continue;
                };
                let uid: usize = taken.metadata.uid.as_deref().unwrap()[2..].parse().unwrap();
                let of_revision = free.iter().find(|(free, _)| *free == uid).map(|(_, revision)| *revision);
                prop_assert!(of_revision.is_some(), "{uid} is not free: {free:?}");
                let has_current = free.iter().any(|(_, of)| *of == revision);
                prop_assert!(
                    !has_current || of_revision == Some(revision),
                    "{uid} is not of the current revision"
                );
                prop_assert_eq!(version_of(&*taken), model.known.get(&uid).map(|(_, _, version)| *version));
                model.parked.remove(&uid);
                model.held.push(uid);
            }
            Step::Unchanged { which } if !model.held.is_empty() => {
                let uid = model.held.swap_remove(which % model.held.len());
                pools.put_back(&format!("u-{uid}"), Tried::Unchanged);
            }
            Step::Changed { which, newer, millis } if !model.held.is_empty() => {
                let uid = model.held.swap_remove(which % model.held.len());
                let (above, until) = (version + newer - 1, now + Duration::from_millis(millis));
                pools.put_back(&format!("u-{uid}"), Tried::Changed { above, until });
                model.parked.insert(uid, (above, until));
            }
            Step::Unchanged { .. } | Step::Changed { .. } => {}
            Step::Pass { millis } => now += Duration::from_millis(millis),
        }
    }
    // In the end each free member is offered exactly once.
    for set in 0..2 {
        let expected: HashSet<_> =
            model.free(set, now).into_iter().map(|(uid, _)| format!("u-{uid}")).collect();
        prop_assert_eq!(pools.len(&format!("s-{set}"), now), expected.len());
        let offered: Vec<_> = std::iter::from_fn(|| pools.take(&format!("s-{set}"), None, 0, now))
            .map(|sandbox| sandbox.metadata.uid.clone().unwrap())
            .collect();
        prop_assert_eq!(offered.len(), expected.len(), "offered {:?}, free {:?}", &offered, &expected);
        prop_assert_eq!(offered.into_iter().collect::<HashSet<_>>(), expected);
        prop_assert_eq!(pools.len(&format!("s-{set}"), now), 0);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn q1_the_queue_offers_exactly_the_free_members_and_none_twice(steps in prop::collection::vec(step(), 1..80)) {
        check(steps)?;
    }
}

type Change<'a> = &'a dyn Fn(&mut Sandbox);

#[test]
fn q1_only_an_available_unlocked_member_with_an_address_is_a_candidate() {
    let now = Timestamp::now();
    let change = |change: Change<'_>| {
        let mut sandbox = Sandbox::clone(&member(1, 1, 1, 1, true));
        change(&mut sandbox);
        pool_of(&sandbox, now).map(str::to_owned)
    };
    assert_eq!(change(&|_| {}).as_deref(), Some("s-1"));
    let label = |sandbox: &mut Sandbox, key: &str, value: &str| {
        sandbox.metadata.labels.get_or_insert_default().insert(key.into(), value.into());
    };
    let refused: [(&str, Change<'_>); 7] = [
        ("no controller", &|sandbox| sandbox.metadata.owner_references = None),
        ("another pool's label", &|sandbox| label(sandbox, LABEL_SANDBOX_POOL, "other")),
        ("claimed", &|sandbox| label(sandbox, "agents.kruise.io/sandbox-claimed", "true")),
        ("locked", &|sandbox| {
            let annotations = sandbox.metadata.annotations.get_or_insert_default();
            annotations.insert("agents.kruise.io/lock".into(), "x".into());
        }),
        ("no address", &|sandbox| sandbox.status.as_mut().unwrap().pod_info = None),
        ("not ready", &|sandbox| sandbox.status.as_mut().unwrap().conditions = None),
        ("its time is over", &|sandbox| {
            sandbox.spec.shutdown_time = Some("2020-01-01T00:00:00Z".parse().unwrap());
        }),
    ];
    for (what, refuse) in refused {
        assert_eq!(change(refuse), None, "{what}");
    }
    // The label of the template is that of a SandboxTemplate with `templateRef`, so it names no pool.
    assert!(change(&|sandbox| label(sandbox, "agents.kruise.io/sandbox-template", "gold")).is_some());
}
