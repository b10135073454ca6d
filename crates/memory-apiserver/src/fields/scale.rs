//! [`track_scale`]: the owner of the number of replicas after a write through `/scale`.

use serde_json::Value;

use super::managed::{Entry, Managed, list_of, put, take};
use super::path::PathElement;
use super::set::FieldSet;
use super::{Endpoint, Manager};

/// Writes `metadata.managedFields` of the scaled object after a write other than an apply. `replicas` is the path of
/// the field, such as `spec.replicas`.
///
/// As in kube-apiserver, a manager that owns the number by updates gets a separate entry for it, without a time, even
/// if the number did not change. If nobody owned the number, nobody does afterwards.
pub(crate) fn track_scale(
    endpoint: &Endpoint<'_>,
    manager: &Manager<'_>,
    replicas: &str,
    live: &Value,
    object: &mut Value,
) {
    let path: Vec<_> = replicas.split('.').map(|name| PathElement::Field(name.into())).collect();
    let number = |object: &Value| replicas.split('.').try_fold(object, Value::get).cloned();
    take(object);
    let Ok(mut owners) = Managed::read(list_of(live)) else { return };
    let mut fields = FieldSet::default();
    fields.insert(path.clone());
    let changed = number(live) != number(object);

    let own = |id| Entry { id, time: None, fields: fields.clone() };
    let mut split = Vec::new();
    for entry in owners.entries.iter_mut().filter(|entry| entry.fields.has(&path)) {
        if changed || !entry.id.applies {
            entry.fields.remove(&fields);
            split.push(own(entry.id.clone()));
        }
    }
    if changed && !split.is_empty() {
        split = vec![own(endpoint.identity(manager, false))];
    }
    owners.entries.extend(split);
    owners.entries.retain(|entry| !entry.fields.is_empty());
    put(object, owners.into_list());
}
