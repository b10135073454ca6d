//! [`Subscription`]: a stream of the changes of one kind that never holds the watch up.
//!
//! Each subscriber has a queue with at most one entry a key. Changes of a key that wait are merged, so a
//! subscriber that falls behind, or never polls, costs one entry a key and nothing else, and sees the
//! newest state when it comes back. Of every object that it was shown, it is told the deletion; one that came and
//! went unseen is at most told to be gone.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use futures::Stream;
use futures::task::AtomicWaker;
use kube::Resource;
use parking_lot::Mutex;
use std::collections::VecDeque;

use super::event::{Batch, Event, Observer};
use super::key::KeyRef;
use super::keyed_slab::{Keyed, KeyedSlab, Slot};
use super::resource::CachedResource;
use super::store::Store;

/// What a key has waiting: a deletion, an application, or a deletion followed by one (re-created).
struct Pending<K> {
    deleted: Option<(Arc<K>, bool)>,
    applied: Option<(Option<Arc<K>>, Arc<K>)>,
}

impl<K: Resource<DynamicType = ()>> Keyed for Pending<K> {
    fn key(&self) -> KeyRef<'_> {
        let object =
            self.applied.as_ref().map(|(_, new)| new).or(self.deleted.as_ref().map(|(last, _)| last));
        object.map_or(KeyRef { namespace: "", name: "" }, |object| KeyRef::of(&**object))
    }
}

impl<K> Pending<K> {
    fn from_event(event: Event<K>) -> Self {
        match event {
            Event::Applied { old, new } => Self { deleted: None, applied: Some((old, new)) },
            Event::Deleted { last_known, final_state_unknown } => {
                Self { deleted: Some((last_known, final_state_unknown)), applied: None }
            }
        }
    }

    fn merge(&mut self, event: Event<K>) {
        match event {
            Event::Applied { old, new } => {
                // The subscriber's last view is the oldest `old` that it has not been shown yet.
                let old = self.applied.take().map_or(old, |(first, _)| first);
                self.applied = Some((old, new));
            }
            Event::Deleted { last_known, final_state_unknown } => {
                self.applied = None;
                // With one waiting already, this is of an object that the subscriber never saw.
                self.deleted.get_or_insert((last_known, final_state_unknown));
            }
        }
    }

    /// Takes the next event out; the deletion comes first.
    fn pop(&mut self) -> Option<Event<K>> {
        if let Some((last_known, final_state_unknown)) = self.deleted.take() {
            return Some(Event::Deleted { last_known, final_state_unknown });
        }
        self.applied.take().map(|(old, new)| Event::Applied { old, new })
    }
}

struct Queue<K> {
    state: Mutex<QueueState<K>>,
    waker: AtomicWaker,
}

struct QueueState<K> {
    /// What was there at the start and has not been taken yet. Comes before everything that is pending.
    initial: std::vec::IntoIter<Arc<K>>,
    pending: KeyedSlab<Pending<K>>,
    order: VecDeque<Slot>,
    /// Batches up to this one were part of what the subscriber was shown at the start.
    since: u64,
    closed: bool,
}

impl<K: Resource<DynamicType = ()>> QueueState<K> {
    fn len(&self) -> usize {
        self.initial.len() + self.pending.len()
    }

    fn push(&mut self, event: Event<K>) {
        if let Some(slot) = self.pending.find(event.key())
            && let Some(pending) = self.pending.get_mut(slot)
        {
            pending.merge(event);
            return;
        }
        let slot = self.pending.insert(Pending::from_event(event));
        self.order.push_back(slot);
    }

    fn pop(&mut self) -> Option<Event<K>> {
        if let Some(new) = self.initial.next() {
            return Some(Event::Applied { old: None, new });
        }
        if self.initial.as_slice().is_empty() && !self.pending.is_empty() {
            // Gives the list's memory back with the first event that follows it.
            self.initial = Vec::new().into_iter();
        }
        let &slot = self.order.front()?;
        let pending = self.pending.get_mut(slot)?;
        if pending.deleted.is_some() && pending.applied.is_some() {
            // Stays in front: its second event is due next, and the key must stay findable by it.
            return pending.pop();
        }
        self.order.pop_front();
        self.pending.remove(slot).and_then(|mut pending| pending.pop())
    }
}

/// A stream of the changes of one kind: first every object that is there as [`Event::Applied`] without an
/// `old`, then each change, merged per key while it waits. Ends when the cache is stopped.
///
/// Dropping it ends the subscription. It buffers at most one entry a key, and a pointer to each object that was
/// there at the start until it has been taken.
pub struct Subscription<K> {
    queue: Arc<Queue<K>>,
}

