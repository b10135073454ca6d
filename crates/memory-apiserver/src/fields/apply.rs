//! [`apply()`]: server-side apply.
//!
//! A manager applies the fields that it wants. Fields that it alone had applied before and now leaves out are removed.
//! A different value of another manager is a conflict, unless forced. An equal value is owned by both.

use serde_json::Value;

use super::compare::compare;
use super::conflict::Conflict;
use super::content::{fields_of, reconcile};
use super::last_applied;
use super::managed::{Entry, Identity, Managed, list_of, put, take};
use super::merge::merge;
use super::prune::prune;
use super::update::{BEFORE_FIRST_APPLY, record, strip};
use super::validate::validate;
use super::value::same;
use super::{Endpoint, Manager};
use crate::error::ApiError;
use crate::object::{name, namespace};

/// Applies a configuration to the live object, or to none. Returns the new object with `managedFields`.
///
/// In the result, defaults are missing, unknown fields are left, and emptied fields may be `null`. Only the types of
/// the configuration are checked. An apply that changes nothing, and whose fields the manager owned already, returns
/// the live object.
///
/// Refuses a configuration of another kind or with `managedFields` (400), values of wrong types (500, as kube-apiserver
/// does) and conflicts (409, with a cause for each).
pub(crate) fn apply(
    endpoint: &Endpoint<'_>,
    manager: &Manager<'_>,
    live: Option<&Value>,
    applied: &Value,
    force: bool,
) -> Result<Value, ApiError> {
    check_request(endpoint, applied)?;
    let owners = owners_of_live(endpoint, manager, live)?;
    let check_types = |what: &str, object: &Value, duplicates: bool| {
        validate(endpoint.shape(), object, duplicates).map_err(|mistyped| {
            ApiError::unexpected(format!(
                "failed to create typed {what} object ({}): {mistyped}",
                subject(object)
            ))
        })
    };
    check_types("patch", applied, false)?;
    if let Some(live) = live {
        check_types("live", live, true)?;
    }

    let attempt = Attempt { endpoint, manager, live, applied };
    let (mut object, list) = match attempt.carry_out(owners.clone(), force) {
        Err(Refusal::Conflicts(conflicts)) => {
            let left = last_applied::without_own(endpoint, manager, live, conflicts);
            if !left.is_empty() {
                return Err(Refusal::Conflicts(left).into());
            }
            attempt.carry_out(owners, true)?
        }
        other => other?,
    };
    last_applied::renew(manager, applied, &mut object);
    put(&mut object, list);
    Ok(object)
}

/// Restores the times in `managedFields` if nothing else has changed, so that such a write changes nothing.
/// To be called when the object is complete: with defaults, and with the fields restored that cannot change.
pub(crate) fn keep_times_of_no_op(live: &Value, object: &mut Value) {
    let (Some(before), Some(after)) = (list_of(live).as_array(), list_of(object).as_array()) else { return };
    let timeless_equal = |left: &Value, right: &Value| match (left.as_object(), right.as_object()) {
        (Some(left), Some(right)) => {
            let timeless = |(field, _): &(&String, &Value)| *field != "time";
            left.iter().filter(timeless).eq(right.iter().filter(timeless))
        }
        _ => left == right,
    };
    if before == after
        || before.len() != after.len()
        || !before.iter().zip(after).all(|(before, after)| timeless_equal(before, after))
    {
        return;
    }
    if equal_but_for_owners(live, object) {
        object["metadata"]["managedFields"] = list_of(live).clone();
    }
}

fn equal_but_for_owners(left: &Value, right: &Value) -> bool {
    fn equal_but_for(path: &[&str], left: &Value, right: &Value) -> bool {
        let [first, rest @ ..] = path else { return true };
        let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else { return left == right };
        left.len() == right.len()
            && left.iter().all(|(field, value)| {
                right.get(field).is_some_and(|other| {
                    if field == first { equal_but_for(rest, value, other) } else { value == other }
                })
            })
    }
    equal_but_for(&["metadata", "managedFields"], left, right)
}

fn check_request(endpoint: &Endpoint<'_>, applied: &Value) -> Result<(), ApiError> {
    let text = |field: &str| applied[field].as_str().unwrap_or_default();
    if text("apiVersion") != endpoint.api_version || text("kind") != endpoint.kind {
        return Err(ApiError::bad_request(format!("invalid object type: {}", type_of(applied))));
    }
    if !list_of(applied).is_null() {
        return Err(ApiError::bad_request("metadata.managedFields must be nil"));
    }
    Ok(())
}

