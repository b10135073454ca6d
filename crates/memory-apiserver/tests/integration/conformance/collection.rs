//! [`Collection`]: the objects of one kind in one place, as paths and JSON.

use http::Method;
use serde_json::{Value, json};

use super::answer::Answer;
use super::server::Server;
use super::watching::Watch;

/// The media types of the patches.
pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(super) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// The objects of a kind under a path. Names may be followed by a subresource and by a query: `a/status?dryRun=All`.
pub(super) struct Collection {
    pub(super) server: Server,
    pub(super) path: String,
    api_version: String,
    kind: String,
}

impl Collection {
    pub(super) fn new(server: Server, path: &str, api_version: &str, kind: &str) -> Self {
        Self { server, path: path.to_owned(), api_version: api_version.to_owned(), kind: kind.to_owned() }
    }

    /// An object of this kind: `rest` with `apiVersion`, `kind` and, unless empty, the name.
    pub(super) fn object(&self, name: &str, mut rest: Value) -> Value {
        rest["apiVersion"] = json!(self.api_version);
        rest["kind"] = json!(self.kind);
        if !name.is_empty() {
            rest["metadata"]["name"] = json!(name);
        }
        rest
    }

    /// The path of an object.
    pub(super) fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Sends JSON to the path of the collection, followed by `rest`.
    pub(super) async fn send(&self, method: Method, rest: &str, content_type: &str, body: &Value) -> Answer {
        let path = format!("{}{rest}", self.path);
        self.server.http(method, &path, &[("content-type", content_type)], body.to_string()).await
    }

    /// Creates an object; `apiVersion` and `kind` are added.
    pub(super) async fn create(&self, object: Value) -> Answer {
        self.create_with("", object).await
    }

    /// Creates an object, with a query.
    pub(super) async fn create_with(&self, query: &str, object: Value) -> Answer {
        self.send(Method::POST, query, "application/json", &self.object("", object)).await
    }

    /// Creates an object of a name and `rest`, and expects success.
    pub(super) async fn made(&self, name: &str, rest: Value) -> Value {
        self.create(self.object(name, rest)).await.created()
    }

    pub(super) async fn get(&self, name: &str) -> Answer {
        self.server.get(&self.path_of(name)).await
    }

    /// Replaces an object; `apiVersion` and `kind` are added.
    pub(super) async fn put(&self, name: &str, object: Value) -> Answer {
        self.send(Method::PUT, &format!("/{name}"), "application/json", &self.object("", object)).await
    }

    pub(super) async fn patch(&self, name: &str, media_type: &str, patch: &Value) -> Answer {
        self.send(Method::PATCH, &format!("/{name}"), media_type, patch).await
    }

    /// Sends a merge patch (RFC 7386).
    pub(super) async fn merge(&self, name: &str, patch: Value) -> Answer {
        self.patch(name, MERGE_PATCH, &patch).await
    }

    pub(super) async fn delete(&self, name: &str) -> Answer {
        self.server.http(Method::DELETE, &self.path_of(name), &[], "").await
    }

    /// Deletes with options.
    pub(super) async fn delete_with(&self, name: &str, options: Value) -> Answer {
        self.send(Method::DELETE, &format!("/{name}"), "application/json", &options).await
    }

    /// Lists, with a query that begins with `?` or is empty.
    pub(super) async fn list(&self, query: &str) -> Answer {
        self.server.get(&format!("{}{query}", self.path)).await
    }

    /// The names of the objects that a list with this query has.
    pub(super) async fn names(&self, query: &str) -> Vec<String> {
        names(&self.list(query).await.ok())
    }

    /// Begins to watch, with a query that begins with `&` or is empty.
    pub(super) async fn watch(&self, query: &str) -> Watch {
        self.server.watch(&format!("{}?watch=true{query}", self.path), &[]).await
    }
}

/// The names of the items of a list.
pub(super) fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}