impl<K: CachedResource> Subscription<K> {
    /// The next event if one is waiting.
    pub fn try_next(&mut self) -> Option<Event<K>> {
        self.queue.state.lock().pop()
    }

    /// Number of keys that have something waiting.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.queue.state.lock().len()
    }
}

impl<K: CachedResource> Subscription<K> {
    /// A way to see the backlog while somebody else holds the subscription.
    pub(crate) fn watch_backlog(&self) -> Backlog<K> {
        Backlog(Arc::downgrade(&self.queue))
    }
}

impl<K: CachedResource> Stream for Subscription<K> {
    type Item = Event<K>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Registered before looking: an event that comes in between wakes this task again.
        self.queue.waker.register(cx.waker());
        let mut state = self.queue.state.lock();
        match state.pop() {
            Some(event) => Poll::Ready(Some(event)),
            None if state.closed => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// How many events wait in a subscription, seen from elsewhere.
pub(crate) struct Backlog<K>(Weak<Queue<K>>);

impl<K: CachedResource> Backlog<K> {
    pub(crate) fn len(&self) -> usize {
        self.0.upgrade().map_or(0, |queue| queue.state.lock().len())
    }
}

/// The subscribers of one kind.
pub(crate) struct Subscriptions<K> {
    state: Mutex<Subscribers<K>>,
}

struct Subscribers<K> {
    queues: Vec<Weak<Queue<K>>>,
    closed: bool,
}

impl<K: CachedResource> Subscriptions<K> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(Subscribers { queues: Vec::new(), closed: false }) }
    }

    /// Subscribes to a store. What is stored is copied, and the queue registered, under the store's read
    /// lock, so no change falls between them or comes twice.
    pub(crate) fn subscribe(&self, store: &Store<K>) -> Subscription<K> {
        let view = store.view();
        let initial: Vec<_> = view.iter().cloned().collect();
        let mut subscribers = self.state.lock();
        let state = QueueState {
            initial: initial.into_iter(),
            pending: KeyedSlab::new(),
            order: VecDeque::new(),
            since: view.sequence(),
            closed: subscribers.closed,
        };
        let queue = Arc::new(Queue { state: Mutex::new(state), waker: AtomicWaker::new() });
        subscribers.queues.retain(|queue| queue.strong_count() > 0);
        subscribers.queues.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Ends every subscription, and every later one, once what waits in it has been taken.
    pub(crate) fn close(&self) {
        let queues = {
            let mut subscribers = self.state.lock();
            subscribers.closed = true;
            std::mem::take(&mut subscribers.queues)
        };
        for queue in queues.into_iter().filter_map(|queue| queue.upgrade()) {
            queue.state.lock().closed = true;
            queue.waker.wake();
        }
    }

    fn live(&self) -> Vec<Arc<Queue<K>>> {
        self.state.lock().queues.iter().filter_map(Weak::upgrade).collect()
    }
}

impl<K: CachedResource> Observer<K> for Subscriptions<K> {
    fn observe(&self, batch: &Batch<K>) {
        for queue in self.live() {
            let mut state = queue.state.lock();
            if batch.sequence > state.since {
                batch.events.iter().for_each(|event| state.push(event.clone()));
                drop(state);
                queue.waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::informer::store::Change;
    use crate::informer::test_support::{Widget, widget};

    fn apply(store: &Store<Widget>, subscriptions: &Subscriptions<Widget>, changes: Vec<Change<Widget>>) {
        let batch = store.apply(changes);
        subscriptions.observe(&batch);
    }

    fn upsert(name: &str, uid: &str, version: &str) -> Change<Widget> {
        Change::upsert(widget(name, uid, version), jiff::Timestamp::UNIX_EPOCH)
    }

    fn delete(name: &str, uid: &str, version: &str) -> Change<Widget> {
        Change::Delete(Arc::new(widget(name, uid, version)))
    }

    fn versions(event: &Event<Widget>) -> String {
        let version = |object: &Widget| object.metadata.resource_version.clone().unwrap();
        match event {
            Event::Applied { old, new } => {
                format!("{}->{}", old.as_ref().map_or("none".into(), |old| version(old)), version(new))
            }
            Event::Deleted { last_known, .. } => format!("deleted {}", version(last_known)),
        }
    }

    fn drain(subscription: &mut Subscription<Widget>) -> Vec<String> {
        std::iter::from_fn(|| subscription.try_next()).map(|event| versions(&event)).collect()
    }

    #[test]
    fn a_subscriber_sees_what_is_there_and_then_each_change_once() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        apply(&store, &subscriptions, vec![upsert("a", "1", "5")]);
        let mut subscription = subscriptions.subscribe(&store);
        assert_eq!(drain(&mut subscription), ["none->5"]);
        apply(&store, &subscriptions, vec![upsert("a", "1", "6")]);
        assert_eq!(drain(&mut subscription), ["5->6"]);
    }

    #[test]
    fn a_batch_that_the_subscriber_was_shown_at_the_start_does_not_come_again() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let batch = store.apply(vec![upsert("a", "1", "5")]);
        let mut subscription = subscriptions.subscribe(&store);
        subscriptions.observe(&batch);
        assert_eq!(drain(&mut subscription), ["none->5"]);
    }

    #[test]
    fn what_was_there_at_the_start_comes_before_what_has_become_of_it() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        apply(&store, &subscriptions, vec![upsert("a", "1", "5"), upsert("b", "2", "6")]);
        let mut subscription = subscriptions.subscribe(&store);
        apply(&store, &subscriptions, vec![upsert("a", "1", "7"), delete("b", "2", "8")]);
        assert_eq!(subscription.backlog(), 4);
        assert_eq!(drain(&mut subscription), ["none->5", "none->6", "5->7", "deleted 8"]);
    }

