//! Random schedules of claims, releases, pauses and failing requests, on several processes: nothing is given twice, and
//! what remains is exactly what was given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use memory_apiserver::{FaultPlan, On, RequestFault, Times, Verb};
use parking_lot::Mutex;
use proptest::prelude::*;
use sandbox_manager::claims::ClaimError;
use tokio::task::JoinSet;

use super::history::History;
use super::{Replica, request, stocked, target, until_locked};

#[derive(Clone, Debug)]
enum Step {
    /// A claim by one of the processes, whose caller is gone after this time.
    Claim {
        by: usize,
        patience: Option<u64>,
    },
    /// The release of a claimed sandbox, by one of the processes.
    Release {
        by: usize,
        which: usize,
    },
    /// Requests fail from now on.
    Fault {
        verb: usize,
        what: usize,
        every: u64,
    },
    /// Requests succeed again.
    Heal,
    Pass {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_usize, prop::option::weighted(0.3, 0..20_u64))
            .prop_map(|(by, patience)| Step::Claim { by, patience }),
        2 => (0..3_usize, any::<usize>()).prop_map(|(by, which)| Step::Release { by, which }),
        1 => (0..3_usize, 0..5_usize, 2..5_u64).prop_map(|(verb, what, every)| Step::Fault { verb, what, every }),
        1 => Just(Step::Heal),
        2 => (0..10_u64).prop_map(|millis| Step::Pass { millis }),
    ]
}

fn fault(verb: usize, what: usize, every: u64) -> FaultPlan {
    let verb = [Verb::Patch, Verb::Get, Verb::Delete][verb];
    let what = [
        RequestFault::Answer { code: 409, retry_after: None },
        RequestFault::Answer { code: 500, retry_after: None },
        RequestFault::Drop,
        RequestFault::DropAnswer,
        RequestFault::Delay(Duration::from_millis(5)),
    ][what]
        .clone();
    FaultPlan::request(On::request(verb, "sandboxes"), Times::Every(every), what)
}

/// What was given, and not released: the owner by the name of the sandbox.
type Given = Arc<Mutex<BTreeMap<String, String>>>;

async fn run(steps: Vec<Step>) {
    let server = stocked(25);
    let history = History::of(&server);
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(Replica::start(&server).await);
    }
    let given = Given::default();
    let mut tasks = JoinSet::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Claim { by, patience } => {
                let (claims, given, owner) =
                    (replicas[by].claims.clone(), Arc::clone(&given), format!("key-{number}"));
                tasks.spawn(async move {
                    let claim = claims.claim(request(&owner));
                    let patience = Duration::from_millis(patience.unwrap_or(60_000));
                    if let Ok(Ok(claimed)) = tokio::time::timeout(patience, claim).await {
                        let before = given.lock().insert(claimed.name_or_empty().to_owned(), owner);
                        assert_eq!(before, None, "{} was given twice", claimed.name_or_empty());
                    }
                });
            }
            Step::Release { by, which } => {
                let Some((name, owner)) = ({
                    let mut given = given.lock();
                    let name = given.keys().nth(which % given.len().max(1)).cloned();
                    name.and_then(|name| given.remove_entry(&name))
                }) else {
                    continue;
                };
                let claims = replicas[by].claims.clone();
                tasks.spawn(async move {
                    let named = super::Target::new(format!("{}--{name}", super::NAMESPACE)).owned_by(owner);
                    // The other process may not see the claim yet. A deletion whose answer is lost may have been made.
                    let mut may_be_gone = false;
                    loop {
                        match claims.release(&named).await {
                            Ok(()) => return,
                            Err(ClaimError::NotFound { .. }) if may_be_gone => return,
                            Err(ClaimError::NotFound { .. }) => {}
                            Err(_) => may_be_gone = true,
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                });
            }
            Step::Fault { verb, what, every } => server.inject(&fault(verb, what, every)),
            Step::Heal => server.clear_faults(),
            Step::Pass { millis } => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
    }
    server.clear_faults();
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    for sandbox in super::sandboxes(&server).await.iter().filter(|sandbox| sandbox.is_claimed()) {
        let owner = given.lock().get(sandbox.name_or_empty()).cloned();
        if let Some(owner) = owner {
            assert_eq!(sandbox.owner(), Some(&*owner));
            replicas[0].cache.wait_until_synced().await;
            replicas[0].claims.get(&target(sandbox).owned_by(owner)).unwrap();
        }
    }
    history.assert_none_given_twice();
    let left = given.lock().keys().cloned().collect();
    until_locked(&server, &left).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn q8_no_schedule_gives_one_sandbox_to_two_owners_or_leaves_one_locked(steps in prop::collection::vec(step(), 5..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
