//! Tests the store alone: events, versions, relists, indexes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::kind::{Index, IndexDefinition, IndexKeys, NAMESPACE_INDEX};
use crate::object::KeyRef;
use crate::store::{Filter, in_predicate};
use crate::test_support::{self, Widget, params, put, store, widget};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn colored(name: &str, version: u64, colors: &[&str]) -> Widget {
    let mut widget = widget(name, "1", &version.to_string());
    widget.spec.color = colors.iter().map(ToString::to_string).collect();
    widget
}

fn show(batch: &Batch<Widget>) -> Vec<String> {
    batch.deltas.iter().map(test_support::show).collect()
}

fn upsert(store: &Store<Widget>, widget: Widget) -> Vec<String> {
    show(&store.apply(0, [put(widget, NOW)]))
}

fn delete(store: &Store<Widget>, widget: Widget) -> Vec<String> {
    show(&store.apply(0, [Change::Delete(Arc::new(widget))]))
}

fn names(store: &Store<Widget>, index: &str, value: &str) -> BTreeSet<String> {
    let index = params().index_number(index).unwrap();
    let count = store.view().count(index, value);
    let objects = store.view().members(Filter::One((index, value))).copy();
    assert_eq!(objects.len(), count);
    objects.into_iter().map(|widget| widget.metadata.name.clone().unwrap()).collect()
}

fn sweep(store: &Store<Widget>) -> Vec<String> {
    let mut events = Vec::new();
    store.sweep(0, None, |batch| events.extend(show(&batch)));
    events
}

#[test]
fn e3_events_carry_the_old_and_the_new_object() {
    let store = store();
    assert_eq!(upsert(&store, widget("a", "1", "5")), ["+a@5"]);
    assert_eq!(upsert(&store, widget("a", "1", "6")), ["a@5->6"]);
    assert_eq!(delete(&store, widget("a", "1", "7")), ["-a@7"]);
    assert_eq!(store.len(), 0);
}

#[test]
fn e3_an_object_re_created_unseen_is_deleted_and_then_added() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    assert_eq!(upsert(&store, widget("a", "2", "9")), ["-a@5?", "+a@9"]);
    assert_eq!(store.len(), 1);
}

#[test]
fn e3_what_a_relist_does_not_find_is_deleted_with_its_last_known_state() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    upsert(&store, widget("b", "2", "6"));
    store.begin_relist(0, false);
    assert_eq!(upsert(&store, widget("b", "2", "6")), Vec::<String>::new());
    assert_eq!(sweep(&store), ["-a@5?"]);
    assert_eq!(store.len(), 1);
}

#[test]
fn e3_a_deletion_of_a_later_incarnation_removes_the_stored_one() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    assert_eq!(delete(&store, widget("a", "2", "9")), ["-a@5?"]);
}

#[test]
fn e4_older_and_equal_versions_of_an_object_are_ignored() {
    let store = store();
    upsert(&store, widget("a", "1", "10"));
    assert!(upsert(&store, widget("a", "1", "10")).is_empty());
    assert!(upsert(&store, widget("a", "1", "9")).is_empty(), "as text, 9 would be newer");
    assert!(upsert(&store, widget("a", "0", "8")).is_empty(), "an earlier incarnation");
    assert!(delete(&store, widget("a", "0", "9")).is_empty());
    assert_eq!(upsert(&store, widget("a", "1", "11")), ["a@10->11"]);
}

#[test]
fn e4_versions_that_are_no_numbers_are_compared_by_equality_only() {
    let store = store();
    upsert(&store, widget("a", "1", "x"));
    assert!(upsert(&store, widget("a", "1", "x")).is_empty());
    assert_eq!(upsert(&store, widget("a", "1", "b")), ["a@x->b"]);
}

#[test]
fn e4_an_event_that_was_overtaken_by_the_deletion_does_not_bring_the_object_back() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    delete(&store, widget("a", "1", "8"));
    assert!(upsert(&store, widget("a", "1", "7")).is_empty());
    assert_eq!(upsert(&store, widget("a", "1", "9")), ["+a@9"], "it entered the selector again");
}

