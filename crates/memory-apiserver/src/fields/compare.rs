//! [`compare()`]: the fields that were added, changed and removed between two versions of an object.

use serde_json::{Map, Value};

use super::path::PathElement;
use super::set::{FieldSet, Node};
use super::shape::{Kind, Shape};
use super::value::same;

/// The changes of a write. No path is in more than one of the sets.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) added: FieldSet<'a>,
    pub(super) modified: FieldSet<'a>,
    pub(super) removed: FieldSet<'a>,
}

impl Changes<'_> {
    /// Leaves out fields that cannot be changed, and all fields below them.
    pub(super) fn disregard(&mut self, fields: &FieldSet<'_>) {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.remove_recursively(fields);
        }
    }

    /// Removes the changed and removed fields from those that another manager owns.
    pub(super) fn take_from(&self, owned: &mut FieldSet<'_>) {
        for set in [&self.added, &self.modified, &self.removed] {
            owned.remove(set);
        }
    }
}

/// A list whose items do not have the keys that its schema names.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("items of a list can't be told apart")]
pub(super) struct Indistinct;

/// Compares two versions of an object. No object counts as an object without fields.
///
/// A value of another type than the schema requires is compared as a whole.
pub(super) fn compare<'a>(
    shape: Shape<'a>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
) -> Result<Changes<'a>, Indistinct> {
    let mut marks = Marks::default();
    walk(shape, before, after, &mut marks)?;
    let Marks { added, modified, removed } = marks;
    Ok(Changes { added: added.below, modified: modified.below, removed: removed.below })
}

/// Records the changes at one path and below.
#[derive(Debug, Default)]
struct Marks<'a> {
    added: Node<'a>,
    modified: Node<'a>,
    removed: Node<'a>,
}

impl<'a> Marks<'a> {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn put(&mut self, element: &PathElement<'a>, child: Self) {
        for (node, child) in [
            (&mut self.added, child.added),
            (&mut self.modified, child.modified),
            (&mut self.removed, child.removed),
        ] {
            if !child.is_empty() {
                node.below.put(element.clone(), child);
            }
        }
    }
}

fn walk<'a>(
    shape: Shape<'a>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    marks: &mut Marks<'a>,
) -> Result<(), Indistinct> {
    let [was, is] = [before, after].map(|value| value.map(|value| shape.kind_of(value)));
    if let Some(was) = was {
        walk_as(was, shape, before, after, marks)?;
    }
    if let Some(is) = is.filter(|_| is != was) {
        walk_as(is, shape, before, after, marks)?;
    }
    marks.added.member |= before.is_none();
    marks.removed.member |= after.is_none();
    Ok(())
}

fn walk_as<'a>(
    kind: Kind,
    shape: Shape<'a>,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
    marks: &mut Marks<'a>,
) -> Result<(), Indistinct> {
    if !shape.is_atomic(kind) {
        if kind == Kind::Map {
            let [was, is] = [before, after].map(|value| value.and_then(Value::as_object));
            if !(was.is_none_or(Map::is_empty) && is.is_none_or(Map::is_empty)) {
                return walk_fields(shape, was, is, marks);
            }
        } else {
            let [was, is] = [before, after]
                .map(|value| value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default());
            if !(was.is_empty() && is.is_empty()) {
                return walk_items(shape, was, is, marks);
            }
        }
    }
    marks.modified.member |= before.zip(after).is_some_and(|(before, after)| !same(before, after));
    Ok(())
}

fn walk_fields<'a>(
    shape: Shape<'a>,
    before: Option<&'a Map<String, Value>>,
    after: Option<&'a Map<String, Value>>,
    marks: &mut Marks<'a>,
) -> Result<(), Indistinct> {
    if let (None, Some(after)) = (before, after) {
        marks.added.below.reserve(after.len());
    }
    let mut field = |name: &'a String, before, after| {
        let mut child = Marks::default();
        walk(shape.field_or_free(name), before, after, &mut child)?;
        if !child.is_empty() {
            marks.put(&PathElement::Field(name.into()), child);
        }
        Ok(())
    };
    for (name, was) in before.into_iter().flatten() {
        field(name, Some(was), after.and_then(|after| after.get(name)))?;
    }
    for (name, is) in after.into_iter().flatten() {
        if !before.is_some_and(|before| before.contains_key(name)) {
            field(name, None, Some(is))?;
        }
    }
    Ok(())
}

fn walk_items<'a>(
    shape: Shape<'a>,
    before: &'a [Value],
    after: &'a [Value],
    marks: &mut Marks<'a>,
) -> Result<(), Indistinct> {
    if before == after {
        return Ok(());
    }
    let told_apart = |item| shape.item_element(item).map_err(|_| Indistinct);
    let mut items = Vec::with_capacity(before.len() + after.len());
    for (is_after, list) in [(false, before), (true, after)] {
        for item in list {
            items.push((told_apart(item)?, is_after, item));
        }
    }
    items.sort_by(|left, right| left.0.cmp(&right.0));
    for equal in items.chunk_by(|left, right| left.0 == right.0) {
        let [was, is] = [false, true]
            .map(|side| equal.iter().filter(|item| item.1 == side).map(|item| item.2).collect::<Vec<_>>());
        let mut child = Marks::default();
        walk_equal_items(shape.items(), &was, &is, &mut child)?;
        if !child.is_empty() {
            marks.put(&equal[0].0, child);
        }
    }
    Ok(())
}

/// Compares items with equal keys: one on each side, or otherwise all of them as a whole.
fn walk_equal_items<'a>(
    shape: Shape<'a>,
    before: &[&'a Value],
    after: &[&'a Value],
    marks: &mut Marks<'a>,
) -> Result<(), Indistinct> {
    match (before, after) {
        ([] | [_], [] | [_]) => walk(shape, before.first().copied(), after.first().copied(), marks)?,
        ([_, _, ..], [_, _, ..]) => {
            let unchanged = before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| same(before, after));
            marks.modified.member |= !unchanged;
        }
        (_, after) if after.len() < 2 => {
            if let [only] = after {
                walk(shape, None, Some(only), marks)?;
            }
            marks.removed.member = true;
        }
        (before, _) => {
            if let [only] = before {
                walk(shape, Some(only), None, marks)?;
            }
            marks.added.member = true;
        }
    }
    Ok(())
}
