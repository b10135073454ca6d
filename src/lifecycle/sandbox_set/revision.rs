//! The revision of a set: a hash of everything that its members copy from it, or refer to.
//!
//! Rules:
//!
//! - The hash does not depend on the order of the fields.
//! - A SandboxTemplate that the set refers to counts by its content. So an edit of it replaces the members. Such a
//!   revision begins with [`OF_REFERENCE`], which no hash of Kubernetes or OpenKruise Agents does.
//! - A revision that another controller has computed is kept as long as it is right, because no hash of another
//!   controller can be reproduced. It is right while the set has the generation that its status describes. In a later
//!   generation it is right if a member of that revision is a copy of the set as it is now. So `kubectl scale` replaces no
//!   member that another controller has made.
//! - Nothing on the cluster says of which content of a SandboxTemplate another controller has made a member. It is taken
//!   to be the content that this process has seen first, and an edit after that ends such a revision. An earlier version
//!   of this controller counts as another one here: its hash was that of the name.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::blueprint::MEMBER_LABELS;
use super::template::Template;
use crate::api::v1alpha1::{
    LABEL_TEMPLATE_HASH, PodTemplate, Sandbox, SandboxSet, SandboxTemplate, TemplateRef,
    VolumeClaimTemplates, label,
};
use crate::lifecycle::revision as hash;

/// What the revision of a set begins with that refers to a SandboxTemplate.
const OF_REFERENCE: &str = "ref-";

/// What this process knows of the revision of a set.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// The hash that this project computes.
    pub(super) revision: Arc<str>,
    /// True if the SandboxTemplate was edited since this process has seen it first.
    pub(super) is_edited: bool,
}

/// Returns the revision of the set. `members` are its sandboxes.
pub(super) fn current<'a>(
    set: &SandboxSet,
    template: &Template,
    own: &Own,
    members: impl IntoIterator<Item = &'a Sandbox>,
) -> Arc<str> {
    let ours = &own.revision;
    let known = known(set);
    // Without a template no other revision can be computed, and nothing is created.
    if template.is_absent() || known == &**ours {
        return known.into();
    }
    let is_own = template.referred().is_some() && known.starts_with(OF_REFERENCE);
    if known.is_empty() || is_own || own.is_edited {
        return Arc::clone(ours);
    }
    let observed = set.status.as_ref().and_then(|status| status.observed_generation);
    if observed.is_some() && observed == set.metadata.generation {
        return known.into();
    }
    let of_known = |member: &&Sandbox| label(&member.metadata, LABEL_TEMPLATE_HASH) == Some(known);
    match members.into_iter().find(of_known) {
        Some(member) if simplified(content(member, template)) == simplified(content(set, template)) => {
            known.into()
        }
        _ => Arc::clone(ours),
    }
}

/// Returns the revision in the status of a set; empty if there is none.
fn known(set: &SandboxSet) -> &str {
    set.status.as_ref().and_then(|status| status.update_revision.as_deref()).unwrap_or_default()
}

/// An object that describes sandboxes: a set, or a sandbox itself.
pub(super) trait Described {
    /// Returns the template of the pod and those of the volume claims.
    fn parts(&self) -> (Option<&PodTemplate>, Option<&VolumeClaimTemplates>);

    /// Returns the reference to a SandboxTemplate.
    fn reference(&self) -> Option<&TemplateRef>;

    /// Returns what else describes the sandboxes, as a JSON object.
    fn others(&self) -> Value;
}

impl Described for SandboxSet {
    fn parts(&self) -> (Option<&PodTemplate>, Option<&VolumeClaimTemplates>) {
        (self.spec.template.as_ref(), self.spec.volume_claim_templates.as_ref())
    }

    fn reference(&self) -> Option<&TemplateRef> {
        self.spec.template_ref.as_ref()
    }

    fn others(&self) -> Value {
        let spec = &self.spec;
        json!({
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy,
        })
    }
}

impl Described for Sandbox {
    fn parts(&self) -> (Option<&PodTemplate>, Option<&VolumeClaimTemplates>) {
        (self.spec.template.as_ref(), self.spec.volume_claim_templates.as_ref())
    }

    fn reference(&self) -> Option<&TemplateRef> {
        self.spec.template_ref.as_deref()
    }

    fn others(&self) -> Value {
        let spec = &self.spec;
        json!({
            "persistentContents": spec.persistent_contents,
            "runtimes": spec.runtimes,
            "pauseStrategy": spec.pause_strategy(),
        })
    }
}

/// Returns the description without the labels that a set adds to each member. The content of the SandboxTemplate stands
/// for a reference to it.
fn content(of: &impl Described, template: &Template) -> Value {
    let (mut pod, mut claims) = of.parts();
    if let (None, Some(reference)) = (pod, of.reference()) {
        let referred = template.parts_for(&reference.name);
        (pod, claims) = (referred.0, claims.or(referred.1));
    }
    let mut content = of.others();
    content["template"] = json!(pod);
    content["volumeClaimTemplates"] = json!(claims);
    let labels = content.pointer_mut("/template/metadata/labels").and_then(Value::as_object_mut);
    if let Some(labels) = labels {
        labels.retain(|key, _| !MEMBER_LABELS.contains(&key.as_str()));
    }
    content
}

/// Returns the revision that this project computes for a set.
pub(super) fn own(set: &SandboxSet, template: &Template) -> Arc<str> {
    let hash = hash::of_json(&content(set, template));
    match template {
        Template::Referred(_) => format!("{OF_REFERENCE}{hash}").into(),
        Template::Inline | Template::Absent { .. } => hash.into(),
    }
}

