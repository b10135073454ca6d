//! The store against a model that keeps every state it ever had.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn storage() -> Arc<str> {
    "widgets".into()
}

fn object(name: &str, content: u8) -> Value {
    json!({"metadata": {"namespace": "ns", "name": name}, "content": content})
}

fn store(limits: Limits) -> Store {
    let store = Store::new(limits);
    store.force(&NAMESPACES.into(), &Key::new("", "ns"), json!({"metadata": {"name": "ns"}}));
    store
}

fn put(store: &Store, name: &str, content: u8) -> Arc<Stored> {
    let key = Key::new("ns", name);
    let expect = store.get("widgets", &key).map_or(Expect::Absent, |found| Expect::Revision(found.revision));
    store.write(&storage(), &key, expect, Change::Put(object(name, content))).unwrap()
}

fn remove(store: &Store, name: &str) {
    let key = Key::new("ns", name);
    if let Some(found) = store.get("widgets", &key) {
        let last = Change::Remove(found.value());
        store.write(&storage(), &key, Expect::Revision(found.revision), last).unwrap();
    }
}

fn shown(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let content = |stored: &Arc<Stored>| stored.value()["content"].as_u64().unwrap();
    snapshot.objects.iter().map(|stored| (stored.key.name.to_string(), content(stored))).collect()
}

proptest! {
    /// Every state that is not forgotten can be listed, also by pages, and watched from.
    #[test]
    fn past_states_are_shown_as_they_were(
        steps in proptest::collection::vec((0_u8..6, proptest::option::of(any::<u8>())), 1..60),
        limit in 1_usize..4,
    ) {
        let store = store(Limits::default());
        let mut states = vec![(store.revision(), BTreeMap::new())];
        for (name, content) in steps {
            let name = format!("w{name}");
            let mut state = states.last().unwrap().1.clone();
            if let Some(content) = content {
                put(&store, &name, content);
                state.insert(name, u64::from(content));
            } else {
                remove(&store, &name);
                state.remove(&name);
            }
            states.push((store.revision(), state));
        }
        for (revision, state) in &states {
            let all = store.list("widgets", &Range::default(), Some(*revision), 0).unwrap();
            prop_assert_eq!(&shown(&all), state);

            let (mut pages, mut after) = (BTreeMap::new(), None);
            loop {
                let range = Range { namespace: Some("ns"), after: after.as_ref() };
                let page = store.list("widgets", &range, Some(*revision), limit).unwrap();
                pages.append(&mut shown(&page));
                prop_assert_eq!(page.more, pages.len() < state.len());
                if !page.more { break }
                after = page.objects.last().map(|last| last.key.clone());
            }
            prop_assert_eq!(&pages, state);
            prop_assert_eq!(store.count("widgets", Some("ns"), *revision), Ok(state.len()));
            prop_assert_eq!(store.count("widgets", None, *revision), Ok(state.len()));

            let mut followed = state.clone();
            for event in store.events_after("widgets", *revision, usize::MAX).unwrap() {
                let name = event.new.key.name.to_string();
                match event.kind {
                    EventKind::Deleted => followed.remove(&name),
                    _ => followed.insert(name, event.new.value()["content"].as_u64().unwrap()),
                };
            }
            prop_assert_eq!(&followed, &states.last().unwrap().1);
        }
        let (revision, state) = &states[states.len() / 2];
        store.rewind(*revision).unwrap();
        prop_assert_eq!(&shown(&store.list("widgets", &Range::default(), None, 0).unwrap()), state);
    }
}

#[test]
fn only_the_latest_events_are_kept() {
    let store = store(Limits { events: 3, bytes: usize::MAX });
    let revisions: Vec<_> = (0..5).map(|content| put(&store, "a", content).revision).collect();
    let events = store.events_after("widgets", revisions[1], 10).unwrap();
    assert_eq!(events.iter().map(|event| event.new.revision).collect::<Vec<_>>(), revisions[2..]);
    let oldest = revisions[1];
    assert_eq!(store.events_after("widgets", revisions[0], 10).unwrap_err(), Unknown::Expired { oldest });
    let old = store.list("widgets", &Range::default(), Some(revisions[0]), 0);
    assert_eq!(old.unwrap_err(), Unknown::Expired { oldest });

    let tight = self::store(Limits { events: 100, bytes: 200 });
    (0..10).for_each(|content| drop(put(&tight, "a", content)));
    assert!(tight.events_after("widgets", 0, 100).is_err(), "bytes are bounded, too");
}

