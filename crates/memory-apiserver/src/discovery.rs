//! Discovery: health, version, groups and kinds, which clients read before anything else.

use axum::body::Body;
use http::{Method, Response, StatusCode, request};
use serde_json::{Value, json};

use super::access::{self, User};
use super::answer;
use super::error::ApiError;
use super::registry::Registry;
use super::request::Path;
use super::resource::{Resource, api_version};
use super::{openapi, openapi_v2};

/// The version of Kubernetes that this server behaves like.
const VERSION: (&str, &str, &str) = ("1", "35", "v1.35.0");

/// Verbs of a subresource.
const SUBRESOURCE_VERBS: [&str; 3] = ["get", "patch", "update"];

/// Answers a request for a path that is not of a resource.
pub(crate) fn answer(
    registry: &Registry,
    user: &User,
    path: &Path,
    parts: &request::Parts,
) -> Result<Response<Body>, ApiError> {
    let raw = parts.uri.path();
    if !access::may_read_path(user, raw.trim_end_matches('/')) {
        let verb = parts.method.as_str().to_lowercase();
        return Err(ApiError::forbidden_path(&format!("User {:?} cannot {verb} path {raw:?}", user.name)));
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let found = match path {
        Path::Version { group, version } => {
            let Some(list) = resource_list(registry, group, version) else {
                return unknown(registry, group);
            };
            if !reads && registry.is_own(group) {
                return Err(ApiError::method_not_allowed());
            }
            Some(list)
        }
        Path::Group(name) => group(registry, name),
        Path::Other(path) if path.trim_end_matches('/') == "/openapi/v2" => {
            return Ok(openapi_v2::document(&parts.headers));
        }
        Path::Other(path) => return other(registry, path, reads),
        Path::Resource(_) => None,
    };
    Ok(found.as_ref().map_or_else(answer::not_served, answer::value))
}

/// The answer to an unknown path of a group. kube-apiserver answers in JSON only in its own groups.
pub(crate) fn unknown(registry: &Registry, group: &str) -> Result<Response<Body>, ApiError> {
    if registry.is_own(group) { Err(ApiError::no_such_resource()) } else { Ok(answer::not_served()) }
}

fn other(registry: &Registry, path: &str, reads: bool) -> Result<Response<Body>, ApiError> {
    let path = path.trim_end_matches('/');
    Ok(match path {
        "/healthz" | "/livez" | "/readyz" => answer::text(StatusCode::OK, "ok"),
        "/version" | "/api" if !reads => return Err(ApiError::method_not_allowed()),
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
        path => {
            if let Some(rest) = path.strip_prefix("/openapi/v3") {
                return Ok(openapi::document(registry, rest)
                    .map_or_else(answer::not_served, |document| answer::value(&document)));
            }
            if path.starts_with("/api/") {
                return unknown(registry, "");
            }
            let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next());
            return group.map_or_else(|| Ok(answer::not_served()), |group| unknown(registry, group));
        }
    })
}

/// Groups in a list have neither kind nor version.
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
    let verbs: Vec<_> = resource.verbs().iter().map(|verb| verb.as_str()).collect();
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
    if resource.resize().is_some() {
        add("resize", &names.kind);
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
