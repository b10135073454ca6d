//! [`track_update`]: the owners of an object's fields after a write that is no apply.
//!
//! Whoever adds or changes a field owns it and nobody else does; who removes one owns nothing for it. Fields that
//! a write left alone stay with their owners.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Changes, Indistinct, compare};
use super::content::reconcile;
use super::managed::{Entry, Identity, Managed, list_of, put, seconds, take};
use super::set::FieldSet;
use super::{Endpoint, Manager, Origin};

/// At most so many entries are of updates. Beyond it the oldest become one.
const MAX_UPDATERS: usize = 10;

/// The manager of what was folded together.
const ANCIENT: &str = "ancient-changes";

/// The manager of what was there before anybody was tracked, from the first apply on.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What nobody owns.
static UNOWNED: LazyLock<FieldSet<'static>> = LazyLock::new(|| {
    FieldSet::of([
        "apiVersion",
        "kind",
        "metadata",
        "metadata.name",
        "metadata.namespace",
        "metadata.creationTimestamp",
        "metadata.selfLink",
        "metadata.uid",
        "metadata.clusterName",
        "metadata.generation",
        "metadata.managedFields",
        "metadata.resourceVersion",
    ])
});

/// Writes `metadata.managedFields` of an object that `manager` is about to store: by a create (no live object), a
/// PUT or any patch but an apply.
///
/// `object` is as the client wants it, with defaults, without unknown fields and without what is empty in its
/// metadata, but before what this endpoint may not change is put back: what [`Endpoint::reset`] names is nobody's
/// gain. Its own `managedFields` replace the live ones where they can be read, so that a client may edit them; at a
/// subresource they are disregarded. An object whose owners were removed (`managedFields: [{}]`) stays without
/// them until the first apply.
///
/// Never fails: an object with a list whose items can't be told apart is left without owners, and validation will
/// say why.
pub(crate) fn track_update(
    endpoint: &Endpoint<'_>,
    manager: &Manager<'_>,
    live: Option<&Value>,
    object: &mut Value,
) {
    let own = take(object);
    let owners = owners_before(endpoint, live, &own);
    if owners.is_empty() && live.is_some() {
        return;
    }
    let before = live.or(endpoint.blank());
    let list = record(endpoint, manager, before, object, owners).ok().and_then(Managed::into_list);
    put(object, list);
}

/// The owners that a write starts from; `own` is the list that the written object has.
fn owners_before<'a>(endpoint: &Endpoint<'_>, live: Option<&'a Value>, own: &'a Value) -> Managed<'a> {
    if endpoint.subresource.is_empty() {
        if asks_for_reset(endpoint, own) {
            return Managed::default();
        }
        if let Ok(owners) = Managed::read(own)
            && !owners.is_empty()
        {
            return owners;
        }
    }
    live.and_then(|live| Managed::read(list_of(live)).ok()).unwrap_or_default()
}

/// `[{}]`, and for built-in kinds `[]` too, which custom kinds can't tell from an absent list.
fn asks_for_reset(endpoint: &Endpoint<'_>, list: &Value) -> bool {
    const FIELDS: [&str; 7] =
        ["manager", "operation", "apiVersion", "time", "fieldsType", "fieldsV1", "subresource"];
    match list.as_array().map(Vec::as_slice) {
        Some([]) => matches!(endpoint.origin, Origin::BuiltIn(_)),
        Some([Value::Object(entry)]) => {
            FIELDS.iter().filter_map(|field| entry.get(*field)).all(|value| value.is_null() || value == "")
        }
        _ => false,
    }
}

/// The owners after `manager` has turned `before` into `after` by an update.
pub(super) fn record<'a>(
    endpoint: &Endpoint<'a>,
    manager: &Manager<'a>,
    before: Option<&'a Value>,
    after: &'a Value,
    mut owners: Managed<'a>,
) -> Result<Managed<'a>, Indistinct> {
    let shape = endpoint.shape();
    let mut changes = compare(shape, before, Some(after))?;
    changes.disregard(endpoint.reset);
    for entry in &mut owners.entries {
        reconcile(shape, &mut entry.fields);
        changes.take_from(&mut entry.fields);
    }
    owners.entries.retain(|entry| !entry.fields.is_empty());

    let Changes { added: mut gained, modified, .. } = changes;
    gained.add(modified);
    strip(&mut gained);
    if !gained.is_empty() {
        let id = endpoint.identity(manager, false);
        let mut entry = owners.take(&id).unwrap_or(Entry { id, time: None, fields: FieldSet::default() });
        entry.fields.add(gained);
        entry.time = Some(manager.now);
        owners.entries.push(entry);
    }
    fold_oldest(&mut owners);
    Ok(owners)
}

/// Removes what nobody owns.
pub(super) fn strip(fields: &mut FieldSet<'_>) {
    fields.remove(&UNOWNED);
}

/// Folds the oldest updates of one API version into one entry, until there are few enough.
///
/// An entry that was folded before and is not the oldest is lost if its turn comes. That needs an entry without a
/// time, and is so in the real server.
fn fold_oldest(owners: &mut Managed<'_>) {
    let entries = std::mem::take(&mut owners.entries);
    let (appliers, mut updaters): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.id.applies);
    if updaters.len() > MAX_UPDATERS {
        updaters.sort_by(|left, right| {
            (seconds(left.time), left.id.rank()).cmp(&(seconds(right.time), right.id.rank()))
        });
    }
    let mut oldest = BTreeMap::new();
    let mut at = 0;
    while updaters.len() > MAX_UPDATERS && at < updaters.len() {
        let first = *oldest.entry(updaters[at].id.api_version.clone()).or_insert(at);
        if first == at {
            at += 1;
        } else {
            let entry = updaters.remove(at);
            fold(&mut updaters, first, entry);
        }
    }
    owners.entries = appliers;
    owners.entries.extend(updaters);
}

/// Adds an entry to what was folded before, or else to the oldest of its version.
fn fold<'a>(updaters: &mut [Entry<'a>], oldest: usize, entry: Entry<'a>) {
    let api_version = entry.id.api_version.clone();
    let ancient = Identity { manager: ANCIENT.into(), applies: false, api_version, subresource: "".into() };
    if entry.id == ancient {
        return;
    }
    let into = updaters.iter().position(|entry| entry.id == ancient).unwrap_or(oldest);
    let into = &mut updaters[into];
    into.id = ancient;
    into.fields.add(entry.fields);
    into.time = entry.time;
}
