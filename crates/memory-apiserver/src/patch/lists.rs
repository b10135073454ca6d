//! Merges the lists of a strategic merge patch.
//!
//! Objects are identified by the merge key of the schema, scalars by their values. In the result, items of the patch
//! have the order of the patch, and other items have their live order. The two are interleaved so that a live item that
//! came before an item of the patch still does.

use std::collections::{HashMap, HashSet};
use std::mem;

use serde_json::{Value, json};

use super::directives::{DIRECTIVE, Object, list_of_lists, new_value, unknown_directive, wrong_type};
use super::values::discard_nulls;
use crate::error::ApiError;
use crate::schema::Schema;

/// Merges a map of the patch into a live one.
type MergeMaps = fn(Object, Object, Option<&Schema>) -> Result<Object, ApiError>;

/// The rules of the schema for a list.
#[derive(Clone, Copy)]
pub(super) struct ListRule<'s> {
    merge_maps: MergeMaps,
    merged: bool,
    key: Option<&'s str>,
    items: Option<&'s Schema>,
}

impl<'s> ListRule<'s> {
    pub(super) fn of(list: Option<&'s Schema>, merge_maps: MergeMaps) -> Self {
        Self {
            merge_maps,
            merged: list.is_some_and(|list| list.merge_set || list.merge_key.is_some()),
            key: list.and_then(|list| list.merge_key.as_deref()),
            items: list.and_then(|list| list.items.as_deref()),
        }
    }
}

/// Merges a list of the patch into a live one, or removes its scalars from it.
pub(super) fn merge_lists(
    live: Vec<Value>,
    mut patch: Vec<Value>,
    rule: ListRule<'_>,
    deletes: bool,
) -> Result<Vec<Value>, ApiError> {
    if !rule.merged && !deletes {
        patch.iter_mut().for_each(discard_nulls);
        return Ok(patch);
    }
    if live.is_empty() && patch.is_empty() {
        return Ok(live);
    }
    match item_type(&live, &patch)? {
        ItemType::Object => merge_by_key(live, patch, rule),
        _ if deletes => {
            let unwanted: HashSet<_> = patch.into_iter().collect();
            Ok(live.into_iter().filter(|item| !unwanted.contains(item)).collect())
        }
        _ => {
            let (patch_order, live_order) = (Order::of(&patch, None), Order::of(&live, None));
            let mut seen = HashSet::new();
            let union = live.into_iter().chain(patch).filter(|item| seen.insert(item.clone()));
            Ok(in_order(union.collect(), &patch_order, &live_order, None))
        }
    }
}

/// Merges two lists, of which either may be absent, and sorts the result by the order that the patch requires.
/// `None` if both are absent.
pub(super) fn merge_lists_in_order(
    live: Option<Vec<Value>>,
    patch: Option<Vec<Value>>,
    order: &[Value],
    rule: ListRule<'_>,
) -> Result<Option<Vec<Value>>, ApiError> {
    if live.is_none() && patch.is_none() {
        return Ok(None);
    }
    let (lived, patched) = (live.as_deref().unwrap_or_default(), patch.as_deref().unwrap_or_default());
    check_order(patched, order, rule.key)?;
    item_type(lived, patched)?;
    let live_order = Order::of(lived, rule.key);
    let merged = match (live, patch) {
        (live, None) => live.unwrap_or_default(),
        (None, Some(patch)) => patch.into_iter().filter_map(new_value).collect(),
        (Some(live), Some(patch)) => merge_lists(live, patch, rule, false)?,
    };
    if let Some(key) = rule.key {
        if let Some((position, _)) = order.iter().enumerate().find(|(_, item)| !item.is_object()) {
            return Err(ApiError::unexpected(format!("value for key {position} is not a map")));
        }
        check_keys(order, key)?;
        check_keys(&merged, key)?;
    }
    Ok(Some(in_order(merged, &Order::of(order, rule.key), &live_order, rule.key)))
}

/// The types that Go distinguishes. All items of a merged list must have the same type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ItemType {
    Null,
    Bool,
    Whole,
    Fraction,
    Text,
    List,
    Object,
}

impl ItemType {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.is_i64() => Self::Whole,
            Value::Number(_) => Self::Fraction,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }
}

fn item_type(live: &[Value], patch: &[Value]) -> Result<ItemType, ApiError> {
    let mut types = live.iter().chain(patch).map(ItemType::of);
    match types.next() {
        None => Err(ApiError::unexpected("no elements in any of the given slices")),
        Some(ItemType::List) => Err(list_of_lists()),
        Some(first) if types.all(|other| other == first) => Ok(first),
        Some(_) => {
            let lists = json!([live, patch]);
            Err(ApiError::unexpected(format!("list element types are not identical: {lists}")))
        }
    }
}

