//! [`prune()`]: removes fields that a manager had applied before and now leaves out.

use serde_json::Value;

use super::content::{fields_of, with_named_fields};
use super::managed::Managed;
use super::remove::without;
use super::set::FieldSet;
use super::shape::Shape;

/// The merged object without the fields that the manager had applied before (`last`), does not apply now, and that no
/// other manager owns. `managed` has the fields that it applies now.
pub(super) fn prune(shape: Shape<'_>, merged: Value, managed: &Managed<'_>, last: &FieldSet<'_>) -> Value {
    if last.is_empty() {
        return merged;
    }
    let last = with_named_fields(shape, last);
    let all = has(shape, &merged);

    // First without all fields that were applied before, then with the owned fields, then with fields that were only in
    // an object that was applied before.
    let stripped = without(shape, &merged, &last);
    let mut wanted = has(shape, &stripped);
    let mut owned = FieldSet::default();
    for entry in &managed.entries {
        owned.add(entry.fields.clone());
    }
    wanted.add(with_named_fields(shape, &owned));
    let mut unwanted = all.clone();
    unwanted.remove(&wanted);

    let kept = without(shape, &merged, &unwanted);
    let left = has(shape, &kept);
    let mut gone = all;
    gone.remove(&left);
    without(shape, &merged, &gone.intersection(&last))
}

/// All fields of an object, also those that only contain others.
fn has<'a>(shape: Shape<'a>, object: &'a Value) -> FieldSet<'a> {
    with_named_fields(shape, &fields_of(shape, object))
}
