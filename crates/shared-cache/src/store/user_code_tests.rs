//! Tests that the store calls no code of a kind under its lock, and does not rely on it.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use serde::Deserialize;

use super::{Change, Store};
use crate::kind::{CachedResource, KindParams};
use crate::test_support::widget;

thread_local! {
    /// The transition of every [`Moody`].
    static TRANSITION: Cell<Option<i64>> = const { Cell::new(None) };
    /// Number of calls of the kind's code under the write lock.
    static UNDER_LOCK: Cell<usize> = const { Cell::new(0) };
}

/// A kind whose time rule breaks its promise: the result depends on more than the object.
#[derive(Deserialize)]
struct Moody {
    metadata: ObjectMeta,
    #[serde(skip)]
    store: Weak<Store<Moody>>,
}

impl Moody {
    fn count_lock(&self) {
        if self.store.upgrade().is_some_and(|store| store.inner.is_write_pending()) {
            UNDER_LOCK.set(UNDER_LOCK.get() + 1);
        }
    }
}

impl Drop for Moody {
    fn drop(&mut self) {
        self.count_lock();
    }
}

impl Resource for Moody {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "Moody".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "test".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "moodies".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl CachedResource for Moody {
    fn next_transition(&self) -> Option<Timestamp> {
        self.count_lock();
        TRANSITION.get().map(at)
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn moodies() -> Arc<Store<Moody>> {
    Arc::new(Store::new(Arc::new(KindParams::cached()), 1, false))
}

fn moody(store: &Arc<Store<Moody>>, uid: &str, version: &str) -> Moody {
    Moody { metadata: widget("a", uid, version).metadata, store: Arc::downgrade(store) }
}

fn put(store: &Arc<Store<Moody>>, uid: &str, version: &str) {
    store.apply(0, [store.upsert(moody(store, uid, version), at(10))]);
}

fn delete(store: &Arc<Store<Moody>>, version: &str) {
    store.apply(0, [Change::Delete(Arc::new(moody(store, "1", version)))]);
}

#[test]
fn a_time_rule_that_changes_its_mind_leaves_no_transition_behind() {
    let store = moodies();
    let filed = || store.inner.read().transitions.len();
    TRANSITION.set(Some(100));
    put(&store, "1", "5");
    assert_eq!(filed(), (1, 0));
    TRANSITION.set(None);
    let mut batches = 0;
    let next = store.reindex_due(
        at(101),
        |_| {},
        |_| {
            batches += 1;
            assert!(batches < 3, "the same transition is due for ever");
        },
    );
    assert_eq!((next, filed()), (None, (0, 0)));
    TRANSITION.set(Some(200));
    put(&store, "1", "6");
    TRANSITION.set(Some(300));
    put(&store, "1", "7");
    assert_eq!((store.reindex_due(at(10), |_| {}, |_| {}), filed()), (Some(at(300)), (1, 0)));
    TRANSITION.set(None);
    delete(&store, "8");
    assert_eq!(filed(), (0, 0));
}

#[test]
fn a_time_after_the_last_one_that_can_be_filed_never_comes() {
    let store = moodies();
    let last = Timestamp::MAX.as_second();
    TRANSITION.set(Some(last));
    put(&store, "1", "5");
    let next = store.reindex_due(at(10_000_000), |_| {}, |_| panic!("nothing is due"));
    assert!(next.is_some_and(|next| next > at(9_000_000_000)), "{next:?}");
    TRANSITION.set(None);
    delete(&store, "8");
    assert_eq!(store.inner.read().transitions.len(), (0, 0));
}

#[test]
fn no_rule_is_called_and_no_object_is_dropped_under_the_lock() {
    let store = moodies();
    let hide = |version| Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(version) };
    TRANSITION.set(Some(100));
    put(&store, "1", "5");
    put(&store, "1", "4");
    put(&store, "1", "6");
    store.reindex_due(at(101), |_| {}, drop);
    delete(&store, "5");
    delete(&store, "7");
    put(&store, "1", "8");
    store.apply(0, [hide(9)]);
    put(&store, "1", "10");
    store.apply(0, [hide(11)]);
    delete(&store, "12");
    put(&store, "1", "13");
    put(&store, "2", "14");
    store.begin_relist(0, false);
    store.sweep(0, Some(15), drop);
    assert_eq!((store.len(), UNDER_LOCK.get()), (0, 0));
}
