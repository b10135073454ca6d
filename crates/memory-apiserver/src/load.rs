//! Filling a server without requests: whole objects, their status included, one write each.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::access::User;
use super::error::ApiError;
use super::faults::Interference;
use super::object;
use super::request::{Params, Target, Verb};
use super::resource::Resource;
use super::server::{Call, Server};
use super::store::{Key, NAMESPACES};
use super::verbs;

/// An object that could not be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind} {namespace}/{name}: {message}")]
pub struct LoadError {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What the server says.
    pub message: String,
}

impl LoadError {
    fn new(object: &Value, message: impl Into<String>) -> Self {
        Self {
            kind: object["kind"].as_str().unwrap_or_default().to_owned(),
            namespace: object::namespace(object).to_owned(),
            name: object::name(object).to_owned(),
            message: message.into(),
        }
    }
}

/// Creates an object unless it is there.
pub(super) fn ensure(server: &Arc<Server>, object: &Value) -> Result<(), LoadError> {
    let (resource, namespace) = place(server, object)?;
    let key = Key::new(&namespace, object::name(object));
    let is_there = || server.store.get(&resource.storage, &key).is_some();
    if is_there() {
        return Ok(());
    }
    unless_there(load(server, object), is_there)
}

/// Somebody else may have created it between the look and the write.
fn unless_there(loaded: Result<Value, LoadError>, is_there: impl Fn() -> bool) -> Result<(), LoadError> {
    match loaded {
        Err(error) if !is_there() => Err(error),
        _ => Ok(()),
    }
}

/// The kind of an object, and the namespace that it is to be created in.
fn place(server: &Server, object: &Value) -> Result<(Arc<Resource>, String), LoadError> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let registry = server.registry();
    let resource = registry.of(group, version).find(|resource| object["kind"] == resource.names.kind);
    let Some(resource) = resource else {
        return Err(LoadError::new(object, "its kind is not served; is its CRD loaded?"));
    };
    let namespace = match object::namespace(object) {
        "" if resource.namespaced => "default",
        namespace => namespace,
    };
    Ok((Arc::clone(resource), namespace.to_owned()))
}

/// Creates an object with its status, and its namespace if that is not there yet.
pub(super) fn load(server: &Arc<Server>, object: &Value) -> Result<Value, LoadError> {
    let refused = |error: ApiError| LoadError::new(object, error.message);
    let (resource, namespace) = place(server, object)?;
    ensure_namespace(server, &namespace)?;
    let call = call(server, &resource, &namespace);
    let stored = verbs::load(&call, object).map_err(refused)?;
    Ok(resource.view_value(&stored))
}

fn ensure_namespace(server: &Arc<Server>, namespace: &str) -> Result<(), LoadError> {
    let is_there = || server.store.get(NAMESPACES, &Key::new("", namespace)).is_some();
    if namespace.is_empty() || is_there() {
        return Ok(());
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    unless_there(load(server, &object), is_there)
}

fn call(server: &Arc<Server>, resource: &Arc<Resource>, namespace: &str) -> Call {
    let namespace = Some(namespace.to_owned()).filter(|_| resource.namespaced);
    Call {
        server: Arc::clone(server),
        resource: Arc::clone(resource),
        verb: Verb::Create,
        target: Target {
            group: resource.group.clone(),
            version: resource.version.clone(),
            plural: resource.names.plural.clone(),
            namespace,
            ..Target::default()
        },
        params: Params::default(),
        headers: HeaderMap::new(),
        user: User::admin(),
        body: Bytes::new(),
        interference: Interference::default(),
    }
}
