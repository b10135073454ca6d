//! The revision of a set: a hash of everything that its members copy from it.
//!
//! Rules:
//!
//! - The hash does not depend on the order of the fields.
//! - A revision that another controller has computed is kept as long as it is right, because no hash of another
//!   controller can be reproduced. It is right while the set has the generation that its status describes. In a later
//!   generation it is right if a member of that revision is a copy of the set as it is now. So `kubectl scale` replaces no
//!   member that another controller has made.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::blueprint::MEMBER_LABELS;
use crate::api::v1alpha1::{LABEL_TEMPLATE_HASH, Sandbox, SandboxSet, label};
use crate::lifecycle::revision as hash;

/// Returns the revision of the set. `members` are its sandboxes.
pub(super) fn current<'a>(
    set: &SandboxSet,
    ours: &Arc<str>,
    members: impl IntoIterator<Item = &'a Sandbox>,
) -> Arc<str> {
    let status = set.status.as_ref();
    let known = status.and_then(|status| status.update_revision.as_deref()).unwrap_or_default();
    if known.is_empty() || known == &**ours {
        return Arc::clone(ours);
    }
    let observed = status.and_then(|status| status.observed_generation);
    if observed.is_some() && observed == set.metadata.generation {
        return known.into();
    }
    let of_known = |member: &&Sandbox| label(&member.metadata, LABEL_TEMPLATE_HASH) == Some(known);
    match members.into_iter().find(of_known) {
        Some(member) if simplified(content(member)) == simplified(content(set)) => known.into(),
        _ => Arc::clone(ours),
    }
}

/// An object that describes sandboxes: a set, or a sandbox itself.
pub(super) trait Described {
    /// Returns what describes the sandboxes, as JSON.
    fn description(&self) -> Value;
}

impl Described for SandboxSet {
    fn description(&self) -> Value {
        let spec = &self.spec;
        json!({
            "template": spec.template,
            "templateRef": spec.template_ref.as_ref().filter(|_| spec.template.is_none()),
            "volumeClaimTemplates": spec.volume_claim_templates,
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy,
        })
    }
}

impl Described for Sandbox {
    fn description(&self) -> Value {
        let spec = &self.spec;
        json!({
            "template": spec.template,
            "templateRef": spec.template_ref.as_ref().filter(|_| spec.template.is_none()),
            "volumeClaimTemplates": spec.volume_claim_templates,
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy(),
        })
    }
}

/// Returns the description without the labels that a set adds to each member.
fn content(of: &impl Described) -> Value {
    let mut content = of.description();
    let labels = content.pointer_mut("/template/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.retain(|key, _| !MEMBER_LABELS.contains(&key.as_str()));
    }
    content
}

/// Returns the revision that this project computes for a set.
pub(super) fn own(set: &SandboxSet) -> Arc<str> {
    hash::of_json(&content(set)).into()
}

/// Returns the value without empty fields: Go writes some of them that the author of the object did not write.
fn simplified(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().map(|(name, value)| (name, simplified(value)));
            Value::Object(fields.filter(|(_, value)| !is_empty(value)).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(simplified).collect()),
        other => other,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{member, set};
    use super::*;

    /// A set whose status another controller has written, for this generation.
    fn foreign(image: &str, observed: i64) -> SandboxSet {
        let mut set = set(3, image);
        let status = set.status.get_or_insert_default();
        (status.update_revision, status.observed_generation) = (Some("5844467cf5".into()), Some(observed));
        set
    }

    /// A member as Go writes it.
    fn foreign_member(image: &str) -> Sandbox {
        let mut sandbox = member(&set(3, image), "a");
        let labels = sandbox.metadata.labels.as_mut().unwrap();
        labels.insert(LABEL_TEMPLATE_HASH.into(), "5844467cf5".into());
        let template = sandbox.spec.template.as_ref().unwrap().to_json();
        let template = template.replace("\"name\":\"a\"", "\"name\":\"a\",\"resources\":{}");
        let template = template.replace("\"metadata\":{", "\"metadata\":{\"creationTimestamp\":null,");
        sandbox.spec.template = Some(serde_json::from_str(&template).unwrap());
        sandbox
    }

    #[test]
    fn ls4_a_revision_does_not_depend_on_the_order_of_fields_but_on_every_value() {
        let of = |template: &str| {
            let mut set = set(1, "i");
            set.spec.template = Some(serde_json::from_str(template).unwrap());
            own(&set)
        };
        let first = of(r#"{"metadata":{"labels":{"a":"1","b":"2"}},"spec":{"x":[1,true]}}"#);
        assert_eq!(first, of(r#"{"spec":{"x":[1,true]},"metadata":{"labels":{"b":"2","a":"1"},"c":null}}"#));
        assert_ne!(first, of(r#"{"spec":{"x":[true,1]},"metadata":{"labels":{"b":"2","a":"1"}}}"#));
        assert_ne!(first, of(r#"{"spec":{"x":[1,true]},"metadata":{"labels":{"b":"1","a":"2"}}}"#));
    }

    #[test]
    fn ls4_a_revision_covers_what_members_copy_and_nothing_else() {
        let first = own(&set(1, "i"));
        assert_eq!(first, own(&set(7, "i")), "the replicas");
        assert_ne!(first, own(&set(1, "j")));
        let mut other = set(1, "i");
        other.spec.persistent_contents = Some(vec!["memory".into()]);
        assert_ne!(first, own(&other));
        let mut other = set(1, "i");
        other.spec.runtimes = serde_json::from_value(json!([{ "name": "r" }])).unwrap();
        assert_ne!(first, own(&other));
        let mut other = set(1, "i");
        other.spec.template_ref = serde_json::from_value(json!({ "name": "unused" })).unwrap();
        assert_eq!(first, own(&other), "a reference beside a template is not used");
        other.spec.template = None;
        assert_ne!(first, own(&other));
    }

    #[test]
    fn ls4_a_foreign_revision_is_kept_while_the_generation_is_the_same() {
        let set = foreign("i", 1);
        assert_eq!(&*current(&set, &own(&set), []), "5844467cf5");
    }

    #[test]
    fn ls4_a_foreign_revision_is_kept_if_a_member_is_a_copy_of_the_set() {
        let set = foreign("i", 0);
        let members = [foreign_member("i")];
        assert_eq!(&*current(&set, &own(&set), &members), "5844467cf5", "only the replicas have changed");
        let changed = foreign("j", 0);
        assert_eq!(current(&changed, &own(&changed), &members), own(&changed));
        assert_eq!(current(&set, &own(&set), []), own(&set), "nothing to compare with");
    }

    #[test]
    fn ls4_an_own_revision_follows_the_template() {
        let mut set = set(1, "i");
        let first = own(&set);
        set.status.get_or_insert_default().update_revision = Some(first.to_string());
        set.status.get_or_insert_default().observed_generation = Some(1);
        set.spec.template = super::super::test_support::set(1, "j").spec.template;
        set.metadata.generation = Some(2);
        assert_ne!(current(&set, &own(&set), []), first);
    }
}
