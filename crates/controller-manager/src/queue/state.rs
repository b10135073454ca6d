//! [`State`]: the entries of a queue and the order in which they run. Pure: it is given the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use shared_cache::{CacheObject, KeyRef};
use tokio::time::Instant;

use super::attempt::{Attempt, Outcome, Owed, Work};
use super::due::DueKeys;
use super::entry::{Entry, Priority, Stage};
use super::gauges::Depth;
use super::initial::InitialKeys;
use super::key::QueueKey;
use super::metrics::QueueMetrics;
use super::options::QueueOptions;
use super::retry::RetryLimits;

/// Every so many keys, one of low priority goes first: a steady stream of changes must not hold up the initial list
/// for ever.
const LOW_PRIORITY_TURN: u32 = 32;

/// Number of keys for which memory is kept. Above it, memory of a burst is given back.
const KEPT_CAPACITY: usize = 1024;

/// Longest time that a key waits, so that adding it to a time cannot overflow.
const LONGEST_WAIT: Duration = Duration::from_hours(24 * 365);

/// What is behind the lock of a [`WorkQueue`](super::WorkQueue).
pub(super) struct State<K> {
    entries: HashMap<QueueKey, Entry<K>>,
    /// Keys that are queued with high priority, in order. A key whose entry says otherwise is skipped.
    high: VecDeque<QueueKey>,
    /// The same with low priority.
    low: VecDeque<QueueKey>,
    /// Keys of the initial list that no worker has taken yet. They have no entry.
    initial: InitialKeys,
    initial_since: Instant,
    due: DueKeys,
    /// When each running attempt began.
    running: HashMap<QueueKey, Instant>,
    /// Number of entries that are queued, by their priority.
    queued: Depth,
    turn: u32,
    retries: RetryLimits,
    metrics: QueueMetrics,
}

impl<K: CacheObject> State<K> {
    pub(super) fn new(options: &QueueOptions, metrics: QueueMetrics, now: Instant) -> Self {
        Self {
            entries: HashMap::new(),
            high: VecDeque::new(),
            low: VecDeque::new(),
            initial: InitialKeys::default(),
            initial_since: now,
            due: DueKeys::default(),
            running: HashMap::new(),
            queued: Depth::default(),
            turn: 0,
            retries: RetryLimits::new(options, now),
            metrics,
        }
    }

    /// Queues the objects of the initial list behind everything else.
    pub(super) fn set_initial(&mut self, objects: &[Arc<K>], now: Instant) {
        self.metrics.adds.inc_by(objects.len() as u64);
        self.initial = InitialKeys::new(objects);
        self.initial_since = now;
    }

    /// The object of a key has changed, or something that its handlers depend on. Returns true if its run became due.
    pub(super) fn object_changed(&mut self, key: KeyRef<'_>, now: Instant) -> bool {
        self.record(key, now, |entry| {
            entry.show_object = true;
            true
        })
    }

    /// The object of a key has left the store. Returns true if the run of the key became due.
    pub(super) fn object_deleted(&mut self, owed: Owed<K>, now: Instant) -> bool {
        let last_known = Arc::clone(&owed.last_known);
        self.record(KeyRef::of(&*last_known), now, |entry| entry.record_deletion(owed))
    }

    /// Records an event in the entry of its key. If `record` returns true, the run of the key is due now, or once more
    /// after the one that is under way.
    fn record(&mut self, key: KeyRef<'_>, now: Instant, record: impl FnOnce(&mut Entry<K>) -> bool) -> bool {
        let Some((key, entry)) = self.entries.get_key_value_mut(&key) else {
            let key = QueueKey::new(key);
            let mut entry = Entry::new(Stage::Queued { since: now }, Priority::High);
            record(&mut entry);
            self.entries.insert(key.clone(), entry);
            self.push(key, Priority::High);
            return true;
        };
        if !record(entry) {
            return false;
        }
        let was = std::mem::replace(&mut entry.priority, Priority::High);
        match &mut entry.stage {
            Stage::Running { again } => *again = true,
            Stage::Queued { .. } if was == Priority::Low => {
                self.queued.low -= 1;
                self.queued.high += 1;
                self.high.push_back(key.clone());
            }
            Stage::Queued { .. } => {}
            Stage::Waiting { due } => {
                self.due.remove(*due, key);
                entry.stage = Stage::Queued { since: now };
                let key = key.clone();
                self.push(key, Priority::High);
                return true;
            }
        }
        false
    }