    #[tokio::test]
    async fn a_subscription_made_after_the_end_shows_what_is_there_and_ends() {
        use futures::StreamExt;
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        apply(&store, &subscriptions, vec![upsert("a", "1", "5")]);
        subscriptions.close();
        let mut subscription = subscriptions.subscribe(&store);
        assert!(subscription.next().await.is_some());
        assert!(subscription.next().await.is_none());
    }

    #[test]
    fn waiting_changes_of_a_key_are_merged_and_a_silent_subscriber_costs_one_entry_a_key() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let mut subscription = subscriptions.subscribe(&store);
        for version in 1..=100 {
            apply(&store, &subscriptions, vec![upsert("a", "1", &version.to_string())]);
        }
        assert_eq!(subscription.backlog(), 1);
        assert_eq!(drain(&mut subscription), ["none->100"]);
    }

    #[test]
    fn e3_a_deletion_is_not_merged_away_by_a_new_object_of_the_same_name() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let mut subscription = subscriptions.subscribe(&store);
        apply(
            &store,
            &subscriptions,
            vec![upsert("a", "1", "1"), delete("a", "1", "2"), upsert("a", "2", "3")],
        );
        assert_eq!(drain(&mut subscription), ["deleted 2", "none->3"]);
        apply(&store, &subscriptions, vec![upsert("a", "2", "4")]);
        assert_eq!(drain(&mut subscription), ["3->4"]);
    }

    #[test]
    fn e3_the_deletion_of_what_the_subscriber_knew_is_not_merged_into_a_later_one() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        apply(&store, &subscriptions, vec![upsert("a", "1", "1")]);
        let mut subscription = subscriptions.subscribe(&store);
        assert_eq!(drain(&mut subscription), ["none->1"]);
        let unseen =
            vec![delete("a", "1", "2"), upsert("a", "2", "3"), delete("a", "2", "4"), upsert("a", "3", "5")];
        apply(&store, &subscriptions, unseen);
        assert_eq!(drain(&mut subscription), ["deleted 2", "none->5"]);
    }

    #[test]
    fn a_change_between_the_two_events_of_a_re_creation_is_kept() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let mut subscription = subscriptions.subscribe(&store);
        apply(
            &store,
            &subscriptions,
            vec![upsert("a", "1", "1"), delete("a", "1", "2"), upsert("a", "2", "3")],
        );
        assert_eq!(subscription.try_next().map(|e| versions(&e)).as_deref(), Some("deleted 2"));
        apply(&store, &subscriptions, vec![delete("a", "2", "4")]);
        assert_eq!(drain(&mut subscription), ["deleted 4"]);
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken_and_its_stream_ends_when_closed() {
        use futures::StreamExt;
        let (store, subscriptions) = (Arc::new(Store::new()), Arc::new(Subscriptions::new()));
        let mut subscription = subscriptions.subscribe(&store);
        let task = tokio::spawn(async move {
            let first = subscription.next().await.map(|event| versions(&event));
            (first, subscription.next().await.is_none())
        });
        tokio::task::yield_now().await;
        apply(&store, &subscriptions, vec![upsert("a", "1", "1")]);
        subscriptions.close();
        assert_eq!(task.await.unwrap(), (Some("none->1".into()), true));
    }
}
