//! What is served: the built-in kinds, and those that stored definitions ask for; and how a stored object looks in
//! a version other than the one it is stored in.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde_json::{Value, json};

use super::builtin::{BUILTINS, Builtin};
use super::crds;
use super::events;
use super::metadata::NameRule;
use super::request::Verb;
use super::resource::{Names, Nature, Registry, Resource, StoredForm, api_version};
use super::schema::{self, Schema};
use super::selector::SelectableFields;
use super::store::{DEFINITIONS, Range, Store, Stored};
use super::table::Printer;

/// The built-in kinds, made when the first server of the process is.
static BUILTIN_RESOURCES: LazyLock<Vec<Arc<Resource>>> =
    LazyLock::new(|| BUILTINS.iter().map(|builtin| Arc::new(builtin_resource(builtin))).collect());

/// What can be done to custom kinds, in the order that kube-apiserver lists it in for them.
const CUSTOM_VERBS: [Verb; 8] = [
    Verb::Delete,
    Verb::DeleteCollection,
    Verb::Get,
    Verb::List,
    Verb::Patch,
    Verb::Create,
    Verb::Update,
    Verb::Watch,
];

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

/// The difference between what is stored and what is shown.
enum Conversion<'a> {
    None,
    /// Fields have other names.
    Events,
    /// Of a custom kind: the version is another one, or its schema was.
    Custom(&'a StoredForm),
}

/// Drops what a schema does not know. That it does is no news to anybody.
fn coerce(object: &mut Value, schema: &Schema) {
    schema::prune(object, schema);
}

impl Resource {
    /// A stored object as this version shows it.
    pub(crate) fn view(&self, stored: &Stored) -> Bytes {
        match self.conversion() {
            Conversion::None => stored.text.clone(),
            _ => self.view_value(stored).to_string().into(),
        }
    }

    /// As [`Self::view`], as a value.
    pub(crate) fn view_value(&self, stored: &Stored) -> Value {
        let mut object = stored.value();
        match self.conversion() {
            Conversion::None => {}
            Conversion::Events => object = events::to_events_group(object),
            Conversion::Custom(form) => {
                coerce(&mut object, &form.schema);
                schema::apply_defaults(&mut object, &form.schema);
                if form.version != self.version {
                    coerce(&mut object, &self.schema);
                }
                object["apiVersion"] = json!(self.api_version());
            }
        }
        object
    }

    /// An object of this version as it is to be stored.
    pub(crate) fn to_stored(&self, mut object: Value) -> Value {
        match self.conversion() {
            Conversion::None => {}
            Conversion::Events => object = events::to_core_group(object),
            Conversion::Custom(form) => {
                if form.version != self.version {
                    coerce(&mut object, &form.schema);
                    // What reads would fill in is filled in now, so that they need not look.
                    schema::apply_defaults(&mut object, &form.schema);
                }
                object["apiVersion"] = json!(api_version(&self.group, &form.version));
            }
        }
        object
    }

    /// How objects are stored, if not as they are shown.
    fn conversion(&self) -> Conversion<'_> {
        match &self.nature {
            Nature::Builtin(builtin) if builtin.group == "events.k8s.io" => Conversion::Events,
            // What is stored was made to the measure of this version, unless that has changed since.
            Nature::Custom(custom)
                if custom.stored.version != self.version || custom.origin.has_changed() =>
            {
                Conversion::Custom(&custom.stored)
            }
            _ => Conversion::None,
        }
    }

    fn is_of(&self, origin: &crds::Origin) -> bool {
        matches!(&self.nature, Nature::Custom(custom) if custom.origin == *origin)
    }

    /// Whether a finalizer has to begin with a domain, unless it is one that every server knows.
    pub(crate) fn wants_qualified_finalizers(&self) -> bool {
        !self.is_custom() && matches!(self.group.as_str(), "" | "rbac.authorization.k8s.io")
    }

    /// What can be done to the kind and its objects.
    pub(crate) fn verbs(&self) -> &'static [Verb] {
        match self.nature {
            Nature::Builtin(builtin) => builtin.verbs,
            Nature::Custom(_) => &CUSTOM_VERBS,
        }
    }

    pub(crate) fn name_rule(&self) -> NameRule {
        match self.nature {
            Nature::Builtin(builtin) => builtin.name_rule,
            Nature::Custom(_) => NameRule::Subdomain,
        }
    }
}
