//! What is served: the built-in kinds, and those that stored definitions ask for; and how a stored object looks in
//! a version other than the one it is stored in.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::builtin::{BUILTINS, Builtin, DEFINITIONS};
use super::crds;
use super::events;
use super::metadata::NameRule;
use super::resource::{Names, Nature, Registry, Resource, api_version};
use super::selector::SelectableFields;
use super::store::{Range, Store, Stored};
use super::table::Printer;

/// The built-in kinds, made when the first server of the process is.
static BUILTIN_RESOURCES: LazyLock<Vec<Arc<Resource>>> =
    LazyLock::new(|| BUILTINS.iter().map(|builtin| Arc::new(builtin_resource(builtin))).collect());

/// Everything that is to be served. What did not change since `before` is taken from there.
pub(crate) fn registry(store: &Store, before: &Registry) -> Registry {
    let definitions = store.list(DEFINITIONS, &Range::default(), None, 0);
    let definitions = definitions.map(|snapshot| snapshot.objects).unwrap_or_default();
    let custom = definitions.iter().flat_map(|stored| custom(&stored.value(), before));
    Registry::new(BUILTIN_RESOURCES.iter().cloned().chain(custom))
}

fn custom(definition: &Value, before: &Registry) -> Vec<Arc<Resource>> {
    if !crds::is_established(definition) {
        return Vec::new();
    }
    let origin = crds::Origin::of(definition);
    let known: Vec<_> = before.all().filter(|resource| resource.is_of(&origin)).cloned().collect();
    if known.is_empty() { crds::resources(definition).into_iter().map(Arc::new).collect() } else { known }
}

fn builtin_resource(builtin: &'static Builtin) -> Resource {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let names = Names {
        kind: builtin.kind.to_owned(),
        list_kind: format!("{}List", builtin.kind),
        plural: builtin.plural.to_owned(),
        singular: builtin.kind.to_lowercase(),
        short_names: texts(builtin.short_names),
        categories: texts(builtin.categories),
    };
    Resource {
        group: builtin.group.to_owned(),
        version: builtin.version.to_owned(),
        names,
        namespaced: builtin.namespaced,
        storage: builtin.storage.into(),
        schema: builtin.schema(),
        printer: Printer::built_in(builtin.group, builtin.kind),
        status: builtin.status,
        scale: None,
        selectable_fields: SelectableFields::built_in(builtin.group, builtin.kind),
        nature: Nature::Builtin(builtin),
    }
}

impl Resource {
    /// A stored object as this version shows it.
    pub(crate) fn view(&self, stored: &Stored) -> Bytes {
        match self.stored_as() {
            None => stored.text.clone(),
            Some(_) => self.view_value(stored).to_string().into(),
        }
    }

    /// As [`Self::view`], as a value.
    pub(crate) fn view_value(&self, stored: &Stored) -> Value {
        let mut object = stored.value();
        if self.stored_as().is_some() {
            match self.nature {
                Nature::Builtin(_) => object = events::to_events_group(object),
                Nature::Custom { .. } => object["apiVersion"] = json!(self.api_version()),
            }
        }
        object
    }

    /// An object of this version as it is to be stored.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        if let Some(version) = self.stored_as() {
            match self.nature {
                Nature::Builtin(_) => object = events::to_core_group(object),
                Nature::Custom { .. } => object["apiVersion"] = json!(version),
            }
        }
        object
    }

    /// The `apiVersion` that objects are stored in, if it is another one.
    fn stored_as(&self) -> Option<String> {
        match &self.nature {
            Nature::Builtin(builtin) => (builtin.group == "events.k8s.io").then(|| "v1".to_owned()),
            Nature::Custom { stored_version, .. } => {
                (*stored_version != self.version).then(|| api_version(&self.group, stored_version))
            }
        }
    }

    fn is_of(&self, origin: &crds::Origin) -> bool {
        matches!(&self.nature, Nature::Custom { origin: own, .. } if own == origin)
    }

    pub(crate) fn name_rule(&self) -> NameRule {
        match self.nature {
            Nature::Builtin(builtin) => builtin.name_rule,
            Nature::Custom { .. } => NameRule::Subdomain,
        }
    }
}
