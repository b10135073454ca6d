//! Tests the store alone: events, versions, relists, indexes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::kind::CachedResource;
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
    let view = store.view();
    let index = params().index_number(index).unwrap();
    let objects: Vec<_> = view.by_index(index, value).collect();
    assert_eq!(objects.len(), view.count(index, value));
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
    let hide = |version| Change::Hide {
        namespace: "ns".into(),
        name: "a".into(),
        version: Some(version),
        reason: DeletionReason::Undecodable,
    };
    assert!(show(&store.apply(0, [hide(4)])).is_empty());
    assert_eq!(show(&store.apply(0, [hide(6)])), ["-a@5?"]);
}

#[test]
fn b2_time_alone_moves_an_object_out_of_an_index() {
    let store = store();
    let mut widget = colored("a", 5, &["red"]);
    widget.spec.expires = Some(100);
    let at = |second| Timestamp::from_second(second).unwrap();
    store.apply(0, [put(widget, at(10))]);
    assert_eq!(store.reindex_due(at(100), |_| {}), Some(at(100)), "strictly past");
    assert_eq!(names(&store, "color", "red").len(), 1);
    assert_eq!(store.reindex_due(at(101), |_| {}), None);
    assert!(names(&store, "color", "red").is_empty());
    assert_eq!(store.len(), 1);
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
    assert!(store.inner.read().transitions.is_empty());
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
    let view = store.view();
    for (a, b) in [((color, "red"), (owner, "owner-3")), ((owner, "owner-3"), (color, "red"))] {
        let mut found: Vec<_> = view.by_indexes(a, b).map(|w| w.metadata.name.clone().unwrap()).collect();
        found.sort();
        assert_eq!(found, ["w-3", "w-8"]);
    }
    assert_eq!(view.by_indexes((color, "red"), (owner, "nobody")).count(), 0);
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
    while store.inner.try_read().is_some() {
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
    Upsert { name: u8, recreate: bool, color: u8, owner: u8, expires: Option<i64> },
    Late { name: u8, by: u64 },
    Delete { name: u8 },
    Relist { missing: u8 },
    Clock { by: i64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6u8, prop::bool::weighted(0.2), 0..4u8, 0..3u8, prop::option::of(0..60i64))
            .prop_map(|(name, recreate, color, owner, expires)| Step::Upsert { name, recreate, color, owner, expires }),
        1 => (0..6u8, 1..5u64).prop_map(|(name, by)| Step::Late { name, by }),
        2 => (0..6u8).prop_map(|name| Step::Delete { name }),
        1 => any::<u8>().prop_map(|missing| Step::Relist { missing }),
        1 => (0..20i64).prop_map(|by| Step::Clock { by }),
    ]
}

/// The objects of the server, which the store must therefore contain.
#[derive(Default)]
struct Model {
    objects: BTreeMap<String, Widget>,
    version: u64,
    uid: u64,
    now: i64,
}

impl Model {
    fn run(&mut self, store: &Store<Widget>, step: &Step) {
        self.version += 1;
        let now = Timestamp::from_second(self.now).unwrap();
        match *step {
            Step::Upsert { name, recreate, color, owner, expires } => {
                let name = format!("w-{name}");
                let uid = self.objects.get(&name).filter(|_| !recreate).and_then(|w| w.metadata.uid.clone());
                self.uid += 1;
                let uid = uid.unwrap_or_else(|| self.uid.to_string());
                let mut widget = widget(&name, &uid, &self.version.to_string());
                widget.spec.color = (0..color).map(|c| format!("color-{c}")).collect();
                widget.spec.owner = if owner == 0 { String::new() } else { format!("owner-{owner}") };
                widget.spec.expires = expires.map(|after| self.now + after);
                store.apply(0, [put(widget.clone(), now)]);
                self.objects.insert(name, widget);
            }
            Step::Late { name, by } => {
                if let Some(mut late) = self.objects.get(&format!("w-{name}")).cloned() {
                    let version: u64 = late.metadata.resource_version.as_deref().unwrap().parse().unwrap();
                    late.metadata.resource_version = Some(version.saturating_sub(by).to_string());
                    late.spec.color = vec!["late".into()];
                    store.apply(0, [put(late, now)]);
                }
            }
            Step::Delete { name } => {
                if let Some(mut last) = self.objects.remove(&format!("w-{name}")) {
                    last.metadata.resource_version = Some(self.version.to_string());
                    store.apply(0, [Change::Delete(Arc::new(last))]);
                }
            }
            Step::Relist { missing } => {
                let mut i = 0;
                self.objects.retain(|_, _| {
                    i += 1;
                    missing & (1 << (i - 1)) == 0
                });
                store.begin_relist(0, false);
                store.apply(0, self.objects.values().map(|widget| put(widget.clone(), now)));
                store.sweep(0, None, |_| {});
            }
            Step::Clock { by } => self.now += by,
        }
        store.reindex_due(Timestamp::from_second(self.now).unwrap(), |_| {});
    }

    fn postings(&self) -> BTreeMap<(u8, String), BTreeSet<String>> {
        let mut postings: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (name, widget) in &self.objects {
            let keys = params().index_values(widget, Timestamp::from_second(self.now).unwrap());
            for (index, value) in keys.iter() {
                postings.entry((index, value.to_owned())).or_default().insert(name.clone());
            }
        }
        postings
    }
}

fn check(store: &Store<Widget>, model: &Model) {
    let view = store.view();
    let held: BTreeMap<_, _> =
        view.iter().map(|w| (w.metadata.name.clone().unwrap(), Widget::clone(w))).collect();
    assert_eq!(held, model.objects);
    let expected = model.postings();
    for ((index, value), names) in &expected {
        let found: Vec<_> = view.by_index(*index, value).map(|w| w.metadata.name.clone().unwrap()).collect();
        assert_eq!(found.len(), names.len(), "each object once in {index}/{value}");
        assert_eq!(&found.into_iter().collect::<BTreeSet<_>>(), names, "index {index}, value {value}");
    }
    assert_eq!(view.inner.indexes.value_count(), expected.len(), "no value without an object");
    assert_eq!(view.inner.indexes.table_len(), expected.len());
    let due = model.objects.values().filter_map(CachedResource::next_transition);
    let due = due.filter(|at| at.as_second() >= model.now).count();
    assert_eq!(view.inner.transitions.len(), due);
}

proptest! {
    #[test]
    fn b8_each_index_holds_exactly_what_the_stored_objects_yield(steps in prop::collection::vec(step(), 1..80)) {
        let (store, mut model) = (store(), Model::default());
        for step in &steps {
            model.run(&store, step);
            check(&store, &model);
        }
    }
}
