//! The decoders of Secrets and ConfigMaps: they keep only what the process needs (behaviour Y6).
//!
//! Other programs share the system namespace. Their Secrets may have a megabyte each, and no part of this process
//! reads them. Of such an object the cache keeps the metadata without annotations, so that a reader sees that the
//! object exists. The decoder skips the text of the data: it neither decodes nor copies it.
//!
//! Rule numbers refer to docs/behaviours.md.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use shared_cache::{DecodeError, decode_json, decode_text};

/// Name of the Secret in the system namespace that has the API keys of the users. The cache keeps its data, which is
/// a key per entry. Of all other Secrets and of ConfigMaps the cache keeps no data.
pub const KEY_STORE: &str = "e2b-key-store";

/// The fields that are kept of an object whose data nobody needs. serde skips the text of all others.
#[derive(Deserialize)]
struct Kept {
    metadata: ObjectMeta,
    #[serde(rename = "type")]
    type_: Option<String>,
    immutable: Option<bool>,
}

impl Kept {
    fn decode(json: &str) -> Result<Self, DecodeError> {
        let mut kept: Self = decode_text(json)?;
        kept.metadata.managed_fields = None;
        kept.metadata.annotations = None;
        match kept.metadata.name.as_deref() {
            None | Some("") => {
                Err(DecodeError { field: "metadata.name".into(), problem: "is missing".into() })
            }
            Some(_) => Ok(kept),
        }
    }
}

/// Decodes a Secret, without its data unless the Secret is [`KEY_STORE`].
pub(super) fn decode_secret(json: &str) -> Result<Secret, DecodeError> {
    let Kept { metadata, type_, immutable } = Kept::decode(json)?;
    if metadata.name.as_deref() == Some(KEY_STORE) {
        return decode_json(json);
    }
    Ok(Secret { metadata, type_, immutable, ..Secret::default() })
}

/// Decodes a `ConfigMap` without its data.
pub(super) fn decode_config_map(json: &str) -> Result<ConfigMap, DecodeError> {
    let Kept { metadata, immutable, .. } = Kept::decode(json)?;
    Ok(ConfigMap { metadata, immutable, ..ConfigMap::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str) -> Value {
        json!({
            "data": {"k": "dg=="}, "stringData": {"s": "t"}, "binaryData": {"b": "dg=="}, "immutable": true,
            "metadata": {
                "name": name, "namespace": "sys", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"},
                "annotations": {"large": "text"}, "managedFields": [{"manager": "m"}]
            },
            "type": "Opaque"
        })
    }

    #[test]
    fn y6_the_key_store_keeps_its_data_and_other_secrets_do_not() {
        let other = decode_secret(&object("other").to_string()).unwrap();
        let kept = json!({
            "apiVersion": "v1", "kind": "Secret", "immutable": true, "type": "Opaque",
            "metadata": {
                "name": "other", "namespace": "sys", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}
            },
        });
        assert_eq!(serde_json::to_value(other).unwrap(), kept);
        let store = decode_secret(&object(KEY_STORE).to_string()).unwrap();
        assert_eq!(store.data.unwrap()["k"].0, b"v");
    }

    #[test]
    fn y6_config_maps_keep_no_data() {
        let map = decode_config_map(&object("map").to_string()).unwrap();
        assert_eq!((map.data, map.binary_data, map.immutable), (None, None, Some(true)));
        assert_eq!(map.metadata.resource_version.as_deref(), Some("7"));
    }

    #[test]
    fn y6_data_that_is_not_needed_cannot_hide_its_object() {
        let mut odd = object("odd");
        odd["data"] = json!([5]);
        assert_eq!(decode_secret(&odd.to_string()).unwrap().metadata.name.as_deref(), Some("odd"));
        assert!(decode_secret(r#"{"metadata": {}}"#).is_err());
        assert!(decode_config_map("5").is_err());
    }
}
