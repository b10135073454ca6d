//! `/debug/cache`: what the cache holds, for comparison with the API server.
//!
//! Keys, versions and index values only, never the content of an object. Served only if enabled.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use shared_cache::{CachedKind, CachedObject, SharedCache};
use tokio::sync::Semaphore;

use crate::resource_names::named_kinds;

/// What the cache holds of one kind.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dump {
    kind: String,
    /// The version that the watch has reached.
    resource_version: String,
    items: Vec<Item>,
}

/// What the cache holds of one object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    /// The values under which each index stores the object.
    indexes: BTreeMap<&'static str, Vec<String>>,
}

#[derive(Clone)]
struct Source {
    cache: SharedCache,
    /// One dump at a time: each copies the names of a whole kind.
    dumps: Arc<Semaphore>,
}

pub(super) fn router(cache: SharedCache) -> Router {
    let source = Source { cache, dumps: Arc::new(Semaphore::new(1)) };
    Router::new()
        .route("/debug/cache", get(list))
        .route("/debug/cache/{plural}", get(show))
        .with_state(source)
}

fn names(cache: &SharedCache) -> Vec<String> {
    named_kinds(cache).map(|(name, _)| name).collect()
}

async fn list(State(source): State<Source>) -> Json<Vec<String>> {
    Json(names(&source.cache))
}

async fn show(State(source): State<Source>, Path(plural): Path<String>) -> Response {
    let found = named_kinds(&source.cache).find(|(name, _)| *name == plural);
    let Some(kind) = found.map(|(_, kind)| Arc::clone(kind)) else {
        let known = names(&source.cache).join(", ");
        let text = format!("the cache has no kind {plural:?}; it has: {known}\n");
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    // The semaphore is never closed, so a permit comes.
    let _turn = source.dumps.acquire().await;
    // A million objects take seconds to copy and to write; probes on the same threads must not wait for that.
    match tokio::task::spawn_blocking(move || Json(dump(&*kind)).into_response()).await {
        Ok(response) => response,
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the dump failed: {error}\n")).into_response()
        }
    }
}

fn dump(kind: &dyn CachedKind) -> Dump {
    let item = |object: CachedObject| {
        let CachedObject { namespace, name, uid, resource_version, indexes, .. } = object;
        Item { namespace, name, uid, resource_version, indexes }
    };
    Dump {
        kind: kind.kind().into_owned(),
        resource_version: kind.version().to_string(),
        items: kind.dump().into_iter().map(item).collect(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use memory_apiserver::ApiServer;
    use serde_json::{Value, json};
    use shared_cache::Watch;

    use super::super::test_support::get;
    use super::*;

    async fn cache() -> (SharedCache, Value) {
        let server = ApiServer::new();
        let map = server
            .load(&json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": "team-a", "name": "one"}, "data": {"owner": "ann"},
            }))
            .unwrap();
        let cache = SharedCache::builder(server.client())
            .kind::<ConfigMap>(Watch::all())
            .index::<ConfigMap>("owner", |map, keys| {
                keys.extend(map.data.iter().flatten().map(|(_, v)| &**v));
            })
            .kind::<Secret>(Watch::all())
            .build()
            .unwrap();
        cache.start().await.unwrap();
        (cache, map)
    }

    #[tokio::test]
    async fn kinds_and_their_objects_are_listed_without_content() {
        let (cache, map) = cache().await;
        let app = router(cache);
        assert_eq!(get(&app, "/debug/cache").await.1, r#"["configmaps","secrets"]"#);
        let (status, body) = get(&app, "/debug/cache/configmaps").await;
        assert_eq!(status, StatusCode::OK);
        let metadata = &map["metadata"];
        let expected = json!({
            "kind": "ConfigMap",
            "resourceVersion": metadata["resourceVersion"],
            "items": [{
                "namespace": "team-a", "name": "one", "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"], "indexes": {"owner": ["ann"]},
            }],
        });
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn an_unknown_kind_is_rejected_with_the_names_of_the_known_ones() {
        let expected = "the cache has no kind \"pods\"; it has: configmaps, secrets\n";
        let answer = get(&router(cache().await.0), "/debug/cache/pods").await;
        assert_eq!(answer, (StatusCode::NOT_FOUND, expected.to_owned()));
    }
}
