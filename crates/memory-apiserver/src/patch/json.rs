//! JSON patch (RFC 6902), with the extensions of the library that kube-apiserver uses.
//!
//! That library lets `replace` set an absent field, treats an absent field as null, counts negative indexes from the
//! end of a list, and ignores text before the first slash of a path. Clients rely on the first, which a strict library
//! refuses, so no library is used here.

use serde_json::{Map, Value};

use super::values::{MAX_DEPTH, REFUSED, is_deeper_than, too_deep};
use crate::error::ApiError;
use crate::go_format::json_type;
use crate::object;

const MAX_OPERATIONS: usize = 10_000;

/// Maximum bytes of JSON that the `copy` operations of a patch may add.
pub(super) const MAX_COPIED: usize = 3 * 1024 * 1024;

static NULL: Value = Value::Null;

/// The document after all operations, which are done in order.
pub(super) fn apply(live: &Value, body: &[u8]) -> Result<Value, ApiError> {
    let operations = read(body)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(ApiError::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let mut patching = Patching { document: live.clone(), copied: 0 };
    for operation in operations {
        patching.carry_out(operation)?;
    }
    Ok(patching.document)
}

/// One operation. An absent value is null.
#[derive(Default)]
struct Operation {
    op: Option<String>,
    path: Option<String>,
    from: Option<String>,
    value: Value,
}

fn read(body: &[u8]) -> Result<Vec<Operation>, ApiError> {
    let operations = match serde_json::from_slice(body) {
        Ok(Value::Array(operations)) => operations,
        Ok(Value::Null) => Vec::new(),
        Ok(other) => return Err(undecodable(&other, "value of type []handlers.jsonPatchOp")),
        Err(error) => return Err(ApiError::bad_request(format!("error decoding patch: {error}"))),
    };
    operations.into_iter().map(Operation::from_json).collect()
}

fn undecodable(found: &Value, wanted: &str) -> ApiError {
    let found = json_type(found);
    ApiError::bad_request(format!("error decoding patch: json: cannot unmarshal {found} into Go {wanted}"))
}

impl Operation {
    fn from_json(json: Value) -> Result<Self, ApiError> {
        let mut fields = match json {
            Value::Object(fields) => fields,
            Value::Null => return Ok(Self::default()),
            other => return Err(undecodable(&other, "value of type handlers.jsonPatchOp")),
        };
        Ok(Self {
            op: take_text(&mut fields, "op")?,
            path: take_text(&mut fields, "path")?,
            from: take_text(&mut fields, "from")?,
            value: fields.remove("value").unwrap_or_default(),
        })
    }
}

fn take_text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(undecodable(&other, &format!("struct field jsonPatchOp.{name} of type string"))),
    }
}

fn refused() -> ApiError {
    ApiError::unprocessable(REFUSED)
}

struct Patching {
    document: Value,
    copied: usize,
}

impl Patching {
    fn carry_out(&mut self, operation: Operation) -> Result<(), ApiError> {
        let Operation { op, path, from, value } = operation;
        let path = path.ok_or_else(refused)?;
        let from = || from.ok_or_else(refused);
        match op.as_deref() {
            Some("add") => self.add(&path, value),
            Some("remove") => self.remove(&path).map(drop),
            Some("replace") => self.replace(&path, value),
            Some("test") => self.test(&path, &value),
            Some("move") => {
                let moved = self.remove(&from()?)?;
                self.add(&path, moved)
            }
            Some("copy") => self.copy(&from()?, &path),
            _ => Err(refused()),
        }
    }

    fn add(&mut self, path: &str, value: Value) -> Result<(), ApiError> {
        check_depth(path, &value)?;
        let Place { container, key } = self.place(path)?;
        match container {
            Container::Object(fields) => {
                fields.insert(key, value);
            }
            Container::List(items) if key == "-" => items.push(value),
            Container::List(items) => {
                let at = index(&key, items.len() + 1).ok_or_else(refused)?;
                items.insert(at, value);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<Value, ApiError> {
        let Place { container, key } = self.place(path)?;
        let removed = match container {
            Container::Object(fields) => fields.remove(&key),
            Container::List(items) => index(&key, items.len()).map(|at| items.remove(at)),
        };
        removed.ok_or_else(refused)
    }

    fn replace(&mut self, path: &str, value: Value) -> Result<(), ApiError> {
        if path.is_empty() && (value.is_object() || value.is_array()) {
            self.document = value;
            return Ok(());
        }
        check_depth(path, &value)?;
        let Place { container, key } = self.place(path)?;
        match container {
            Container::Object(fields) => {
                fields.insert(key, value);
            }
            Container::List(items) => {
                let at = index(&key, items.len()).ok_or_else(refused)?;
                items[at] = value;
            }
        }
        Ok(())
    }

    fn test(&mut self, path: &str, expected: &Value) -> Result<(), ApiError> {
        let found = if path.is_empty() { &self.document } else { self.value_at(path)? };
        if found == expected { Ok(()) } else { Err(refused()) }
    }

    fn copy(&mut self, from: &str, path: &str) -> Result<(), ApiError> {
        let copy = self.value_at(from)?.clone();
        self.copied = self.copied.saturating_add(object::json_size(&copy));
        if self.copied > MAX_COPIED {
            return Err(refused());
        }
        self.add(path, copy)
    }

    /// The value at a path: null for an absent field, but an error for an absent item.
    fn value_at(&mut self, path: &str) -> Result<&Value, ApiError> {
        let Place { container, key } = self.place(path)?;
        match container {
            Container::Object(fields) => Ok(fields.get(&key).unwrap_or(&NULL)),
            Container::List(items) => index(&key, items.len()).map(|at| &items[at]).ok_or_else(refused),
        }
    }

    fn place(&mut self, path: &str) -> Result<Place<'_>, ApiError> {
        place(&mut self.document, path).ok_or_else(refused)
    }
}

/// The place that a path names: a key in this object or list.
struct Place<'d> {
    container: Container<'d>,
    key: String,
}

enum Container<'d> {
    Object(&'d mut Map<String, Value>),
    List(&'d mut Vec<Value>),
}

impl<'d> Container<'d> {
    fn of(value: &'d mut Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self::Object(fields)),
            Value::Array(items) => Some(Self::List(items)),
            _ => None,
        }
    }

    fn child(self, key: &str) -> Option<&'d mut Value> {
        match self {
            Self::Object(fields) => fields.get_mut(key),
            Self::List(items) => index(key, items.len()).map(|at| &mut items[at]),
        }
    }
}

fn place<'d>(document: &'d mut Value, path: &str) -> Option<Place<'d>> {
    let mut keys = keys(path);
    let mut key = keys.next()?;
    let mut container = Container::of(document)?;
    for next in keys {
        container = Container::of(container.child(&key)?)?;
        key = next;
    }
    Some(Place { container, key })
}

fn keys(path: &str) -> impl Iterator<Item = String> {
    let unescape = |key: &str| key.replace("~1", "/").replace("~0", "~");
    path.split('/').skip(1).map(unescape)
}

/// An index into a list of this length. A negative index counts from the end.
fn index(text: &str, length: usize) -> Option<usize> {
    let index: isize = text.parse().ok()?;
    let index =
        if index < 0 { length.checked_sub(index.unsigned_abs())? } else { usize::try_from(index).ok()? };
    (index < length).then_some(index)
}

fn check_depth(path: &str, value: &Value) -> Result<(), ApiError> {
    match MAX_DEPTH.checked_sub(path.matches('/').count()) {
        Some(levels) if !is_deeper_than(value, levels) => Ok(()),
        _ => Err(too_deep()),
    }
}
