//! The columns and cells of persistent volumes and of the claims to them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::built_in::{age_column, created, list, text, text_or, wide};
use super::columns::Column;
use crate::object::{self, is_deleting};

const UNSET: &str = "<unset>";

pub(super) fn volume_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Capacity", "How much can be stored."),
        Column::text("Access Modes", "In which ways it can be mounted."),
        Column::text("Reclaim Policy", "What happens to it once it is released."),
        Column::text("Status", "Whether it is bound."),
        Column::text("Claim", "The claim that it is bound to."),
        Column::text("StorageClass", "Its storage class."),
        attributes_class(),
        Column::text("Reason", "Why it has this status."),
        age_column(),
        mode(),
    ]
}

pub(super) fn volume(volume: &Value, now: Timestamp) -> Vec<Value> {
    let claim = volume["spec"]["claimRef"].as_object().map(|_| {
        let claim = &volume["spec"]["claimRef"];
        format!("{}/{}", text(claim, "/namespace"), text(claim, "/name"))
    });
    vec![
        json!(object::name(volume)),
        capacity(volume.pointer("/spec/capacity/storage")),
        access_modes(volume, "/spec/accessModes"),
        json!(text(volume, "/spec/persistentVolumeReclaimPolicy")),
        phase(volume),
        json!(claim.unwrap_or_default()),
        class(volume),
        json!(text_or(volume, "/spec/volumeAttributesClassName", UNSET)),
        json!(text(volume, "/status/reason")),
        created(volume, now),
        json!(text_or(volume, "/spec/volumeMode", UNSET)),
    ]
}

pub(super) fn claim_columns() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Status", "Whether it is bound."),
        Column::text("Volume", "The volume that it is bound to."),
        Column::text("Capacity", "How much can be stored."),
        Column::text("Access Modes", "In which ways the volume can be mounted."),
        Column::text("StorageClass", "Its storage class."),
        attributes_class(),
        age_column(),
        mode(),
    ]
}

pub(super) fn claim(claim: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(claim, "/spec/volumeName").is_empty();
    let if_bound = |cell: Value| if bound { cell } else { json!("") };
    vec![
        json!(object::name(claim)),
        phase(claim),
        json!(text(claim, "/spec/volumeName")),
        if_bound(capacity(claim.pointer("/status/capacity/storage"))),
        if_bound(access_modes(claim, "/status/accessModes")),
        class(claim),
        json!(text_or(claim, "/spec/volumeAttributesClassName", UNSET)),
        created(claim, now),
        json!(text_or(claim, "/spec/volumeMode", UNSET)),
    ]
}

fn attributes_class() -> Column {
    Column::text("VolumeAttributesClass", "Its class of attributes.")
}

fn mode() -> Column {
    wide("VolumeMode", "Whether it is a file system or a device.")
}

fn phase(object: &Value) -> Value {
    json!(if is_deleting(object) { "Terminating" } else { text(object, "/status/phase") })
}

fn class(object: &Value) -> Value {
    let annotation = &object["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"];
    json!(annotation.as_str().unwrap_or_else(|| text(object, "/spec/storageClassName")))
}

fn capacity(quantity: Option<&Value>) -> Value {
    match quantity {
        Some(Value::String(text)) => json!(text),
        Some(number @ Value::Number(_)) => json!(number.to_string()),
        _ => json!("0"),
    }
}

fn access_modes(object: &Value, pointer: &str) -> Value {
    let modes = list(object, pointer);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let present = short.into_iter().filter(|(mode, _)| modes.iter().any(|it| it == mode));
    json!(present.map(|(_, short)| short).collect::<Vec<_>>().join(","))
}
