//! The resources that are served: built-in kinds, declared kinds, and kinds of stored definitions.

mod builtin;
mod custom;
mod declared;

use std::sync::Arc;

use serde_json::Value;

use super::crds;
use super::registry::Registry;
use super::resource::{Origin, Resource};
use super::store::{DEFINITIONS, Range, Store};

pub(crate) use declared::Declared;

/// The registry for the present definitions. Takes the resources of definitions that did not change from `before`.
pub(crate) fn registry(store: &Store, declared: &[Arc<Resource>], before: &Registry) -> Registry {
    let definitions = store.list(DEFINITIONS, &Range::default(), None, 0);
    let definitions = definitions.map(|snapshot| snapshot.objects).unwrap_or_default();
    let custom = definitions.iter().flat_map(|stored| of_definition(&stored.value(), before));
    Registry::new(builtin::all().cloned().chain(declared.iter().cloned()).chain(custom))
}

fn of_definition(definition: &Value, before: &Registry) -> Vec<Arc<Resource>> {
    if !crds::is_established(definition) {
        return Vec::new();
    }
    let origin = Origin::of(definition);
    let known: Vec<_> = before.all().filter(|resource| resource.is_of(&origin)).cloned().collect();
    if known.is_empty() { custom::resources(definition).into_iter().map(Arc::new).collect() } else { known }
}
