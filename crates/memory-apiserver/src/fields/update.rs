//! [`track_update`]: records the owners of fields after a write other than an apply.
//!
//! A manager that adds or changes a field becomes its only owner. A removed field has no owner. Other fields keep their
//! owners.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::compare::{Changes, Indistinct, compare};
use super::content::reconcile;
use super::managed::{Entry, Identity, Managed, list_of, put, seconds, take};
use super::set::FieldSet;
use super::{Endpoint, Manager, Origin};

/// Maximum number of entries of updates. If there are more, the oldest are merged.
const MAX_UPDATERS: usize = 10;

/// The manager of merged entries.
const ANCIENT: &str = "ancient-changes";

/// The manager that gets the fields of an object without owners at its first apply.
pub(super) const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The fields that nobody owns.
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

/// Writes `metadata.managedFields` of an object that `manager` is about to store by a create (no live object), a PUT,
/// or any patch except an apply.
///
/// `object` is the object of the client, with defaults, and without unknown fields and empty metadata, but before the
/// fields of [`Endpoint::reset`] are restored, which nobody gains. Its own `managedFields` replace the live ones if
/// they can be decoded, so that a client can edit them; at a subresource they are ignored. An object whose owners were
/// removed (`managedFields: [{}]`) stays without owners until its first apply.
///
/// Never fails: an object with a list whose items lack keys is left without owners, and validation reports it.
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

/// The owners before a write. `own` is the list in the written object.
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

/// `[{}]`, and for built-in kinds also `[]`, which custom kinds cannot distinguish from an absent list.
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

/// The owners after `manager` has changed `before` into `after` by an update.
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

/// Removes the fields that nobody owns.
pub(super) fn strip(fields: &mut FieldSet<'_>) {
    fields.remove(&UNOWNED);
}

/// Merges the oldest updates of one API version into one entry, until there are few enough.
///
/// A merged entry that is not the oldest is lost when it is its turn. That needs an entry without a time, and happens
/// in kube-apiserver, too.
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

/// Adds an entry to the merged entry of its version, or to the oldest entry of its version.
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