#[test]
fn e5_readers_see_the_old_view_until_the_sweep() {
    let store = store();
    upsert(&store, colored("a", 5, &["red"]));
    store.begin_relist(0, false);
    upsert(&store, colored("b", 6, &["red"]));
    assert_eq!(names(&store, "color", "red"), BTreeSet::from(["a".into(), "b".into()]));
    sweep(&store);
    assert_eq!(names(&store, "color", "red"), BTreeSet::from(["b".into()]));
}

#[test]
fn e5_an_abandoned_relist_deletes_nothing() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    store.begin_relist(0, false);
    store.begin_relist(0, false);
    upsert(&store, widget("a", "1", "5"));
    assert!(sweep(&store).is_empty());
}

#[test]
fn e5_a_sweep_takes_the_lock_in_steps() {
    let store = store();
    for i in 0..3 * STEP as usize {
        upsert(&store, widget(&format!("w-{i}"), "1", "5"));
    }
    store.begin_relist(0, false);
    let mut largest = 0;
    let mut total = 0;
    store.sweep(0, None, |batch| {
        // The lock is free between the steps. Otherwise this loop would never end.
        let left = store.len();
        largest = largest.max(batch.deltas.len());
        total += batch.deltas.len();
        assert_eq!(left, 3 * STEP as usize - total);
    });
    assert_eq!((largest, total), (STEP as usize, 3 * STEP as usize));
}

#[test]
fn a_list_of_a_restored_server_is_accepted_after_a_reset() {
    let store = store();
    upsert(&store, colored("a", 50, &["red"]));
    upsert(&store, colored("b", 51, &["red"]));
    store.begin_relist(0, true);
    assert_eq!(upsert(&store, colored("a", 7, &["blue"])), ["a@50->7"]);
    assert_eq!(sweep(&store), ["-b@51?"]);
    assert_eq!(names(&store, "color", "blue").len(), 1);
    assert!(upsert(&store, colored("a", 6, &[])).is_empty(), "versions are compared again after the sweep");
}

#[test]
fn e6_an_unreadable_version_hides_what_was_stored_but_not_what_is_newer() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    let hide = |version| Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(version) };
    assert!(show(&store.apply(0, [hide(4)])).is_empty());
    assert_eq!(show(&store.apply(0, [hide(6)])), ["-a@5?"]);
}

#[test]
fn v10_the_end_of_a_hidden_object_is_reported_once() {
    let hide = |version| Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(version) };
    let hidden = || {
        let store = store();
        upsert(&store, widget("a", "1", "5"));
        assert_eq!(show(&store.apply(0, [hide(6)])), ["-a@5?"]);
        assert!(store.view().is_hidden(KeyRef { namespace: "ns", name: "a" }));
        store
    };
    // A deletion that can be decoded, one that cannot, and a list without the object.
    let store = hidden();
    assert_eq!(delete(&store, widget("a", "1", "7")), ["-a@7"]);
    assert!(delete(&store, widget("a", "1", "7")).is_empty());
    let store = hidden();
    let gone = Change::DeleteHidden { namespace: "ns".into(), name: "a".into(), version: Some(7) };
    assert_eq!(show(&store.apply(0, [gone])), ["-a@5?"]);
    let store = hidden();
    store.begin_relist(0, false);
    store.apply(0, [hide(6)]);
    assert!(sweep(&store).is_empty(), "the list contains the object");
    store.begin_relist(0, false);
    assert_eq!(sweep(&store), ["-a@5?"]);
    assert!(!store.view().is_hidden(KeyRef { namespace: "ns", name: "a" }));
    // A good version, a late event, and a successor of the name.
    let store = hidden();
    assert!(upsert(&store, widget("a", "1", "5")).is_empty(), "older than the hidden version");
    assert_eq!(upsert(&store, widget("a", "1", "8")), ["+a@8"]);
    let store = hidden();
    assert_eq!(upsert(&store, widget("a", "2", "9")), ["-a@5?", "+a@9"]);
}