/// Returns the hash of the parts of a SandboxTemplate of which pods are made.
pub(super) fn of_template(template: &SandboxTemplate) -> String {
    let spec = &template.spec;
    hash::of_json(&json!([spec.template, spec.volume_claim_templates]))
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
    use super::super::test_support::{member, referring_set, sandbox_template, set};
    use super::*;

    /// The revision of a set with a template of its own.
    fn own(set: &SandboxSet) -> Arc<str> {
        super::own(set, &Template::Inline)
    }

    /// The current revision of a set with a template of its own.
    fn current<'a>(set: &SandboxSet, members: impl IntoIterator<Item = &'a Sandbox>) -> Arc<str> {
        let ours = Own { revision: own(set), is_edited: false };
        super::current(set, &Template::Inline, &ours, members)
    }

    /// The current revision of a set that refers to a template of this image.
    fn referring<'a>(
        set: &SandboxSet,
        image: &str,
        is_edited: bool,
        members: impl IntoIterator<Item = &'a Sandbox>,
    ) -> Arc<str> {
        let template = Template::of(set, Some(sandbox_template(image).into()));
        let ours = Own { revision: super::own(set, &template), is_edited };
        super::current(set, &template, &ours, members)
    }

    fn observed(mut set: SandboxSet, revision: &str, generation: i64) -> SandboxSet {
        let status = set.status.get_or_insert_default();
        (status.update_revision, status.observed_generation) = (Some(revision.into()), Some(generation));
        set
    }

    /// A set whose status another controller has written, for this generation.
    fn foreign(image: &str, observed: i64) -> SandboxSet {
        super::tests::observed(set(3, image), "5844467cf5", observed)
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
    }

    #[test]
    fn ls4_a_foreign_revision_is_kept_while_the_generation_is_the_same() {
        let set = foreign("i", 1);
        assert_eq!(&*current(&set, []), "5844467cf5");
    }

    #[test]
    fn ls4_a_foreign_revision_is_kept_if_a_member_is_a_copy_of_the_set() {
        let set = foreign("i", 0);
        let members = [foreign_member("i")];
        assert_eq!(&*current(&set, &members), "5844467cf5", "only the replicas have changed");
        let changed = foreign("j", 0);
        assert_eq!(current(&changed, &members), own(&changed));
        assert_eq!(current(&set, []), own(&set), "nothing to compare with");
    }

    #[test]
    fn ls4_an_own_revision_follows_the_template() {
        let mut set = set(1, "i");
        let first = own(&set);
        set.status.get_or_insert_default().update_revision = Some(first.to_string());
        set.status.get_or_insert_default().observed_generation = Some(1);
        set.spec.template = super::super::test_support::set(1, "j").spec.template;
        set.metadata.generation = Some(2);
        assert_ne!(current(&set, []), first);
    }

    #[test]
    fn lp5_a_revision_of_a_reference_follows_the_content_of_the_template() {
        let set = referring_set(1);
        let first = referring(&set, "i", false, []);
        assert!(first.starts_with(OF_REFERENCE), "{first}");
        assert_eq!(first, referring(&referring_set(7), "i", false, []), "the replicas");
        assert_ne!(first, referring(&set, "j", false, []));
        // A process that begins knows its own revision, so an edit while no process ran counts too.
        let set = observed(set, &first, 1);
        assert_eq!(referring(&set, "i", false, []), first);
        assert_ne!(referring(&set, "j", false, []), first);
    }

    #[test]
    fn lp5_a_foreign_revision_of_a_reference_ends_with_an_edit_of_the_template() {
        let set = observed(referring_set(3), "5844467cf5", 1);
        assert_eq!(&*referring(&set, "i", false, []), "5844467cf5", "as it was adopted");
        assert!(referring(&set, "i", true, []).starts_with(OF_REFERENCE));
    }

    #[test]
    fn lp5_the_revision_that_an_earlier_version_computed_for_a_reference_is_kept() {
        let set = observed(referring_set(3), "69z9f6l5x6ddhf", 1);
        assert_eq!(&*referring(&set, "i", false, []), "69z9f6l5x6ddhf", "no rollout by an upgrade");
    }

    #[test]
    fn lp5_scaling_a_foreign_set_that_refers_to_a_template_replaces_no_member() {
        let set = observed(referring_set(5), "5844467cf5", 0);
        // OpenKruise Agents copies the SandboxTemplate into each member; its v0.3.0 copies the reference.
        let copy = [foreign_member("i")];
        let mut reference = foreign_member("i");
        reference.spec.template = None;
        reference.spec.template_ref = set.spec.template_ref.clone().map(Box::new);
        for members in [copy, [reference]] {
            assert_eq!(&*referring(&set, "i", false, &members), "5844467cf5");
        }
        assert!(referring(&set, "j", false, &[foreign_member("i")]).starts_with(OF_REFERENCE));
    }

    #[test]
    fn ls2_without_a_template_the_revision_stays() {
        let set = observed(referring_set(3), "r", 0);
        let template = Template::of(&set, None);
        let own = Own { revision: super::own(&set, &template), is_edited: true };
        assert_eq!(&*super::current(&set, &template, &own, []), "r");
        assert_eq!(&*super::current(&referring_set(3), &template, &own, []), "");
    }
}
