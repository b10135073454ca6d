//! What clients ask before anything else: is it up, which version, which groups and kinds.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Response, StatusCode, request};
use serde_json::{Value, json};

use super::access::{self, User};
use super::answer;
use super::error::ApiError;
use super::openapi;
use super::request::Path;
use super::resource::{Registry, Resource, api_version};
use super::server::Server;

/// The version of Kubernetes that this server speaks like.
const VERSION: (&str, &str, &str) = ("1", "35", "v1.35.0");

/// Verbs of a collection and its objects, and of a subresource.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Answers a request for anything that is no resource.
pub(crate) fn answer(
    server: &Arc<Server>,
    user: &User,
    path: &Path,
    parts: &request::Parts,
) -> Result<Response<Body>, ApiError> {
    let raw = parts.uri.path();
    if !access::may_read_path(user, raw.trim_end_matches('/')) {
        let verb = parts.method.as_str().to_lowercase();
        return Err(ApiError::forbidden_path(&format!("User {:?} cannot {verb} path {raw:?}", user.name)));
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(answer::not_served());
    }
    let registry = server.registry();
    let found = match path {
        Path::Version { group, version } => resource_list(&registry, group, version),
        Path::Group(name) => group(&registry, name),
        Path::Other(path) => return Ok(other(&registry, path)),
        Path::Resource(_) => None,
    };
    Ok(found.as_ref().map_or_else(answer::not_served, answer::value))
}

fn other(registry: &Registry, path: &str) -> Response<Body> {
    match path.trim_end_matches('/') {
        "/healthz" | "/livez" | "/readyz" => answer::text(StatusCode::OK, "ok"),
        "/version" => answer::value(&version()),
        "/api" => answer::value(&json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        })),
        "/apis" => {
            let groups = registry.groups();
            let groups: Vec<_> =
                groups.keys().filter_map(|name| group(registry, name)).map(strip_kind).collect();
            answer::value(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        path => match path.strip_prefix("/openapi/v3") {
            Some(rest) => openapi::document(registry, rest)
                .map_or_else(answer::not_served, |document| answer::value(&document)),
            None => answer::not_served(),
        },
    }
}

/// Groups inside of a list do not say what they are.
fn strip_kind(mut group: Value) -> Value {
    if let Some(fields) = group.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    group
}

fn version() -> Value {
    let (major, minor, git_version) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}

fn group(registry: &Registry, name: &str) -> Option<Value> {
    let groups = registry.groups();
    let versions = groups.get(name)?;
    let entry = |version: &&str| json!({"groupVersion": api_version(name, version), "version": version});
    let preferred = versions.first().map(entry);
    let versions: Vec<_> = versions.iter().map(entry).collect();
    Some(json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": preferred,
    }))
}

fn resource_list(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let resources: Vec<Value> = registry.of(group, version).flat_map(|resource| entries(resource)).collect();
    if resources.is_empty() {
        return None;
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version(group, version),
        "resources": resources,
    }))
}

/// A kind and its subresources.
fn entries(resource: &Resource) -> Vec<Value> {
    let names = &resource.names;
    let creates_only = names.kind == "SelfSubjectAccessReview";
    let verbs: &[&str] = if creates_only { &["create"] } else { &VERBS };
    let mut entry = json!({
        "name": names.plural, "singularName": names.singular, "namespaced": resource.namespaced, "kind": names.kind,
        "verbs": verbs,
    });
    if !names.short_names.is_empty() {
        entry["shortNames"] = json!(names.short_names);
    }
    if !names.categories.is_empty() {
        entry["categories"] = json!(names.categories);
    }
    let mut entries = vec![entry];
    let mut add = |name: &str, kind: &str| {
        entries.push(json!({
            "name": format!("{}/{name}", names.plural), "singularName": "", "namespaced": resource.namespaced,
            "kind": kind, "verbs": SUBRESOURCE_VERBS,
        }));
    };
    if resource.status {
        add("status", &names.kind);
    }
    if resource.scale.is_some() {
        add("scale", "Scale");
        if let Some(scale) = entries.last_mut() {
            scale["group"] = json!("autoscaling");
            scale["version"] = json!("v1");
        }
    }
    entries
}
