//! [`Subscription`]: a stream of the changes of one kind that never delays the watch.
//!
//! Each subscriber has a queue with at most one entry per key. Pending changes of a key are merged. So a slow
//! subscriber costs one entry per key, and receives the newest state when it continues. It receives the
//! deletion of every object that it saw. An object that was added and deleted before its delivery is reported
//! at most as deleted.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;

use super::end::SubscriptionEnd;
use super::event::Event;
use super::queue::Queue;
use crate::kind::CacheObject;
use crate::object::Observer;

/// Decides if a subscriber receives an event.
type Predicate<K> = Box<dyn Fn(&Event<K>) -> bool + Send + Sync>;

/// A stream of the changes of one kind. First it delivers every existing object, as [`Event::Applied`]
/// without an `old`. Then it delivers [`Event::Synced`], and then each change, merged per key while pending.
/// It ends with the informer; see [`Self::end`].
///
/// Dropping the stream ends the subscription. The stream stores at most one entry per key, and a pointer to
/// each initial object until its delivery. Created by
/// [`SharedCache::subscribe`](crate::SharedCache::subscribe).
#[must_use = "a subscription that is not polled stores one entry per key"]
pub struct Subscription<K> {
    queue: Arc<Queue<K>>,
    predicate: Option<Predicate<K>>,
}

impl<K: CacheObject> Subscription<K> {
    /// Subscribes through `attach`, which attaches the observer and returns the snapshot.
    pub(crate) fn new(
        attach: impl FnOnce(std::sync::Weak<dyn Observer<K>>) -> crate::informer::Snapshot<K>,
    ) -> Self {
        let queue = Arc::new(Queue::new());
        // Locked during the attachment, because the informer's task must not push a change before the initial
        // objects are set.
        let mut state = queue.state.lock();
        let observer: Arc<dyn Observer<K>> = Arc::<Queue<K>>::clone(&queue);
        let snapshot = attach(Arc::downgrade(&observer));
        drop(observer);
        state.initial = snapshot.objects.into_iter();
        if snapshot.synced {
            state.push_synced();
        }
        state.end = snapshot.closed.map(SubscriptionEnd::of);
        drop(state);
        Self { queue, predicate: None }
    }

    /// Delivers only the events that `predicate` accepts; see [`predicates`](super::predicates).
    ///
    /// The predicate runs when an event is taken, after pending changes were merged. A rejected event is not
    /// delivered later. [`Event::Synced`] is always delivered. If a predicate is already set, both must
    /// accept.
    pub fn filter(mut self, predicate: impl Fn(&Event<K>) -> bool + Send + Sync + 'static) -> Self {
        self.predicate = Some(match self.predicate.take() {
            None => Box::new(predicate),
            Some(first) => Box::new(move |event| first(event) && predicate(event)),
        });
        self
    }

    /// Returns the next event if one is pending.
    pub fn try_next(&mut self) -> Option<Event<K>> {
        loop {
            let event = self.queue.state.lock().pop()?;
            if self.accepts(&event) {
                return Some(event);
            }
        }
    }

    /// Returns the number of keys with pending events.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.queue.state.lock().len()
    }

    /// Returns the reason why no further change will come; `None` while the informer runs. Pending events are
    /// still delivered.
    #[must_use]
    pub fn end(&self) -> Option<SubscriptionEnd> {
        self.queue.state.lock().end
    }

    fn accepts(&self, event: &Event<K>) -> bool {
        matches!(event, Event::Synced) || self.predicate.as_ref().is_none_or(|accepts| accepts(event))
    }
}

impl<K: CacheObject> Stream for Subscription<K> {
    type Item = Event<K>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The waker is registered before the check, so that an event in between wakes this task again.
        self.queue.waker.register(cx.waker());
        match self.try_next() {
            Some(event) => Poll::Ready(Some(event)),
            None if self.end().is_some() => {
                // An event may have been pushed before the end was set.
                Poll::Ready(self.try_next())
            }
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::informer::Observers;
    use crate::object::DeletionReason;
    use crate::store::{Change, Store};
    use crate::test_support::{Widget, store, upsert, widget};

    fn apply(store: &Store<Widget>, observers: &Observers<Widget>, changes: Vec<Change<Widget>>) {
        let batch = store.apply(0, changes);
        observers.observe(&batch);
    }

    fn observers() -> Observers<Widget> {
        Observers::new(Vec::new(), Arc::default())
    }

    fn subscribe(observers: &Observers<Widget>, store: &Store<Widget>) -> Subscription<Widget> {
        Subscription::new(|observer| observers.attach(store, observer))
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
            Event::Synced => "synced".into(),
        }
    }

    fn drain(subscription: &mut Subscription<Widget>) -> Vec<String> {
        std::iter::from_fn(|| subscription.try_next()).map(|event| versions(&event)).collect()
    }

    #[test]
    fn a_subscriber_sees_what_is_there_and_then_each_change_once() {
        let (store, observers) = (store(), observers());
        apply(&store, &observers, vec![upsert("a", "1", "5")]);
        let mut subscription = subscribe(&observers, &store);
        assert_eq!(drain(&mut subscription), ["none->5"]);
        apply(&store, &observers, vec![upsert("a", "1", "6")]);
        assert_eq!(drain(&mut subscription), ["5->6"]);
    }