    /// Queues a key that was waiting or running.
    fn enqueue(&mut self, key: &QueueKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.stage = Stage::Queued { since: now };
            let priority = entry.priority;
            self.push(key.clone(), priority);
        }
    }

    fn push(&mut self, key: QueueKey, priority: Priority) {
        match priority {
            Priority::High => self.high.push_back(key),
            Priority::Low => self.low.push_back(key),
        }
        *self.queued.of(priority) += 1;
        self.metrics.adds.inc();
    }

    /// Takes the next key that is due. If there is none, returns the time at which one will be.
    pub(super) fn pop(&mut self, now: Instant) -> Result<Attempt<K>, Option<Instant>> {
        while let Some(key) = self.due.pop(now) {
            self.enqueue(&key, now);
        }
        self.turn = self.turn.wrapping_add(1);
        let low_first = self.turn.is_multiple_of(LOW_PRIORITY_TURN);
        let next = if low_first { self.pop_low(now) } else { None };
        let next = next.or_else(|| self.pop_queued(Priority::High, now));
        next.or_else(|| self.pop_low(now)).ok_or_else(|| self.due.first())
    }

    fn pop_low(&mut self, now: Instant) -> Option<Attempt<K>> {
        // The initial list goes first: it ends, while handlers may ask for further runs without end.
        self.pop_initial(now).or_else(|| self.pop_queued(Priority::Low, now))
    }

    fn pop_initial(&mut self, now: Instant) -> Option<Attempt<K>> {
        while let Some((key, version)) = self.initial.pop() {
            // An entry stands for a run that will see, or has seen, the object at least as new.
            if self.entries.contains_key(&key) {
                continue;
            }
            let key = QueueKey::new(key);
            let entry = Entry::new(Stage::Running { again: false }, Priority::Low);
            self.entries.insert(key.clone(), entry);
            self.begin(&key, self.initial_since, now);
            return Some(Attempt { key, work: Work::Present { initial: Some(version) } });
        }
        None
    }

    fn pop_queued(&mut self, priority: Priority, now: Instant) -> Option<Attempt<K>> {
        loop {
            let queue = if priority == Priority::High { &mut self.high } else { &mut self.low };
            let key = queue.pop_front()?;
            let entry = self.entries.get_mut(&key).filter(|entry| entry.is_queued(priority));
            let Some(entry) = entry else { continue };
            let Stage::Queued { since } = entry.stage else { continue };
            entry.stage = Stage::Running { again: false };
            entry.deletion_is_new = false;
            let work = if let Some(owed) = &entry.deletion {
                Work::Deletion(owed.clone())
            } else {
                entry.show_object = false;
                Work::Present { initial: None }
            };
            *self.queued.of(priority) -= 1;
            self.begin(&key, since, now);
            return Some(Attempt { key, work });
        }
    }

    fn begin(&mut self, key: &QueueKey, queued_since: Instant, now: Instant) {
        self.running.insert(key.clone(), now);
        let waited = now.saturating_duration_since(queued_since);
        self.metrics.queue_duration.observe(waited.as_secs_f64());
    }

    /// The deletion that a running attempt has to show instead of the object, if one is owed by now.
    pub(super) fn owed(&mut self, key: &QueueKey) -> Option<Owed<K>> {
        let entry = self.entries.get_mut(key)?;
        let owed = entry.deletion.clone()?;
        entry.deletion_is_new = false;
        // The object follows the deletion.
        entry.show_object = true;
        Some(owed)
    }

    /// Ends an attempt. `showed_deletion` tells what it has shown. Returns true if the next run of the key is due.
    pub(super) fn finish(
        &mut self,
        key: &QueueKey,
        showed_deletion: bool,
        outcome: Outcome,
        now: Instant,
    ) -> bool {
        if let Some(began) = self.running.remove(key) {
            self.metrics.work_duration.observe(now.saturating_duration_since(began).as_secs_f64());
        }
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let again = matches!(entry.stage, Stage::Running { again: true });
        let delay = match outcome {
            Outcome::Done => {
                entry.failures = 0;
                None
            }
            Outcome::Requeue(wish) => {
                entry.failures = 0;
                Some(wish)
            }
            Outcome::Failed { wish } => {
                entry.failures = entry.failures.saturating_add(1);
                let backoff = self.retries.delay(entry.failures, now);
                Some(wish.map_or(backoff, |wish| wish.min(backoff)))
            }
            Outcome::Postponed(delay) => Some(delay),
        };
        if delay.is_some() {
            self.metrics.retries.inc();
            // If the object was deleted meanwhile, there is nothing to show again.
            entry.show_object |= !showed_deletion && entry.deletion.is_none();
        } else if showed_deletion && !entry.deletion_is_new {
            entry.deletion = None;
        }
        // Something happened meanwhile, or the object follows the deletion that is done.
        if again || (delay.is_none() && entry.show_object) {
            self.enqueue(key, now);
            return true;
        }
        match delay {
            None => {
                self.entries.remove(key);
                self.shrink();
            }
            Some(delay) => {
                let due = now + delay.min(LONGEST_WAIT);
                entry.stage = Stage::Waiting { due };
                self.due.insert(due, key.clone());
            }
        }
        false
    }

    /// Gives back memory once few of the keys of a burst are left.
    fn shrink(&mut self) {
        let used = self.entries.len();
        if self.entries.capacity() > KEPT_CAPACITY.max(8 * used) {
            self.entries.shrink_to(2 * used);
            self.high.shrink_to(2 * used);
            self.low.shrink_to(2 * used);
        }
    }

    /// Number of keys whose run is due.
    pub(super) fn depth(&self) -> Depth {
        Depth { low: self.queued.low + self.initial.len(), ..self.queued }
    }

    /// For how long each running attempt has run.
    pub(super) fn running_for(&self, now: Instant) -> impl Iterator<Item = Duration> {
        self.running.values().map(move |began| now.saturating_duration_since(*began))
    }

    /// Number of keys for which there is memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity().max(self.high.capacity()).max(self.low.capacity())
    }

    /// Number of keys that anything is remembered of.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        let waiting =
            self.entries.values().filter(|entry| matches!(entry.stage, Stage::Waiting { .. })).count();
        let running =
            self.entries.values().filter(|entry| matches!(entry.stage, Stage::Running { .. })).count();
        let queued =
            self.entries.values().filter(|entry| matches!(entry.stage, Stage::Queued { .. })).count();
        assert_eq!(waiting, self.due.len());
        assert_eq!(running, self.running.len());
        assert_eq!(queued, self.queued.high + self.queued.low);
        self.entries.len()
    }
}
