//! [`Declared`]: a kind of Kubernetes that is not built in and that a program declares.

use std::any::TypeId;
use std::sync::Arc;

use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builtin::resource;
use crate::builtin::{BUILTINS, Builtin, plain};
use crate::resource::Resource;
use crate::schema::{self, Schema};

/// A kind, with rules and a schema that follow from its Rust type.
#[derive(Debug)]
pub(crate) struct Declared {
    rules: Builtin,
    schema: Arc<Schema>,
}

impl Declared {
    /// `None` for a subresource.
    pub(crate) fn of<K>() -> Option<Self>
    where
        K: k8s_openapi::Resource + JsonSchema + Serialize + DeserializeOwned,
        K::Scope: 'static,
    {
        let scope = TypeId::of::<K::Scope>();
        let namespaced = scope == TypeId::of::<NamespaceResourceScope>();
        if !namespaced && scope != TypeId::of::<ClusterResourceScope>() {
            return None;
        }
        let schema = Arc::clone(schema::Builtin::of::<K>().schema());
        let has = |field: &str| schema.properties.contains_key(field);
        let rules = Builtin {
            group: K::GROUP,
            version: K::VERSION,
            status: has("status"),
            has_generation: has("spec") && has("status"),
            ..plain::<K>(K::KIND, K::URL_PATH_SEGMENT, namespaced)
        };
        Some(Self { rules, schema })
    }

    /// `None` if the kind is built in.
    pub(crate) fn into_resource(self) -> Option<Arc<Resource>> {
        let Self { rules, schema } = self;
        let is_same = |other: &Builtin| {
            (other.group, other.version, other.plural) == (rules.group, rules.version, rules.plural)
        };
        (!BUILTINS.iter().any(is_same)).then(|| Arc::new(resource(rules, schema)))
    }
}