#[test]
fn e4_a_late_deletion_does_not_bring_the_object_back() {
    let store = store();
    upsert(&store, widget("a", "1", "5"));
    delete(&store, widget("a", "1", "8"));
    delete(&store, widget("a", "1", "6"));
    assert!(upsert(&store, widget("a", "1", "7")).is_empty());
}

#[test]
fn b2_time_alone_moves_an_object_out_of_an_index() {
    let store = store();
    let mut widget = colored("a", 5, &["red"]);
    widget.spec.expires = Some(100);
    let at = |second| Timestamp::from_second(second).unwrap();
    store.apply(0, [put(widget, at(10))]);
    assert_eq!(store.reindex_due(at(100), |_| {}, |_| {}), Some(at(100)), "strictly past");
    assert_eq!(names(&store, "color", "red").len(), 1);
    assert_eq!(store.reindex_due(at(101), |_| {}, |_| {}), None);
    assert!(names(&store, "color", "red").is_empty());
    assert_eq!(store.len(), 1);
}

#[test]
fn v12_an_index_function_that_panics_keeps_the_old_values_of_its_object_and_of_no_other() {
    let mut params = KindParams::<Widget>::cached();
    let panics = |widget: &Widget, keys: &mut IndexKeys<'_>| {
        assert!(widget.spec.owner != "panic" || keys.now().as_second() <= 100, "on demand");
    };
    params.add_index(IndexDefinition { index: Index::new("panics"), extract: Arc::new(panics) });
    let params = Arc::new(params);
    let store = Store::new(Arc::clone(&params), 1, false);
    let at = |second| Timestamp::from_second(second).unwrap();
    for (name, owner) in [("bad", "panic"), ("good", "x")] {
        let mut widget = colored(name, 5, &["red"]);
        widget.spec.expires = Some(100);
        widget.spec.owner = owner.into();
        let change = store.upsert(widget, at(10));
        store.apply(0, [change]);
    }
    let mut panicked = Vec::new();
    let mut run = |now| {
        let mut events = Vec::new();
        let count = |widget: &Widget| panicked.push(widget.metadata.name.clone().unwrap());
        let next = store.reindex_due(at(now), count, |batch| events.extend(show(&batch)));
        (events, next)
    };
    assert_eq!(run(101), (vec!["good@5->5".to_owned()], None));
    assert_eq!(run(102), (Vec::new(), None), "the transition is dropped");
    assert_eq!(panicked, ["bad"]);
    assert_eq!(names(&store, "color", "red"), BTreeSet::from(["bad".to_owned()]));
}

#[test]
fn v11_a_clock_that_is_set_back_indexes_again_and_one_that_is_set_forward_does_so_once() {
    let store = store();
    let mut widget = colored("a", 5, &["red"]);
    widget.spec.expires = Some(100);
    let at = |second| Timestamp::from_second(second).unwrap();
    let events = |now| {
        let mut events = Vec::new();
        let next = store.reindex_due(at(now), |_| {}, |batch| events.extend(show(&batch)));
        (events.len(), next, names(&store, "color", "red").len())
    };
    store.apply(0, [put(widget, at(10))]);
    assert_eq!(events(10), (0, Some(at(100)), 1));
    assert_eq!(events(5000), (1, None, 0), "set forward");
    assert_eq!(events(5001), (0, None, 0), "only once");
    assert_eq!(events(20), (1, Some(at(100)), 1), "set back");
    assert_eq!(events(30), (0, Some(at(100)), 1));
    assert_eq!(events(101), (1, None, 0));
}

#[test]
fn v11_an_object_that_arrives_expired_causes_no_event_and_returns_when_the_clock_is_set_back() {
    let store = store();
    let mut widget = colored("a", 5, &["red"]);
    widget.spec.expires = Some(100);
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(show(&store.apply(0, [put(widget.clone(), at(200))])), ["+a@5"]);
    assert!(names(&store, "color", "red").is_empty());
    assert_eq!(store.reindex_due(at(200), |_| {}, |_| panic!("an event for an unchanged object")), None);
    let mut told = Vec::new();
    assert_eq!(store.reindex_due(at(50), |_| {}, |batch| told.extend(show(&batch))), Some(at(100)));
    assert_eq!(told, ["a@5->5"]);
    assert_eq!(names(&store, "color", "red").len(), 1);
    // A new version with another expiry replaces the transition on both sides.
    widget.metadata.resource_version = Some("6".into());
    widget.spec.expires = Some(40);
    store.apply(0, [put(widget, at(50))]);
    assert_eq!(store.inner.read().transitions.len(), (0, 1));
}

