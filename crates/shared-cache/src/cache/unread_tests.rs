//! Tests writes of an object of which the cache could not read everything (behaviour V9).

use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::kind::{CachedResource, DecodeError, decode_partially};
use crate::scripted_server::server;

/// A kind that is decoded as far as possible.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize)]
#[kube(group = "test", version = "v1", kind = "Gadget", namespaced, schema = "disabled")]
struct GadgetSpec {
    parts: Vec<String>,
    size: Option<i64>,
    #[serde(skip)]
    unread: Vec<DecodeError>,
}

impl CachedResource for Gadget {
    fn decode(json: &str) -> Result<Self, DecodeError> {
        let (mut gadget, unread) = decode_partially::<Self>(json)?;
        gadget.spec.unread = unread;
        Ok(gadget)
    }

    fn unread_fields(&self) -> &[DecodeError] {
        &self.spec.unread
    }
}

#[tokio::test(start_paused = true)]
async fn v9_a_patch_never_writes_a_list_without_the_element_that_could_not_be_read() {
    let (client, mut server) = server();
    let cache = SharedCache::builder(client).cached_kind::<Gadget>(Watch::all()).build().unwrap();
    let start = tokio::spawn({
        let cache = cache.clone();
        async move { cache.start().await }
    });
    let gadget = json!({"metadata": {"namespace": "ns", "name": "a", "uid": "1", "resourceVersion": "5"},
        "spec": {"parts": ["wheel", {"name": "novel"}], "size": 1}});
    let _watch = server.list(std::slice::from_ref(&gadget), "7").await;
    start.await.unwrap().unwrap();
    let stored = cache.reader::<Gadget>().get("ns", "a").unwrap().unwrap();
    assert_eq!(stored.spec.parts, ["wheel"]);
    let refused = cache.patch(&stored, |gadget| gadget.spec.parts.push("bell".into())).await.unwrap_err();
    let PatchError::Unread { unread, .. } = &refused else { panic!("{refused}") };
    assert_eq!(unread.field, "spec.parts[1]");
    assert!(
        refused.to_string().contains("would overwrite what could not be read: spec.parts[1]"),
        "{refused}"
    );
    assert!(server.try_next().is_none(), "nothing was sent");

    let other = tokio::spawn(cache.patch(&stored, |gadget| gadget.spec.size = Some(2)).into_future());
    let exchange = server.next().await;
    assert_eq!(exchange.path, "/apis/test/v1/namespaces/ns/gadgets/a");
    exchange.json(&gadget);
    assert!(other.await.unwrap().is_ok(), "another field can be written");
}
