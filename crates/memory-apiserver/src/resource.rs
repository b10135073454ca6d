//! [`Resource`]: one kind as it is served in one version.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::builtin::{Builtin, Resize};
use super::error::About;
use super::names::NameRule;
use super::object;
use super::request::Verb;
use super::schema::{Schema, Validator};
use super::selector::SelectableFields;
use super::table::Printer;

/// The verbs of custom kinds, in the order in which kube-apiserver lists them.
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

/// One kind in one version. Immutable: a changed definition makes a new one.
pub(crate) struct Resource {
    /// Empty for the core group.
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) names: Names,
    pub(crate) namespaced: bool,
    /// The collection of the store that holds the objects. Versions of a kind share it, as do the two groups of Events.
    pub(crate) storage: Arc<str>,
    pub(crate) schema: Arc<Schema>,
    pub(crate) printer: Printer,
    /// Whether the status is a subresource, so that other writes do not change it.
    pub(crate) status: bool,
    pub(crate) scale: Option<ScalePaths>,
    /// The fields that field selectors may name, as they are in stored objects.
    pub(crate) selectable_fields: SelectableFields,
    pub(crate) nature: Nature,
    /// See [`Resource::retire`].
    pub(crate) retired: Retired,
}

/// The names of a kind.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_field_names, reason = "`short_names` is what Kubernetes calls the field")]
pub(crate) struct Names {
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

/// The paths of the fields that the `scale` subresource shows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    pub(crate) selector: Option<String>,
}

/// The version in which objects of a custom kind are stored, and its schema.
#[derive(Clone, Debug)]
pub(crate) struct StoredForm {
    pub(crate) version: String,
    pub(crate) schema: Arc<Schema>,
}

/// The part of a custom kind that built-in kinds do not have.
pub(crate) struct Custom {
    pub(crate) stored: StoredForm,
    pub(crate) origin: Origin,
    /// The schema as it stands in the definition, for OpenAPI documents.
    pub(crate) form: Value,
    pub(crate) validator: Validator,
}

/// Where a kind comes from, and the rules that follow from it.
pub(crate) enum Nature {
    /// Defined by a CRD.
    Custom(Box<Custom>),
    /// Part of every API server, or declared when this one was built.
    Builtin(Box<Native>),
}

/// The part of a built-in kind that custom kinds do not have.
pub(crate) struct Native {
    pub(crate) rules: Builtin,
    /// A new object before any field is set: nobody owns its fields.
    pub(crate) blank: Value,
}

/// The state of a definition that a kind was made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    uid: String,
    generation: i64,
    /// The names that it is served by.
    names: Value,
}

impl Origin {
    pub(crate) fn of(definition: &Value) -> Self {
        let generation = definition["metadata"]["generation"].as_i64().unwrap_or_default();
        let names = definition["status"]["acceptedNames"].clone();
        Self { uid: object::uid(definition).to_owned(), generation, names }
    }

    /// Whether the definition was changed since it was created. Objects of an older schema may be stored then.
    pub(crate) fn has_changed(&self) -> bool {
        self.generation > 1
    }
}

/// The revision of the store at which a resource ceased to be served; `None` while it is served.
pub(crate) type Retired = watch::Sender<Option<u64>>;

impl Resource {
    /// As in `fleet.test/v1alpha1`, or `v1`.
    pub(crate) fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    pub(crate) fn is_custom(&self) -> bool {
        matches!(self.nature, Nature::Custom(_))
    }

    /// The rules of a built-in kind.
    pub(crate) fn builtin(&self) -> Option<&Builtin> {
        match &self.nature {
            Nature::Builtin(native) => Some(&native.rules),
            Nature::Custom(_) => None,
        }
    }

    /// The rules of the subresource `resize`, if the kind has it.
    pub(crate) fn resize(&self) -> Option<&Resize> {
        self.builtin().and_then(|builtin| builtin.resize.as_ref())
    }

    /// Whether the kind was made from this state of a definition.
    pub(crate) fn is_of(&self, origin: &Origin) -> bool {
        matches!(&self.nature, Nature::Custom(custom) if custom.origin == *origin)
    }

    /// Ends every watch of this resource, including one that begins only now, after the events up to `revision`.
    pub(crate) fn retire(&self, revision: u64) {
        self.retired.send_replace(Some(revision));
    }

    /// For error texts about an object of this kind; about the kind itself if `name` is empty.
    pub(crate) fn about<'a>(&'a self, name: &'a str) -> About<'a> {
        About { group: &self.group, plural: &self.names.plural, name }
    }

    /// Whether `metadata.generation` counts the changes of an object.
    pub(crate) fn has_generation(&self) -> bool {
        self.builtin().is_none_or(|builtin| builtin.has_generation)
    }

    /// Whether a PUT may leave out the version.
    pub(crate) fn allows_unconditional_update(&self) -> bool {
        self.builtin().is_some_and(|builtin| builtin.unconditional_update)
    }

    /// Whether a PUT creates an object that is not there.
    pub(crate) fn is_created_on_update(&self) -> bool {
        self.builtin().is_some_and(|builtin| builtin.create_on_update)
    }

    /// Whether a finalizer must have a domain, unless it is one of Kubernetes.
    pub(crate) fn wants_qualified_finalizers(&self) -> bool {
        !self.is_custom() && matches!(self.group.as_str(), "" | "rbac.authorization.k8s.io")
    }

    /// The verbs that the kind supports.
    pub(crate) fn verbs(&self) -> &'static [Verb] {
        self.builtin().map_or(&CUSTOM_VERBS, |builtin| builtin.verbs)
    }

    pub(crate) fn name_rule(&self) -> NameRule {
        self.builtin().map_or(NameRule::Subdomain, |builtin| builtin.name_rule)
    }
}

/// As in `fleet.test/v1alpha1`; the core group has no slash.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
