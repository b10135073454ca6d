//! Reads bodies in protobuf, which kubectl sends for some built-in kinds.
//!
//! A body is an envelope with the kind and the encoded object. Tables of fields convert the object to JSON, and the
//! request is then handled like one in JSON. Only the kinds that `kubectl create` and `kubectl auth` send have tables.
//! Answers are always in JSON: clients that send protobuf accept it.
//!
//! The crate `k8s-pb` has all messages of Kubernetes, but it can't convert them to JSON.

mod message;
mod tables;
#[cfg(test)]
mod tests;
mod wire;

use serde_json::{Value, json};

use self::message::{Field, Message};
use self::wire::{Fields, Malformed, Wire};

/// The media type.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The bytes that every body begins with.
const PREFIX: &[u8] = b"k8s\0";

/// The reason why a body is not read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refused {
    /// Objects of this kind are not read in protobuf.
    UnknownKind { api_version: String, kind: String },
    /// The body is no protobuf.
    Malformed(String),
}

impl From<Malformed> for Refused {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

const TYPE_META: Message = &[Field::text(1, "apiVersion"), Field::text(2, "kind")];

/// Reads a body as the JSON of its object.
///
/// # Errors
///
/// If the body is no object in protobuf, or one of a kind that is not read.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Refused> {
    let envelope = body.strip_prefix(PREFIX).ok_or_else(|| {
        let why = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]";
        Refused::Malformed(why.to_owned())
    })?;
    let (mut type_meta, mut raw) = (&[][..], &[][..]);
    for field in Fields::of(envelope) {
        match field? {
            (1, Wire::Bytes(bytes)) => type_meta = bytes,
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let type_meta = message::read(TYPE_META, type_meta)?;
    let text = |field: &str| type_meta.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(known) = tables::message(&api_version, &kind) else {
        return Err(Refused::UnknownKind { api_version, kind });
    };
    let mut object = message::read(known, raw)?;
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}