#[test]
fn a_write_that_expects_something_else_changes_nothing() {
    let store = store(Limits::default());
    let first = put(&store, "a", 1);
    let second = put(&store, "a", 2);
    let write = |expect| store.write(&storage(), &Key::new("ns", "a"), expect, Change::Put(object("a", 3)));
    for expect in [Expect::Absent, Expect::Revision(first.revision)] {
        assert_eq!(write(expect).unwrap_err(), Refused::Raced);
    }
    assert_eq!(store.revision(), second.revision);
    assert!(write(Expect::Revision(second.revision)).is_ok());
}

#[test]
fn objects_are_created_only_in_namespaces_that_stay() {
    let store = store(Limits::default());
    let create = |namespace: &str| {
        store.write(&storage(), &Key::new(namespace, "a"), Expect::Absent, Change::Put(object("a", 1)))
    };
    assert_eq!(create("none").unwrap_err(), Refused::NoNamespace);
    let going = json!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    store.force(&NAMESPACES.into(), &Key::new("", "going"), going);
    assert_eq!(create("going").unwrap_err(), Refused::NamespaceTerminating);
    assert!(create("ns").is_ok());
}

#[test]
fn dependents_are_known_by_their_owner_and_forgotten_with_it() {
    let store = store(Limits::default());
    let key = Key::new("ns", "a");
    let mut owned = object("a", 1);
    owned["metadata"]["ownerReferences"] = json!([{"uid": "u1"}, {"uid": "u2"}]);
    let stored = store.force(&storage(), &key, owned);
    assert_eq!(store.dependents("u1").len(), 1);
    let free = store.write(&storage(), &key, Expect::Revision(stored.revision), Change::Put(object("a", 2)));
    assert!(store.dependents("u1").is_empty() && store.dependents("u2").is_empty());
    store.rewind(free.unwrap().revision - 1).unwrap();
    assert_eq!(store.dependents("u2").len(), 1);
}

/// The number of keys that the calls since the last one have visited.
fn visited(store: &Store) -> usize {
    store.state.read().collections["widgets"].take_visited()
}

#[test]
fn a_page_looks_at_no_more_keys_than_it_shows() {
    let store = store(Limits::default());
    let names: Vec<_> = (0..1000).map(|i| format!("w{i:04}")).collect();
    for name in &names {
        put(&store, name, 1);
    }
    let before = store.revision();
    let page = |at, after: Option<&Key>| {
        visited(&store);
        let range = Range { namespace: Some("ns"), after };
        let page = store.list("widgets", &range, Some(at), 10).unwrap();
        assert!(page.more);
        (page, visited(&store))
    };
    let (first, cost) = page(before, None);
    assert!(cost <= 12, "{cost}");
    // A page of the state before 1,000 changes visits only its own keys, in two maps.
    for name in &names {
        put(&store, name, 2);
    }
    let (_, cost) = page(before, first.objects.last().map(|last| &last.key));
    assert!(cost <= 24, "{cost}");
    let (_, cost) = page(store.revision(), Some(&Key::new("ns", "w0500")));
    assert!(cost <= 12, "{cost}");
    visited(&store);
    assert_eq!(store.count("widgets", Some("ns"), store.revision()), Ok(1000));
    assert_eq!(visited(&store), 0);
}

#[test]
fn a_compaction_spares_watches_that_have_read_everything() {
    let store = store(Limits::default());
    let read = put(&store, "a", 1).revision;
    let missed = put(&store, "a", 2).revision;
    store.skip_revision();
    store.compact();
    let floor = store.revision();
    assert_eq!(store.events_after("widgets", missed, 10).unwrap().len(), 0);
    assert_eq!(store.events_after("widgets", read, 10).unwrap_err(), Unknown::Expired { oldest: missed });
    // A new watch cannot know what it misses.
    assert_eq!(store.check_watchable("widgets", missed), Err(Unknown::Expired { oldest: floor }));
    assert_eq!(store.check_watchable("widgets", floor), Ok(()));
}

#[test]
fn events_of_a_kind_that_is_gone_are_kept_only_for_open_watches() {
    let store = store(Limits::default());
    let first = put(&store, "a", 1).revision;
    let kept = |revision| store.events_after("widgets", revision, 10).map(|events| events.len());
    let watch = store.subscribe(&storage());
    store.end("widgets");
    assert_eq!(kept(first - 1), Ok(1));
    drop(watch);
    store.unsubscribe("widgets");
    assert_eq!(kept(first - 1), Err(Unknown::Expired { oldest: first }));
    assert!(store.state.read().collections["widgets"].is_forgotten());
    // A kind of the same name that comes later has a history of its own.
    let later = put(&store, "b", 1).revision;
    store.subscribe(&storage());
    store.unsubscribe("widgets");
    assert_eq!(kept(later - 1), Ok(1));
}
