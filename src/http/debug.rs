//! `/debug/cache`: what the cache holds, to be compared with what the API server holds.
//!
//! Keys, versions and index entries only, never the content of an object. Mounted only when enabled.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Serialize;
use tokio::sync::Semaphore;

/// What the cache holds of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DebugDump {
    /// Kind of the objects, such as `Sandbox`.
    pub kind: String,
    /// Version that the watch has come to.
    pub resource_version: String,
    /// One entry an object, in no certain order.
    pub items: Vec<DebugItem>,
}

/// What the cache holds of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DebugItem {
    /// Namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Version of the object that is held.
    pub resource_version: String,
    /// Keys under which the indexes hold it; indexes that do not are left out.
    pub indexes: BTreeMap<String, Vec<String>>,
}

/// Where the listings come from.
pub trait DebugSource: Send + Sync {
    /// Plural names of the kinds that are watched.
    fn plurals(&self) -> Vec<&'static str>;
    /// What is held of one kind; `None` when it is not watched. May take long on a large cache, so it is called on
    /// a thread where blocking is allowed.
    fn dump(&self, plural: &str) -> Option<DebugDump>;
}

type Source = Arc<dyn DebugSource>;

/// Listings made at once: each copies the names of a whole kind.
static LISTINGS: Semaphore = Semaphore::const_new(1);

pub(super) fn router(source: Source) -> Router {
    Router::new()
        .route("/debug/cache", get(list))
        .route("/debug/cache/{plural}", get(show))
        .with_state(source)
}

async fn list(State(source): State<Source>) -> Json<Vec<&'static str>> {
    Json(source.plurals())
}

async fn show(State(source): State<Source>, Path(plural): Path<String>) -> Response {
    // Never closed, so there is always a permit in the end.
    let _turn = LISTINGS.acquire().await;
    // A million objects take seconds to list and write; probes on the same threads must not wait for that.
    let listed = tokio::task::spawn_blocking(move || {
        let dump = source.dump(&plural);
        let unknown = || {
            let known = source.plurals().join(", ");
            let text = format!("nothing named {plural:?} is watched; there are: {known}\n");
            (StatusCode::NOT_FOUND, text).into_response()
        };
        dump.map_or_else(unknown, |dump| Json(dump).into_response())
    });
    match listed.await {
        Ok(response) => response,
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the listing failed: {error}\n")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::get, *};

    struct Fixed;

    impl DebugSource for Fixed {
        fn plurals(&self) -> Vec<&'static str> {
            vec!["sandboxes", "checkpoints"]
        }

        fn dump(&self, plural: &str) -> Option<DebugDump> {
            let item = DebugItem {
                namespace: "team-a".to_owned(),
                name: "one".to_owned(),
                uid: "u-1".to_owned(),
                resource_version: "7".to_owned(),
                indexes: BTreeMap::from([("user".to_owned(), vec!["ann".to_owned()])]),
            };
            (plural == "sandboxes").then(|| DebugDump {
                kind: "Sandbox".to_owned(),
                resource_version: "9".to_owned(),
                items: vec![item],
            })
        }
    }

    #[tokio::test]
    async fn kinds_and_their_objects_are_listed() {
        let app = router(Arc::new(Fixed));
        assert_eq!(
            get(&app, "/debug/cache").await,
            (StatusCode::OK, r#"["sandboxes","checkpoints"]"#.to_owned())
        );
        let (status, body) = get(&app, "/debug/cache/sandboxes").await;
        assert_eq!(status, StatusCode::OK);
        let expected = serde_json::json!({
            "kind": "Sandbox",
            "resourceVersion": "9",
            "items": [{
                "namespace": "team-a", "name": "one", "uid": "u-1", "resourceVersion": "7",
                "indexes": {"user": ["ann"]},
            }],
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
    }

    #[tokio::test]
    async fn an_unknown_kind_is_refused_naming_the_known() {
        let expected = "nothing named \"pods\" is watched; there are: sandboxes, checkpoints\n";
        assert_eq!(
            get(&router(Arc::new(Fixed)), "/debug/cache/pods").await,
            (StatusCode::NOT_FOUND, expected.to_owned())
        );
    }
}
