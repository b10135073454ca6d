//! Random sequences of events, runs and outcomes on the queue and on the model, while the store is ahead of the queue.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use proptest::prelude::*;
use shared_cache::{Batch, ObjectKey, Observer, Snapshot};
use tokio::time::{Instant, advance};

use super::attempt::{Attempt, Outcome, Work};
use super::model::Model;
use super::options::QueueOptions;
use super::test_support::{applied, batch, deleted, name, object, queue};
use super::work_queue::WorkQueue;

const KEYS: usize = 3;
const BACKOFF: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Step {
    /// Creates the object of a key, or changes it.
    Apply(usize),
    Delete(usize),
    Recreate(usize),
    /// An owned object of the key has changed.
    Trigger(usize),
    /// The queue is told of so many changes of the store.
    Observe(usize),
    /// A run begins and reads the store.
    Begin,
    /// A run ends; which of those that have shown something, and how.
    End(usize, End),
    Advance(u64),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Ok,
    Requeue(u64),
    /// An error, or a panic: the queue treats both alike.
    Error,
    ErrorWithWish(u64),
    NotSynced,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let end = prop_oneof![
        6 => Just(End::Ok),
        2 => (0..20_u64).prop_map(End::Requeue),
        2 => Just(End::Error),
        1 => (0..20_u64).prop_map(End::ErrorWithWish),
        1 => Just(End::NotSynced),
    ];
    prop_oneof![
        3 => key().prop_map(Step::Apply),
        2 => key().prop_map(Step::Delete),
        2 => key().prop_map(Step::Recreate),
        1 => key().prop_map(Step::Trigger),
        5 => (1..4_usize).prop_map(Step::Observe),
        6 => Just(Step::Begin),
        6 => (0..KEYS, end).prop_map(|(run, end)| Step::End(run, end)),
        1 => (1..20_u64).prop_map(Step::Advance),
    ]
}

/// A run that has begun.
struct Run {
    attempt: Attempt<ConfigMap>,
    key: usize,
    /// The object that was read, and the sequence of the store then.
    read: (Option<Arc<ConfigMap>>, u64),
    /// Once the queue has seen that sequence: whether a deletion was shown, and the object that was.
    shown: Option<(bool, Option<Arc<ConfigMap>>)>,
}

struct Simulation {
    queue: WorkQueue<ConfigMap>,
    model: Model,
    store: BTreeMap<usize, Arc<ConfigMap>>,
    sequence: u64,
    /// Changes of the store that the queue was not told of.
    unobserved: VecDeque<Batch<ConfigMap>>,
    observed: u64,
    uids: u32,
    runs: Vec<Run>,
    /// The newest object that a successful run has shown.
    settled: BTreeMap<usize, Arc<ConfigMap>>,
    /// Keys of the initial list that have not run because of it. True if nothing else has happened to them, so that
    /// they must run.
    initial: BTreeMap<usize, bool>,
}

fn key_name(key: usize) -> String {
    format!("key-{key}")
}

fn uid(object: &ConfigMap) -> u32 {
    object.metadata.uid.as_deref().unwrap().parse().unwrap()
}

fn key_of(object: &ConfigMap) -> usize {
    object.metadata.name.as_deref().unwrap().strip_prefix("key-").unwrap().parse().unwrap()
}

impl Simulation {
    /// A queue that starts while these keys exist.
    fn new(existing: &[bool]) -> Self {
        let options = QueueOptions {
            first_backoff: BACKOFF,
            max_backoff: BACKOFF,
            retries_per_second: 0,
            retry_burst: 0,
        };
        let mut this = Self {
            queue: queue(&options),
            model: Model::default(),
            store: BTreeMap::new(),
            sequence: 7,
            unobserved: VecDeque::new(),
            observed: 7,
            uids: 0,
            runs: Vec::new(),
            settled: BTreeMap::new(),
            initial: BTreeMap::new(),
        };
        for (key, _) in existing.iter().enumerate().filter(|(_, exists)| **exists) {
            let created = this.next_object(key, None);
            this.store.insert(key, created);
            this.initial.insert(key, true);
        }
        let objects = this.store.values().cloned().collect();
        this.queue.start_from(Snapshot { objects, sequence: 7, synced: true, closed: None });
        this
    }

    fn next_object(&mut self, key: usize, of: Option<u32>) -> Arc<ConfigMap> {
        let uid = of.unwrap_or_else(|| {
            self.uids += 1;
            self.uids
        });
        object(&key_name(key), &uid.to_string(), self.sequence)
    }

    fn apply(&mut self, key: usize) {
        self.sequence += 1;
        let of = self.store.get(&key).map(|object| uid(object));
        let new = self.next_object(key, of);
        self.unobserved.push_back(batch(self.sequence, applied(&new)));
        self.store.insert(key, new);
    }

    fn delete(&mut self, key: usize) {
        if let Some(last_known) = self.store.remove(&key) {
            self.sequence += 1;
            self.unobserved.push_back(batch(self.sequence, deleted(&last_known)));
        }
    }

    fn observe(&mut self) {
        let Some(batch) = self.unobserved.pop_front() else { return };
        for delta in &batch.deltas {
            let object = delta.object();
            let key = key_of(object);
            self.happened(key);
            match delta {
                shared_cache::Delta::Applied { .. } => self.model.key(key).changed(),
                _ => self.model.key(key).deleted(uid(object)),
            }
        }
        self.observed = batch.sequence;
        self.queue.observe(&batch);
        self.show();
    }