#[test]
fn an_update_that_keeps_its_index_values_touches_no_posting_list() {
    let store = store();
    for (name, version) in [("a", 1), ("b", 2), ("c", 3)] {
        upsert(&store, colored(name, version, &["red"]));
    }
    let order = || {
        let red = store.view().members(Filter::One((params().index_number("color").unwrap(), "red"))).copy();
        red.iter().map(|widget| widget.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(order(), ["a", "b", "c"]);
    // An object that left its list and entered it again would now be the last one.
    assert_eq!(upsert(&store, colored("a", 4, &["red"])), ["a@1->4"]);
    assert_eq!(order(), ["a", "b", "c"]);
    assert_eq!(upsert(&store, colored("a", 5, &["red", "blue"])), ["a@4->5"]);
    assert_eq!(order(), ["c", "b", "a"], "with another value the object is filed again");
}

#[test]
fn a_long_list_holds_no_lock_and_shows_the_store_at_one_moment() {
    let color = (params().index_number("color").unwrap(), "red");
    for filter in [Filter::All, Filter::One(color), Filter::Both(color, (NAMESPACE_INDEX, "ns"))] {
        let store = store();
        for i in 0..3000 {
            upsert(&store, colored(&format!("w-{i}"), 1, &["red"]));
        }
        let members = store.view().members(filter);
        let mut seen = BTreeSet::new();
        members.for_each(|widget| {
            assert_eq!(widget.metadata.resource_version.as_deref(), Some("1"));
            // If the list held the lock, this thread would wait for itself.
            let (changed, removed) = (2999 - seen.len(), seen.len());
            upsert(&store, colored(&format!("w-{changed}"), 2, &[]));
            delete(&store, colored(&format!("w-{removed}"), 3, &[]));
            seen.insert(widget.metadata.name.clone().unwrap());
        });
        assert_eq!(seen.len(), 3000);
        assert_eq!(members.copy().len(), 3000, "every walk of the list is the same");
        assert_eq!(store.len(), 0);
        assert_eq!(store.view().members(filter).copy().len(), 0);
    }
}

#[test]
fn a9_a_search_calls_its_predicate_once_for_each_object_up_to_the_match() {
    let store = store();
    for i in 0..3000 {
        upsert(&store, colored(&format!("w-{i}"), 1, &["red"]));
    }
    let red = Filter::One((params().index_number("color").unwrap(), "red"));
    let search = |last: usize| {
        let mut seen = BTreeSet::new();
        let found = store.view().find(red, |widget| {
            assert!(seen.insert(widget.metadata.name.clone().unwrap()), "each object once");
            if seen.len() == 2000 {
                // A long search has released the lock by now.
                upsert(&store, colored("w-2500", 2, &["blue"]));
            }
            seen.len() == last
        });
        (found.is_some(), seen.len())
    };
    assert_eq!(search(1), (true, 1));
    assert_eq!(search(1024), (true, 1024));
    assert_eq!(search(3000), (true, 3000));
    assert_eq!(search(0), (false, 2999));
}

#[test]
fn b2_an_object_leaves_an_index_by_the_key_it_was_filed_under_though_the_clock_has_moved() {
    let store = store();
    let mut widget = colored("a", 5, &["red"]);
    widget.spec.expires = Some(100);
    store.apply(0, [put(widget.clone(), Timestamp::from_second(10).unwrap())]);
    // The widget would now have no key, but it has not been indexed again yet.
    widget.metadata.resource_version = Some("6".into());
    store.apply(0, [Change::Delete(Arc::new(widget))]);
    assert!(names(&store, "color", "red").is_empty());
    assert_eq!(store.inner.read().indexes.value_count(), 0, "no ghost keys");
    assert_eq!(store.inner.read().transitions.len(), (0, 0));
}

#[test]
fn b7_two_indexes_combine_from_either_side() {
    let store = store();
    for i in 0..10 {
        let mut widget = colored(&format!("w-{i}"), i + 1, &["red"]);
        widget.spec.owner = format!("owner-{}", i % 5);
        upsert(&store, widget);
    }
    let (color, owner) = (params().index_number("color").unwrap(), params().index_number("owner").unwrap());
    let both = |a, b| store.view().members(Filter::Both(a, b)).copy();
    for (a, b) in [((color, "red"), (owner, "owner-3")), ((owner, "owner-3"), (color, "red"))] {
        let mut found: Vec<_> = both(a, b).iter().map(|w| w.metadata.name.clone().unwrap()).collect();
        found.sort();
        assert_eq!(found, ["w-3", "w-8"]);
    }
    assert_eq!(both((color, "red"), (owner, "nobody")).len(), 0);
}

#[test]
fn a_lookup_inside_a_predicate_does_not_wait_behind_a_writer() {
    let store = Arc::new(store());
    upsert(&store, widget("a", "1", "1"));
    let view = store.view();
    let writer = std::thread::spawn({
        let store = Arc::clone(&store);
        move || upsert(&store, widget("b", "1", "2"))
    });
    // Once readers are refused, the writer waits for this thread. A plain read would now wait for the writer.
    while !store.inner.is_write_pending() {
        std::thread::yield_now();
    }
    assert_eq!(in_predicate(|| store.len()), 1);
    drop(view);
    writer.join().unwrap();
    assert_eq!(store.len(), 2);
}

/// One step of the property test.
#[derive(Clone, Debug)]
enum Step {
    Upsert {
        name: u8,
        recreate: bool,
        color: u8,
        owner: u8,
        expires: Option<i64>,
    },
    /// An older state of a stored object arrives, or of its deletion.
    Late {
        name: u8,
        by: u64,
        deleted: bool,
    },
    Delete {
        name: u8,
    },
    /// A state of a deleted object arrives that is not newer than its deletion.
    LateOfGone {
        name: u8,
        by: u64,
    },
    /// A deleted object is there again under its UID: it left the selector and entered it again.
    Return {
        name: u8,
    },
    /// A list without some of the objects, at a version that is a number or not.
    Relist {
        missing: u8,
        numbered: bool,
    },
    /// A list that ends after its first object.
    AbandonedRelist,
    /// The server has lost its last changes: a list at an older version, with older states. Names are six; the
    /// highest bit of `missing` says whether deleted objects are back.
    SetBack {
        missing: u8,
        color: u8,
    },
    Clock {
        by: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6u8, prop::bool::weighted(0.2), 0..4u8, 0..3u8, prop::option::of(0..60i64))
            .prop_map(|(name, recreate, color, owner, expires)| Step::Upsert { name, recreate, color, owner, expires }),
        1 => (0..6u8, 1..5u64, any::<bool>()).prop_map(|(name, by, deleted)| Step::Late { name, by, deleted }),
        2 => (0..6u8).prop_map(|name| Step::Delete { name }),
        2 => (0..6u8, 0..5u64).prop_map(|(name, by)| Step::LateOfGone { name, by }),
        1 => (0..6u8).prop_map(|name| Step::Return { name }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(missing, numbered)| Step::Relist { missing, numbered }),
        1 => Just(Step::AbandonedRelist),
        1 => (any::<u8>(), 0..4u8).prop_map(|(missing, color)| Step::SetBack { missing, color }),
        2 => (-20..20i64).prop_map(|by| Step::Clock { by }),
    ]
}

/// An object that the server holds.
struct Held {
    widget: Widget,
    /// True if the object was last indexed for a time after its expiry.
    is_expired: bool,
}

impl Held {
    fn new(widget: Widget, now: i64) -> Self {
        let is_expired = widget.spec.expires.is_some_and(|at| at < now);
        Self { widget, is_expired }
    }
}

/// The objects of the server, which the store must therefore contain.
#[derive(Default)]
struct Model {
    objects: BTreeMap<String, Held>,
    /// The last state of deleted objects, at the version of their deletion.
    gone: BTreeMap<String, Widget>,
    /// The objects according to the events.
    told: BTreeMap<String, Widget>,
    version: u64,
    uid: u64,
    now: i64,
}

fn colors(count: u8) -> Vec<String> {
    (0..count).map(|color| format!("color-{color}")).collect()
}

fn number(widget: &Widget) -> u64 {
    widget.metadata.resource_version.as_deref().unwrap().parse().unwrap()
}

fn at_version(widget: &Widget, version: u64) -> Widget {
    let mut widget = widget.clone();
    widget.metadata.resource_version = Some(version.to_string());
    widget
}

impl Model {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    /// Follows what is told: each event must go on from where the last one of its object ended.
    fn follow(&mut self, batch: &Batch<Widget>) {
        for event in &batch.deltas {
            let name = event.key().name.to_owned();
            match event {
                Delta::Applied { old, new } => {
                    assert_eq!(self.told.insert(name, Widget::clone(new)).as_ref(), old.as_deref());
                }
                Delta::Deleted { last_known, .. } => {
                    let before = self.told.remove(&name).expect("it was told of");
                    assert_eq!(before.metadata.uid, last_known.metadata.uid);
                }
            }
        }
    }

    fn apply(&mut self, store: &Store<Widget>, change: Change<Widget>) {
        self.follow(&store.apply(0, [change]));
    }

    /// A change that must come to nothing.
    fn ignore(store: &Store<Widget>, change: Change<Widget>) {
        assert_eq!(show(&store.apply(0, [change])), Vec::<String>::new());
    }

    fn upsert(&mut self, store: &Store<Widget>, widget: Widget) {
        self.apply(store, put(widget.clone(), self.now()));
        self.objects.insert(widget.metadata.name.clone().unwrap(), Held::new(widget, self.now));
    }

    /// Takes away the objects whose bit is set in `missing`.
    fn lose(&mut self, missing: u8) -> BTreeMap<String, Held> {
        let mut number = 0;
        let (lost, kept) = std::mem::take(&mut self.objects).into_iter().partition(|_| {
            number += 1;
            missing & (1 << (number - 1)) != 0
        });
        self.objects = kept;
        lost
    }

    fn sweep(&mut self, store: &Store<Widget>, lost: &BTreeMap<String, Held>, version: Option<u64>) {
        store.sweep(0, version, |batch| self.follow(&batch));
        // Without a version nothing is known of when they went.
        let buried = version.into_iter().flat_map(|version| {
            lost.iter().map(move |(name, held)| (name.clone(), at_version(&held.widget, version)))
        });
        self.gone.extend(buried);
    }

    fn run(&mut self, store: &Store<Widget>, step: &Step) {
        self.version += 1;
        match *step {
            Step::Upsert { name, recreate, color, owner, expires } => {
                let name = format!("w-{name}");
                let known = self.objects.get(&name).filter(|_| !recreate);
                let uid = known.and_then(|held| held.widget.metadata.uid.clone());
                self.uid += 1;
                let uid = uid.unwrap_or_else(|| self.uid.to_string());
                let mut widget = widget(&name, &uid, &self.version.to_string());
                widget.spec.color = colors(color);
                widget.spec.owner = if owner == 0 { String::new() } else { format!("owner-{owner}") };
                widget.spec.expires = expires.map(|after| self.now + after);
                self.upsert(store, widget);
            }
            Step::Late { name, by, deleted } => {
                if let Some(held) = self.objects.get(&format!("w-{name}")) {
                    let mut late = at_version(&held.widget, number(&held.widget).saturating_sub(by));
                    late.spec.color = vec!["late".into()];
                    let late = if deleted && number(&late) < number(&held.widget) {
                        Change::Delete(Arc::new(late))
                    } else {
                        put(late, self.now())
                    };
                    Self::ignore(store, late);
                }
            }
            Step::Delete { name } => {
                if let Some(Held { widget, .. }) = self.objects.remove(&format!("w-{name}")) {
                    let last = at_version(&widget, self.version);
                    self.apply(store, Change::Delete(Arc::new(last.clone())));
                    self.gone.insert(format!("w-{name}"), last);
                }
            }
            Step::LateOfGone { name, by } => {
                if let Some(gone) = self.gone.get(&format!("w-{name}")) {
                    let late = at_version(gone, number(gone).saturating_sub(by));
                    Self::ignore(store, put(late, self.now()));
                }
            }
            Step::Return { name } => {
                let name = format!("w-{name}");
                if let (Some(gone), None) = (self.gone.get(&name), self.objects.get(&name)) {
                    self.upsert(store, at_version(gone, self.version));
                }
            }
            Step::Relist { missing, numbered } => {
                let lost = self.lose(missing);
                store.begin_relist(0, false);
                let now = self.now();
                for held in self.objects.values() {
                    Self::ignore(store, put(held.widget.clone(), now));
                }
                self.sweep(store, &lost, numbered.then_some(self.version));
            }
            Step::AbandonedRelist => {
                store.begin_relist(0, false);
                if let Some(held) = self.objects.values().next() {
                    Self::ignore(store, put(held.widget.clone(), self.now()));
                }
            }
            Step::SetBack { missing, color } => {
                let lost = self.lose(missing);
                let mut gone = std::mem::take(&mut self.gone);
                // What was deleted since is back, or it had been deleted before.
                gone.retain(|name, _| missing & 0x80 != 0 && !lost.contains_key(name));
                store.begin_relist(0, true);
                self.version /= 2;
                let held = std::mem::take(&mut self.objects);
                gone.extend(held.into_iter().map(|(name, held)| (name, held.widget)));
                for widget in gone.into_values() {
                    let mut older = at_version(&widget, number(&widget).min(self.version));
                    older.spec.color = colors(color);
                    self.upsert(store, older);
                }
                self.sweep(store, &lost, Some(self.version));
            }
            Step::Clock { by } => self.now += by,
        }
        self.reindex(store);
    }

    /// V11: an event for each object whose expiry the clock has passed in either direction, and for no other.
    fn reindex(&mut self, store: &Store<Widget>) {
        let mut told = BTreeSet::new();
        let next = store.reindex_due(
            self.now(),
            |_| {},
            |batch| {
                for delta in &batch.deltas {
                    assert!(matches!(delta, Delta::Applied { old: Some(old), new } if Arc::ptr_eq(old, new)));
                    assert!(told.insert(delta.key().name.to_owned()), "each object once");
                }
            },
        );
        let mut expected = BTreeSet::new();
        for (name, held) in &mut self.objects {
            let held_now = Held::new(held.widget.clone(), self.now);
            if held_now.is_expired != held.is_expired {
                expected.insert(name.clone());
            }
            *held = held_now;
        }
        assert_eq!(told, expected);
        let ahead = self.objects.values().filter(|held| !held.is_expired);
        let first = ahead.filter_map(|held| held.widget.spec.expires).min();
        assert_eq!(next, first.map(|at| Timestamp::from_second(at).unwrap()));
    }
}

type Values = BTreeSet<(u8, String)>;

fn values_of(widget: &Widget, at: i64) -> Values {
    let keys = params().index_values(widget, Timestamp::from_second(at).unwrap());
    keys.iter().map(|(index, value)| (index, value.to_owned())).collect()
}

/// The index values that each object is filed under, which must be those that it yields.
fn filed(store: &Store<Widget>, model: &Model) -> BTreeMap<(u8, String), BTreeSet<String>> {
    let mut filed: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    store.visit(|widget, values| {
        let name = widget.metadata.name.clone().unwrap();
        let held = &model.objects[&name];
        let values: Vec<_> = values.map(|(index, value)| (index, value.to_owned())).collect();
        let distinct: Values = values.iter().cloned().collect();
        assert_eq!(values.len(), distinct.len(), "{name}: each value once");
        let yields = values_of(&held.widget, model.now);
        assert_eq!(distinct, yields, "{name} is filed under what it yields now (V11)");
        for value in distinct {
            filed.entry(value).or_default().insert(name.clone());
        }
    });
    filed
}

fn check(store: &Store<Widget>, model: &Model) {
    let expected = filed(store, model);
    let view = store.view();
    let held: BTreeMap<_, _> =
        view.iter().map(|w| (w.metadata.name.clone().unwrap(), Widget::clone(w))).collect();
    let objects = || model.objects.iter().map(|(name, held)| (name.clone(), held.widget.clone()));
    assert_eq!(held, objects().collect());
    assert_eq!(model.told, objects().collect(), "events tell all of it");
    for ((index, value), names) in &expected {
        let found = store.view().members(Filter::One((*index, value))).copy();
        let found: Vec<_> = found.iter().map(|w| w.metadata.name.clone().unwrap()).collect();
        assert_eq!(found.len(), names.len(), "each object once in {index}/{value}");
        assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), names, "index {index}, value {value}");
    }
    assert_eq!(view.inner.indexes.value_count(), expected.len(), "no value without an object");
    assert_eq!(view.inner.indexes.table_len(), expected.len());
    let with_transition = objects().filter(|(_, widget)| widget.spec.expires.is_some());
    let expired = model.objects.values().filter(|held| held.is_expired).count();
    assert_eq!(view.inner.transitions.len(), (with_transition.count() - expired, expired));
}