fn merge_by_key(live: Vec<Value>, patch: Vec<Value>, rule: ListRule<'_>) -> Result<Vec<Value>, ApiError> {
    let Some(key) = rule.key else {
        return Err(ApiError::unexpected("cannot merge lists without merge key for struct"));
    };
    let (mut live, patch) = carry_out_directives(live, patch, key)?;
    let live_order = Order::of(&live, Some(key));
    let patch_order = Order::of(&patch, Some(key));
    let mut places: HashMap<Value, usize> = HashMap::new();
    for (place, item) in live.iter().enumerate() {
        places.entry(item[key].clone()).or_insert(place);
    }
    for mut item in patch {
        let place = *places.entry(item[key].clone()).or_insert(live.len());
        match (live.get_mut(place), item) {
            (Some(Value::Object(found)), Value::Object(item)) => {
                *found = (rule.merge_maps)(mem::take(found), item, rule.items)?;
            }
            (_, new) => {
                item = new;
                discard_nulls(&mut item);
                live.push(item);
            }
        }
    }
    check_keys(&live, key)?;
    Ok(in_order(live, &patch_order, &live_order, Some(key)))
}

/// Carries out directives. Returns the live items that are left, and the items of the patch without directives.
fn carry_out_directives(
    mut live: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), ApiError> {
    let (mut deleted, mut kept) = (HashSet::new(), Vec::new());
    let mut replaces = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            kept.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                deleted.insert(item.get(key).ok_or_else(|| no_merge_key(&item, key))?.clone());
            }
            Some("replace") => replaces = true,
            Some("merge") => {
                return Err(ApiError::unexpected("merging lists cannot yet be specified in the patch"));
            }
            _ => return Err(unknown_directive(directive, item.as_object().unwrap_or(&Object::new()))),
        }
    }
    check_keys(&kept, key)?;
    if replaces {
        kept.iter_mut().for_each(discard_nulls);
        return Ok((kept, Vec::new()));
    }
    live.retain(|item| item.get(key).is_none_or(|found| !deleted.contains(found)));
    Ok((live, kept))
}

fn check_keys(items: &[Value], key: &str) -> Result<(), ApiError> {
    match items.iter().find(|item| item.get(key).is_none()) {
        Some(item) => Err(no_merge_key(item, key)),
        None => Ok(()),
    }
}

fn no_merge_key(item: &Value, key: &str) -> ApiError {
    ApiError::unexpected(format!("map: {item} does not contain declared merge key: {key}"))
}

/// Checks that the items of the patch have the required order, and that the order names all of them.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<(), ApiError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let deletes = |item: &&Value| directive(item, key).is_some_and(|it| it == "delete");
    let mut items = patch.iter().filter(|item| !deletes(item)).peekable();
    let mut wanted = order.iter();
    while let Some(item) = items.peek() {
        if wanted.as_slice().is_empty() {
            let (patch, order) = (json!(patch), json!(order));
            return Err(ApiError::unexpected(format!(
                "The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n"
            )));
        }
        let found = directive(item, key).is_some() || {
            let next = wanted.next().map(|next| identity(next, key)).transpose()?;
            next == Some(identity(item, key)?)
        };
        if found {
            items.next();
        }
    }
    Ok(())
}

/// The directive of an item. Items of lists without a key have none.
fn directive<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    key.and_then(|_| item.get(DIRECTIVE))
}

/// The identity of an item: the value of its merge key, or the item itself.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Result<&'v Value, ApiError> {
    match key {
        None => Ok(item),
        Some(_) if !item.is_object() => Err(wrong_type("object", item)),
        Some(key) => item.get(key).ok_or_else(|| no_merge_key(item, key)),
    }
}

/// The position of each item of a list. Of equal items, the first counts.
struct Order(HashMap<Value, usize>);

impl Order {
    fn of(list: &[Value], key: Option<&str>) -> Self {
        let mut places = HashMap::new();
        for (place, item) in list.iter().enumerate() {
            places.entry(name(item, key).clone()).or_insert(place);
        }
        Self(places)
    }

    fn place(&self, item: &Value, key: Option<&str>) -> Option<usize> {
        self.0.get(name(item, key)).copied()
    }
}

/// As [`identity`], of an item that is known to have one.
fn name<'v>(item: &'v Value, key: Option<&str>) -> &'v Value {
    key.map_or(item, |key| &item[key])
}

fn in_order(items: Vec<Value>, patch: &Order, live: &Order, key: Option<&str>) -> Vec<Value> {
    let (mut named, mut others): (Vec<_>, Vec<_>) =
        items.into_iter().partition(|item| patch.place(item, key).is_some());
    named.sort_by_key(|item| patch.place(item, key));
    others.sort_by_key(|item| live.place(item, key).unwrap_or(usize::MAX));
    let mut ordered = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let place = live.place(&other, key);
        // An item of the patch comes first, unless the live list has both and the other item comes before it there.
        let comes_first = |named: &Value| match (place, live.place(named, key)) {
            (Some(other), Some(named)) => other > named,
            _ => true,
        };
        while let Some(next) = named.next_if(|next| comes_first(next)) {
            ordered.push(next);
        }
        ordered.push(other);
    }
    ordered.extend(named);
    ordered
}
