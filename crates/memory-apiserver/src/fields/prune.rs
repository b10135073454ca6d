//! [`prune()`]: what an apply removes because its manager no longer speaks of it.

use serde_json::Value;

use super::content::{fields_of, with_named_fields};
use super::managed::Managed;
use super::remove::without;
use super::set::FieldSet;
use super::shape::Shape;

/// The merged object without the fields that the applying manager had applied before (`last`), does not apply now
/// and that nobody else owns. `managed` has what it applies now.
pub(super) fn prune(shape: Shape<'_>, merged: Value, managed: &Managed<'_>, last: &FieldSet<'_>) -> Value {
    if last.is_empty() {
        return merged;
    }
    let last = with_named_fields(shape, last);
    let all = has(shape, &merged);

    // Without all that was applied before, then with what somebody owns, then with what only happened to be in
    // something that was applied before.
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

/// All fields of an object, also those that only hold others.
fn has<'a>(shape: Shape<'a>, object: &'a Value) -> FieldSet<'a> {
    with_named_fields(shape, &fields_of(shape, object))
}