proptest! {
    #[test]
    fn b8_e4_each_index_holds_what_the_stored_objects_yield_and_no_version_goes_back(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let (store, mut model) = (store(), Model::default());
        for step in &steps {
            model.run(&store, step);
            check(&store, &model);
        }
    }
}

#[test]
fn x3_with_a_selector_only_a_proven_deletion_is_final() {
    let reasons = |batch: &Batch<Widget>| -> Vec<DeletionReason> {
        let reason = |delta: &Delta<Widget>| match delta {
            Delta::Deleted { reason, .. } => Some(*reason),
            Delta::Applied { .. } => None,
        };
        batch.deltas.iter().filter_map(reason).collect()
    };
    let hide = || Change::Hide { namespace: "ns".into(), name: "a".into(), version: Some(6) };
    let gone = || Change::DeleteHidden { namespace: "ns".into(), name: "a".into(), version: Some(7) };
    for (has_selector, unproven, unlisted) in [
        (true, DeletionReason::LeftScope, DeletionReason::LeftScope),
        (false, DeletionReason::Removed, DeletionReason::FinalStateUnknown),
    ] {
        let store = Store::new(params(), 1, has_selector);
        let stored = || upsert(&store, widget("a", "1", "5"));
        let deleted = |version: &str, is_terminating: bool, is_held: bool| {
            let mut last = widget("a", "1", version);
            last.metadata.deletion_timestamp = is_terminating.then_some(Time(NOW));
            last.metadata.finalizers = is_held.then(|| vec!["test/hold".into()]);
            reasons(&store.apply(0, [Change::Delete(Arc::new(last))]))
        };
        let swept = || {
            let mut told = Vec::new();
            store.begin_relist(0, true);
            store.sweep(0, None, |batch| told.extend(reasons(&batch)));
            told
        };
        stored();
        assert_eq!(deleted("6", false, false), [unproven], "a deletion at once, or a new label");
        upsert(&store, widget("a", "1", "7"));
        assert_eq!(deleted("8", true, true), [unproven], "a terminating object can get a new label");
        upsert(&store, widget("a", "1", "9"));
        assert_eq!(deleted("10", true, false), [DeletionReason::Removed], "nothing keeps the object");
        upsert(&store, widget("a", "1", "11"));
        assert_eq!(swept(), [unlisted], "a list omits both");
        stored();
        store.apply(0, [hide()]);
        assert_eq!(swept(), [unlisted], "a hidden object");
        stored();
        store.apply(0, [hide()]);
        assert_eq!(reasons(&store.apply(0, [gone()])), [unlisted], "its final state cannot be decoded");
        stored();
        let successor = put(widget("a", "2", "9"), NOW);
        assert_eq!(reasons(&store.apply(0, [successor])), [DeletionReason::FinalStateUnknown], "replaced");
    }
}
