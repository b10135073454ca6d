//! Makes resources of the rules of built-in kinds.

use std::sync::{Arc, LazyLock};

use crate::builtin::{BUILTINS, Builtin};
use crate::resource::{Names, Native, Nature, Resource, Retired};
use crate::schema::Schema;
use crate::selector::SelectableFields;
use crate::table::Printer;

/// The built-in kinds, which all servers of the process share.
pub(super) fn all() -> impl Iterator<Item = &'static Arc<Resource>> {
    static RESOURCES: LazyLock<Vec<Arc<Resource>>> = LazyLock::new(|| {
        BUILTINS.iter().map(|builtin| Arc::new(resource(*builtin, builtin.schema()))).collect()
    });
    RESOURCES.iter()
}

/// The resource of a kind with these rules.
pub(super) fn resource(rules: Builtin, schema: Arc<Schema>) -> Resource {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let names = Names {
        kind: rules.kind.to_owned(),
        list_kind: format!("{}List", rules.kind),
        plural: rules.plural.to_owned(),
        singular: rules.kind.to_lowercase(),
        short_names: texts(rules.short_names),
        categories: texts(rules.categories),
    };
    Resource {
        group: rules.group.to_owned(),
        version: rules.version.to_owned(),
        names,
        namespaced: rules.namespaced,
        storage: storage(&rules),
        schema,
        printer: Printer::built_in(rules.group, rules.kind),
        status: rules.status,
        scale: None,
        selectable_fields: SelectableFields::built_in(rules.group, rules.kind),
        nature: Nature::Builtin(Box::new(Native { rules, blank: rules.blank() })),
        retired: Retired::new(None),
    }
}

fn storage(rules: &Builtin) -> Arc<str> {
    match (rules.storage, rules.group) {
        (Some(own), _) => own.into(),
        (None, "") => rules.plural.into(),
        (None, group) => format!("{}.{group}", rules.plural).into(),
    }
}
