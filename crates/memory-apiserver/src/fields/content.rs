//! The fields of an object, and the named fields above the paths of a set.

use serde_json::Value;

use super::path::PathElement;
use super::set::{FieldSet, Node};
use super::shape::{Kind, Shape};

/// The fields of an applied configuration, which its manager owns: leaves, keys of maps and items of lists, but not the
/// named fields that only contain others. Items without keys are left out.
pub(super) fn fields_of<'a>(shape: Shape<'a>, object: &'a Value) -> FieldSet<'a> {
    let mut root = Node::default();
    collect(shape, object, &mut root);
    root.below
}

fn collect<'a>(shape: Shape<'a>, value: &'a Value, node: &mut Node<'a>) {
    let kind = shape.kind_of(value);
    if shape.is_atomic(kind) {
        node.member = true;
    } else if kind == Kind::Map {
        for (name, value) in value.as_object().into_iter().flatten() {
            let mut child = Node::default();
            collect(shape.field_or_free(name), value, &mut child);
            let is_nothing = value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty);
            child.member |= is_nothing || !shape.names(name);
            node.below.put(PathElement::Field(name.into()), child);
        }
    } else {
        collect_items(shape, value, node);
    }
}

/// Items with equal keys count as one item, which is owned as a whole.
fn collect_items<'a>(shape: Shape<'a>, list: &'a Value, node: &mut Node<'a>) {
    let mut items: Vec<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| Some((shape.item_element(item).ok()?, item)))
        .collect();
    items.sort_by(|left, right| left.0.cmp(&right.0));
    for equal in items.chunk_by(|left, right| left.0 == right.0) {
        let mut child = Node { member: true, below: FieldSet::default() };
        if let [(_, only)] = equal {
            collect(shape.items(), only, &mut child);
        }
        node.below.put(equal[0].0.clone(), child);
    }
}

/// Adds to a set the named fields above its members.
pub(super) fn with_named_fields<'a>(shape: Shape<'_>, set: &FieldSet<'a>) -> FieldSet<'a> {
    with_named(Some(shape), set)
}

fn with_named<'a>(shape: Option<Shape<'_>>, set: &FieldSet<'a>) -> FieldSet<'a> {
    let mut named = FieldSet::default();
    for (element, node) in set.nodes() {
        let leads_on = !node.below.is_empty();
        let is_named =
            matches!((shape, element), (Some(shape), PathElement::Field(name)) if shape.names(name));
        let child = shape.and_then(|shape| shape.child(element));
        let below = with_named(child, &node.below);
        named.put(element.clone(), Node { member: node.member || (leads_on && is_named), below });
    }
    named
}

/// Adapts a set to a schema in which a list or a map has become atomic since the set was written.
pub(super) fn reconcile(shape: Shape<'_>, set: &mut FieldSet<'_>) {
    for (element, node) in set.nodes_mut().filter(|(_, node)| !node.below.is_empty()) {
        let Some(child) = shape.child(element) else { continue };
        let kind = child.first_kind();
        if kind == Kind::Scalar || (kind == Kind::Map && child.is_free_form()) {
            continue;
        }
        if child.is_atomic(kind) {
            *node = Node { member: true, below: FieldSet::default() };
        } else {
            reconcile(child, &mut node.below);
        }
    }
}