    #[test]
    fn a_batch_that_the_subscriber_was_shown_at_the_start_does_not_come_again() {
        let (store, observers) = (store(), observers());
        let batch = store.apply(0, vec![upsert("a", "1", "5")]);
        let mut subscription = subscribe(&observers, &store);
        observers.observe(&batch);
        assert_eq!(drain(&mut subscription), ["none->5"]);
    }

    #[test]
    fn what_was_there_at_the_start_comes_before_what_has_become_of_it() {
        let (store, observers) = (store(), observers());
        apply(&store, &observers, vec![upsert("a", "1", "5"), upsert("b", "2", "6")]);
        let mut subscription = subscribe(&observers, &store);
        apply(&store, &observers, vec![upsert("a", "1", "7"), delete("b", "2", "8")]);
        assert_eq!(subscription.backlog(), 4);
        assert_eq!(drain(&mut subscription), ["none->5", "none->6", "5->7", "deleted 8"]);
    }

    #[tokio::test]
    async fn a_subscription_made_after_the_end_shows_what_is_there_and_ends() {
        use futures::StreamExt;
        let (store, observers) = (store(), observers());
        apply(&store, &observers, vec![upsert("a", "1", "5")]);
        observers.close(true);
        let mut subscription = subscribe(&observers, &store);
        assert!(subscription.next().await.is_some());
        assert!(subscription.next().await.is_none());
    }

    #[test]
    fn waiting_changes_of_a_key_are_merged_and_a_silent_subscriber_costs_one_entry_a_key() {
        let (store, observers) = (store(), observers());
        let mut subscription = subscribe(&observers, &store);
        for version in 1..=100 {
            apply(&store, &observers, vec![upsert("a", "1", &version.to_string())]);
        }
        assert_eq!(subscription.backlog(), 1);
        assert_eq!(drain(&mut subscription), ["none->100"]);
    }

    #[test]
    fn e3_a_deletion_is_not_merged_away_by_a_new_object_of_the_same_name() {
        let (store, observers) = (store(), observers());
        let mut subscription = subscribe(&observers, &store);
        apply(&store, &observers, vec![upsert("a", "1", "1"), delete("a", "1", "2"), upsert("a", "2", "3")]);
        assert_eq!(drain(&mut subscription), ["deleted 2", "none->3"]);
        apply(&store, &observers, vec![upsert("a", "2", "4")]);
        assert_eq!(drain(&mut subscription), ["3->4"]);
    }

    #[test]
    fn e3_the_deletion_of_what_the_subscriber_knew_is_not_merged_into_a_later_one() {
        let (store, observers) = (store(), observers());
        apply(&store, &observers, vec![upsert("a", "1", "1")]);
        let mut subscription = subscribe(&observers, &store);
        assert_eq!(drain(&mut subscription), ["none->1"]);
        let unseen =
            vec![delete("a", "1", "2"), upsert("a", "2", "3"), delete("a", "2", "4"), upsert("a", "3", "5")];
        apply(&store, &observers, unseen);
        assert_eq!(drain(&mut subscription), ["deleted 2", "none->5"]);
    }

    #[test]
    fn a_change_between_the_two_events_of_a_re_creation_is_kept() {
        let (store, observers) = (store(), observers());
        let mut subscription = subscribe(&observers, &store);
        apply(&store, &observers, vec![upsert("a", "1", "1"), delete("a", "1", "2"), upsert("a", "2", "3")]);
        assert_eq!(subscription.try_next().map(|e| versions(&e)).as_deref(), Some("deleted 2"));
        apply(&store, &observers, vec![delete("a", "2", "4")]);
        assert_eq!(drain(&mut subscription), ["deleted 4"]);
    }

    #[test]
    fn x3_a_final_reason_replaces_one_after_which_the_object_may_exist_and_no_other() {
        let reasons = |changes: Vec<Change<Widget>>| {
            let (store, observers) = (store(), observers());
            apply(&store, &observers, vec![upsert("a", "1", "1")]);
            let mut subscription = subscribe(&observers, &store);
            drain(&mut subscription);
            apply(&store, &observers, changes);
            let reason = |event| match event {
                Event::Deleted { reason, .. } => Some(reason),
                Event::Applied { .. } | Event::Synced => None,
            };
            std::iter::from_fn(|| subscription.try_next()).filter_map(reason).collect::<Vec<_>>()
        };
        let hide = || Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(2) };
        let same = reasons(vec![hide(), upsert("a", "1", "3"), delete("a", "1", "4")]);
        assert_eq!(same, [DeletionReason::Removed]);
        let other = reasons(vec![hide(), upsert("a", "2", "3"), delete("a", "2", "4")]);
        assert_eq!(other, [DeletionReason::FinalStateUnknown], "the successor was never seen");
        let again = reasons(vec![
            delete("a", "1", "2"),
            upsert("a", "1", "3"),
            Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(4) },
        ]);
        assert_eq!(again, [DeletionReason::Removed], "a final reason stays");
    }

    #[tokio::test]
    async fn a_waiting_subscriber_is_woken_and_its_stream_ends_when_closed() {
        use futures::StreamExt;
        let (store, observers) = (store(), observers());
        let mut subscription = subscribe(&observers, &store);
        let task = tokio::spawn(async move {
            let first = subscription.next().await.map(|event| versions(&event));
            (first, subscription.next().await.is_none())
        });
        tokio::task::yield_now().await;
        apply(&store, &observers, vec![upsert("a", "1", "1")]);
        observers.close(true);
        assert_eq!(task.await.unwrap(), (Some("none->1".into()), true));
    }
}