    /// Something has happened to a key that leads to a run of its own.
    fn happened(&mut self, key: usize) {
        self.initial.entry(key).and_modify(|required| *required = false);
    }

    /// Begins a run if the queue has one, which must be so if and only if the model has one.
    fn begin(&mut self) {
        let now = Instant::now();
        let due = self.model.due(now);
        let Ok(attempt) = self.queue.pop() else {
            assert!(due.is_empty(), "{due:?} should run");
            assert!(!self.initial.values().any(|required| *required), "{:?} should run", self.initial);
            self.initial.clear();
            return;
        };
        let key = name(&attempt).strip_prefix("key-").unwrap().parse().unwrap();
        match &attempt.work {
            Work::Present { initial: Some(_) } => {
                assert!(self.model.key(key).is_idle(), "an initial object of a key that runs anyway");
                assert!(self.initial.remove(&key).is_some(), "an initial object runs twice");
            }
            _ => assert!(due.contains(&key), "{key} should not run, {due:?} should"),
        }
        self.model.key(key).begins();
        let read = (self.store.get(&key).cloned(), self.sequence);
        self.runs.push(Run { attempt, key, read, shown: None });
        self.show();
    }

    /// Shows what was read, in each run whose sequence the queue has seen: as the controller does it.
    fn show(&mut self) {
        for run in self.runs.iter_mut().filter(|run| run.shown.is_none()) {
            let model = self.model.keys.get_mut(&run.key).unwrap();
            let owed = match &run.attempt.work {
                Work::Deletion(owed) => Some(owed.clone()),
                Work::Present { .. } if run.read.1 > self.observed => continue,
                Work::Present { .. } => {
                    let owed = self.queue.owed(&run.attempt.key);
                    model.show |= owed.is_some();
                    owed
                }
            };
            if let Some(owed) = owed {
                model.shows_deletion(uid(&owed.last_known));
                run.shown = Some((true, None));
            } else {
                if let Some(object) = &run.read.0 {
                    model.shows(uid(object));
                }
                run.shown = Some((false, run.read.0.clone()));
            }
        }
    }

    fn end(&mut self, run: usize, end: End) {
        let now = Instant::now();
        let shown: Vec<_> = (0..self.runs.len()).filter(|run| self.runs[*run].shown.is_some()).collect();
        let Some(&run) = shown.get(run % shown.len().max(1)) else { return };
        let Run { attempt, key, shown, .. } = self.runs.swap_remove(run);
        let (deletion, object) = shown.unwrap();
        let secs = Duration::from_secs;
        let (outcome, delay) = match end {
            End::Ok => (Outcome::Done, None),
            End::Requeue(wish) => (Outcome::Requeue(secs(wish)), Some(secs(wish))),
            End::Error => (Outcome::Failed { wish: None }, Some(BACKOFF)),
            End::ErrorWithWish(wish) => {
                (Outcome::Failed { wish: Some(secs(wish)) }, Some(BACKOFF.min(secs(wish))))
            }
            End::NotSynced => (Outcome::Postponed(secs(1)), Some(secs(1))),
        };
        match (deletion, object) {
            (false, Some(object)) if delay.is_none() => drop(self.settled.insert(key, object)),
            (true, _) if delay.is_none() => drop(self.settled.remove(&key)),
            _ => {}
        }
        self.model.key(key).ends(deletion, delay, now);
        self.queue.finish(&attempt.key, deletion, outcome);
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Apply(key) => self.apply(key),
            Step::Delete(key) => self.delete(key),
            Step::Recreate(key) => {
                self.delete(key);
                self.apply(key);
            }
            Step::Trigger(key) => {
                self.happened(key);
                self.model.key(key).changed();
                self.queue.trigger(&[ObjectKey::new("ns", key_name(key))]);
            }
            Step::Observe(count) => (0..count).for_each(|_| self.observe()),
            Step::Begin => self.begin(),
            Step::End(run, end) => self.end(run, end),
            Step::Advance(seconds) => advance(Duration::from_secs(seconds)).await,
        }
    }

    /// Lets everything come to rest with handlers that succeed.
    async fn settle(&mut self) {
        while !self.unobserved.is_empty() {
            self.observe();
        }
        for _ in 0..100 {
            self.begin();
            self.end(0, End::Ok);
            if self.runs.is_empty() {
                advance(Duration::from_secs(1)).await;
            }
        }
    }

    fn check_rest(&self) {
        assert!(self.runs.is_empty() && self.initial.is_empty());
        for (key, model) in &self.model.keys {
            assert!(model.is_idle(), "{key} is not idle: {model:?}");
            let exists = self.store.get(key).map(|object| uid(object));
            assert_eq!(model.known, exists, "x1, r6: what handlers know of {key}");
        }
        let version = |object: &Arc<ConfigMap>| object.metadata.resource_version.clone();
        for (key, object) in &self.store {
            let settled = self.settled.get(key).and_then(version);
            assert_eq!(settled, version(object), "r6: the last successful run of {key} saw the newest state");
        }
        assert_eq!(self.queue.remembered(), 0, "entries are left over");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn x1_r5_r6_the_queue_does_what_the_model_does(
        existing in prop::collection::vec(any::<bool>(), KEYS),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut simulation = Simulation::new(&existing);
            for step in steps {
                simulation.step(step).await;
            }
            simulation.settle().await;
            simulation.check_rest();
        });
    }
}
