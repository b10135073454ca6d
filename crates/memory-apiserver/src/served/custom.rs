//! Makes resources of a definition.

use std::sync::Arc;

use serde_json::Value;

use crate::crds::{stored_version, text, versions};
use crate::object;
use crate::resource::{Custom, Names, Nature, Origin, Resource, Retired, ScalePaths, StoredForm};
use crate::schema::CustomKind;
use crate::selector::SelectableFields;
use crate::table::Printer;

/// The resources of a definition: one for each version that is served.
pub(super) fn resources(definition: &Value) -> Vec<Resource> {
    let spec = &definition["spec"];
    let Some(stored) = stored_version(spec).and_then(stored_form) else { return Vec::new() };
    let served = versions(spec).iter().filter(|version| version["served"] == true);
    served.filter_map(|version| resource(definition, version, &stored)).collect()
}

fn stored_form(version: &Value) -> Option<StoredForm> {
    let kind = custom_kind(version)?;
    Some(StoredForm { version: text(&version["name"]).to_owned(), schema: kind.schema })
}

/// `None` for an invalid schema, which only [`ApiServer::force`](crate::ApiServer::force) can store.
fn custom_kind(version: &Value) -> Option<CustomKind> {
    let has_status = version["subresources"]["status"].is_object();
    CustomKind::new(&version["schema"]["openAPIV3Schema"], "", has_status).ok()
}

fn resource(definition: &Value, version: &Value, stored: &StoredForm) -> Option<Resource> {
    let spec = &definition["spec"];
    let CustomKind { schema, validator } = custom_kind(version)?;
    let namespaced = spec["scope"] == "Namespaced";
    let subresources = &version["subresources"];
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    let is_stored = version["name"] == stored.version.as_str();
    Some(Resource {
        group: text(&spec["group"]).to_owned(),
        version: text(&version["name"]).to_owned(),
        names: names(&definition["status"]["acceptedNames"]),
        namespaced,
        storage: object::name(definition).into(),
        schema: if is_stored { Arc::clone(&stored.schema) } else { schema },
        printer: Printer::custom(version),
        status: subresources["status"].is_object(),
        scale: subresources["scale"].as_object().map(|scale| ScalePaths {
            spec_replicas: path(&scale["specReplicasPath"]),
            status_replicas: path(&scale["statusReplicasPath"]),
            selector: scale.get("labelSelectorPath").map(path).filter(|path| !path.is_empty()),
        }),
        selectable_fields: SelectableFields::custom(namespaced, fields.map(|field| text(&field["jsonPath"]))),
        nature: Nature::Custom(Box::new(Custom {
            stored: stored.clone(),
            origin: Origin::of(definition),
            form: version["schema"]["openAPIV3Schema"].clone(),
            validator,
        })),
        retired: Retired::new(None),
    })
}

fn names(accepted: &Value) -> Names {
    let list = |field: &str| {
        accepted[field].as_array().into_iter().flatten().map(|name| text(name).to_owned()).collect()
    };
    Names {
        kind: text(&accepted["kind"]).to_owned(),
        list_kind: text(&accepted["listKind"]).to_owned(),
        plural: text(&accepted["plural"]).to_owned(),
        singular: text(&accepted["singular"]).to_owned(),
        short_names: list("shortNames"),
        categories: list("categories"),
    }
}

/// A path without its leading dot.
fn path(value: &Value) -> String {
    text(value).trim_start_matches('.').to_owned()
}