/// The name of a kind as in kube-apiserver.
fn type_of(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    format!("{group}/{version}, Kind={}", text("kind"))
}

fn subject(object: &Value) -> String {
    format!("{}/{}; {}", namespace(object), name(object), type_of(object))
}

/// The owners of the live object. If it has none, one owner gets all of its fields.
fn owners_of_live<'a>(
    endpoint: &Endpoint<'a>,
    manager: &Manager<'a>,
    live: Option<&'a Value>,
) -> Result<Managed<'a>, ApiError> {
    let Some(live) = live else { return Ok(Managed::default()) };
    let owners = Managed::read(list_of(live))
        .map_err(|problem| ApiError::unexpected(format!("failed to decode managed fields: {problem}")))?;
    if !owners.is_empty() {
        return Ok(owners);
    }
    let before = Manager { name: BEFORE_FIRST_APPLY, ..*manager };
    record(endpoint, &before, endpoint.blank(), live, owners).map_err(|problem| {
        ApiError::unexpected(format!("failed to create manager for existing fields: {problem}"))
    })
}

/// Why an apply is not carried out.
enum Refusal<'a> {
    /// Not without force.
    Conflicts(Vec<Conflict<'a>>),
    Failed(ApiError),
}

impl From<Refusal<'_>> for ApiError {
    fn from(refusal: Refusal<'_>) -> Self {
        match refusal {
            Refusal::Conflicts(conflicts) => {
                Self::apply_conflict(conflicts.iter().map(Conflict::cause).collect())
            }
            Refusal::Failed(error) => error,
        }
    }
}

/// One apply.
struct Attempt<'a> {
    endpoint: &'a Endpoint<'a>,
    manager: &'a Manager<'a>,
    live: Option<&'a Value>,
    applied: &'a Value,
}

impl<'a> Attempt<'a> {
    /// The new object, and the list of its owners.
    fn carry_out(&self, mut owners: Managed<'a>, force: bool) -> Result<(Value, Option<Value>), Refusal<'a>> {
        let shape = self.endpoint.shape();
        let id = self.endpoint.identity(self.manager, true);
        for entry in &mut owners.entries {
            reconcile(shape, &mut entry.fields);
        }
        let last = owners.take(&id);
        let mut fields = fields_of(shape, self.applied);
        fields.remove_recursively(self.endpoint.reset);
        let time = last.as_ref().and_then(|last| last.time);
        owners.entries.push(Entry { id: id.clone(), time, fields });

        let merged = match self.live {
            Some(live) => merge(shape, live, self.applied),
            None => self.applied.clone(),
        };
        let mut object = match &last {
            Some(last) => prune(shape, merged, &owners, &last.fields),
            None => merged,
        };
        self.take_over(&mut owners, &id, &object, force)?;
        if let Some(mut own) = owners.take(&id) {
            strip(&mut own.fields);
            if self.live.is_none_or(|live| !same(live, &object)) {
                own.time = Some(self.manager.now);
            }
            owners.entries.push(own);
        }
        owners.entries.retain(|entry| !entry.fields.is_empty());
        take(&mut object);
        Ok((object, owners.into_list()))
    }

    /// Takes the changed fields from all other managers. Refuses conflicts, unless forced.
    fn take_over(
        &self,
        owners: &mut Managed<'a>,
        id: &Identity<'_>,
        object: &Value,
        force: bool,
    ) -> Result<(), Refusal<'a>> {
        let mut changes = compare(self.endpoint.shape(), self.live, Some(object)).map_err(|problem| {
            Refusal::Failed(ApiError::unexpected(format!("failed to compare objects: {problem}")))
        })?;
        changes.disregard(self.endpoint.reset);
        let mut conflicts = Vec::new();
        for entry in owners.entries.iter_mut().filter(|entry| !entry.id.is_of(id)) {
            let mut taken = entry.fields.intersection(&changes.added);
            taken.add(entry.fields.intersection(&changes.modified));
            let conflict = |path| Conflict { with: entry.id.clone(), path };
            conflicts.extend(taken.paths().into_iter().map(conflict));
            changes.take_from(&mut entry.fields);
        }
        if force || conflicts.is_empty() {
            return Ok(());
        }
        conflicts.sort_by(|left, right| left.with.rank().cmp(&right.with.rank()));
        Err(Refusal::Conflicts(conflicts))
    }
}
