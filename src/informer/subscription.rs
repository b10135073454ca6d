//! [`Subscription`]: a stream of the changes of one kind that never holds the watch up.
//!
//! Each subscriber has a queue with at most one entry a key. Changes of a key that wait are merged, so a
//! subscriber that falls behind, or never polls, costs one entry a key and nothing else, and sees the
//! newest state when it comes back. Of deletions, the last one of a key is never merged away.

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
        let object = self
            .applied
            .as_ref()
            .map(|(_, new)| new)
            .or(self.deleted.as_ref().map(|(last, _)| last));
        object.map_or(
            KeyRef {
                namespace: "",
                name: "",
            },
            |object| KeyRef::of(&**object),
        )
    }
}

impl<K> Pending<K> {
    fn from_event(event: Event<K>) -> Self {
        match event {
            Event::Applied { old, new } => Self {
                deleted: None,
                applied: Some((old, new)),
            },
            Event::Deleted {
                last_known,
                final_state_unknown,
            } => Self {
                deleted: Some((last_known, final_state_unknown)),
                applied: None,
            },
        }
    }

    fn merge(&mut self, event: Event<K>) {
        match event {
            Event::Applied { old, new } => {
                // The subscriber's last view is the oldest `old` that it has not been shown yet.
                let old = self.applied.take().map_or(old, |(first, _)| first);
                self.applied = Some((old, new));
            }
            Event::Deleted {
                last_known,
                final_state_unknown,
            } => {
                self.applied = None;
                self.deleted = Some((last_known, final_state_unknown));
            }
        }
    }

    /// Takes the next event out; the deletion comes first.
    fn pop(&mut self) -> Option<Event<K>> {
        if let Some((last_known, final_state_unknown)) = self.deleted.take() {
            return Some(Event::Deleted {
                last_known,
                final_state_unknown,
            });
        }
        self.applied.take().map(|(old, new)| Event::Applied { old, new })
    }
}

struct Queue<K> {
    state: Mutex<QueueState<K>>,
    waker: AtomicWaker,
}

struct QueueState<K> {
    pending: KeyedSlab<Pending<K>>,
    order: VecDeque<Slot>,
    /// Batches up to this one were part of what the subscriber was shown at the start.
    since: u64,
    closed: bool,
}

impl<K: Resource<DynamicType = ()>> QueueState<K> {
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
/// Dropping it ends the subscription. It buffers at most one entry a key.
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
        self.queue.state.lock().pending.len()
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

/// The subscribers of one kind.
pub(crate) struct Subscriptions<K> {
    queues: Mutex<Vec<Weak<Queue<K>>>>,
}

impl<K: CachedResource> Subscriptions<K> {
    pub(crate) fn new() -> Self {
        Self {
            queues: Mutex::new(Vec::new()),
        }
    }

    /// Subscribes to a store. What is stored is queued, and the queue registered, under the store's read
    /// lock, so no change falls between them or comes twice.
    pub(crate) fn subscribe(&self, store: &Store<K>) -> Subscription<K> {
        let view = store.view();
        let mut state = QueueState {
            pending: KeyedSlab::new(),
            order: VecDeque::with_capacity(view.iter().len()),
            since: view.sequence(),
            closed: false,
        };
        for object in view.iter() {
            state.push(Event::Applied {
                old: None,
                new: Arc::clone(object),
            });
        }
        let queue = Arc::new(Queue {
            state: Mutex::new(state),
            waker: AtomicWaker::new(),
        });
        let mut queues = self.queues.lock();
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Ends every subscription once what waits in it has been taken.
    pub(crate) fn close(&self) {
        for queue in self.queues.lock().drain(..).filter_map(|queue| queue.upgrade()) {
            queue.state.lock().closed = true;
            queue.waker.wake();
        }
    }

    fn live(&self) -> Vec<Arc<Queue<K>>> {
        let mut live = Vec::new();
        self.queues
            .lock()
            .retain(|queue| queue.upgrade().map(|queue| live.push(queue)).is_some());
        live
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
                format!(
                    "{}->{}",
                    old.as_ref().map_or("none".into(), |old| version(old)),
                    version(new)
                )
            }
            Event::Deleted { last_known, .. } => format!("deleted {}", version(last_known)),
        }
    }

    fn drain(subscription: &mut Subscription<Widget>) -> Vec<String> {
        std::iter::from_fn(|| subscription.try_next())
            .map(|event| versions(&event))
            .collect()
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
    fn waiting_changes_of_a_key_are_merged_and_a_silent_subscriber_costs_one_entry_a_key() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let mut subscription = subscriptions.subscribe(&store);
        for version in 1..=100 {
            apply(
                &store,
                &subscriptions,
                vec![upsert("a", "1", &version.to_string())],
            );
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
            vec![
                upsert("a", "1", "1"),
                delete("a", "1", "2"),
                upsert("a", "2", "3"),
            ],
        );
        assert_eq!(drain(&mut subscription), ["deleted 2", "none->3"]);
        apply(&store, &subscriptions, vec![upsert("a", "2", "4")]);
        assert_eq!(drain(&mut subscription), ["3->4"]);
    }

    #[test]
    fn a_change_between_the_two_events_of_a_re_creation_is_kept() {
        let (store, subscriptions) = (Store::new(), Subscriptions::new());
        let mut subscription = subscriptions.subscribe(&store);
        apply(
            &store,
            &subscriptions,
            vec![
                upsert("a", "1", "1"),
                delete("a", "1", "2"),
                upsert("a", "2", "3"),
            ],
        );
        assert_eq!(
            subscription.try_next().map(|e| versions(&e)).as_deref(),
            Some("deleted 2")
        );
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
