//! Fills a server without requests: whole objects with their status, one write each.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::access::User;
use super::call::Call;
use super::error::ApiError;
use super::faults::Interference;
use super::object;
use super::request::{Params, Target, Verb};
use super::resource::Resource;
use super::state::ServerState;
use super::store::{Key, NAMESPACES};
use super::verbs;

/// An object cannot be loaded.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind} {namespace}/{name}: {message}")]
pub struct LoadError {
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The text of the server.
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

/// Creates an object unless it exists.
pub(super) fn ensure(state: &Arc<ServerState>, object: &Value) -> Result<(), LoadError> {
    let (resource, namespace) = place(state, object)?;
    let key = Key::new(&namespace, object::name(object));
    let is_there = || state.store.get(&resource.storage, &key).is_some();
    if is_there() {
        return Ok(());
    }
    unless_there(load(state, object), is_there)
}

/// Accepts a failed load if the object exists now: another thread may have created it meanwhile.
fn unless_there(loaded: Result<Value, LoadError>, is_there: impl Fn() -> bool) -> Result<(), LoadError> {
    match loaded {
        Err(error) if !is_there() => Err(error),
        _ => Ok(()),
    }
}

/// The kind of an object, and the namespace in which it is created.
fn place(state: &ServerState, object: &Value) -> Result<(Arc<Resource>, String), LoadError> {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let registry = state.registry();
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

/// Creates an object with its status, and its namespace if that does not exist.
pub(super) fn load(state: &Arc<ServerState>, object: &Value) -> Result<Value, LoadError> {
    let refused = |error: ApiError| LoadError::new(object, error.message);
    let (resource, namespace) = place(state, object)?;
    ensure_namespace(state, &namespace)?;
    let call = call(state, &resource, &namespace);
    let stored = verbs::load(&call, object).map_err(refused)?;
    Ok(resource.view_value(&stored))
}

fn ensure_namespace(state: &Arc<ServerState>, namespace: &str) -> Result<(), LoadError> {
    let is_there = || state.store.get(NAMESPACES, &Key::new("", namespace)).is_some();
    if namespace.is_empty() || is_there() {
        return Ok(());
    }
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    unless_there(load(state, &object), is_there)
}

fn call(state: &Arc<ServerState>, resource: &Arc<Resource>, namespace: &str) -> Call {
    let namespace = Some(namespace.to_owned()).filter(|_| resource.namespaced);
    Call {
        state: Arc::clone(state),
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
