//! New members of a set (LP3): their names, labels and specs. Used by the controller that fills pools, and by claims that
//! find none.

pub(crate) mod template;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;
use uuid::Uuid;

use self::template::{add_labels, changed};
use crate::api::v1alpha1::{
    API_VERSION, LABEL_FALSE, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE,
    LABEL_TEMPLATE_HASH, PodTemplate, RareFields, Sandbox, SandboxSet, SandboxSpec, UnreadFields,
};

/// The labels that a set gives to each member, and to the template of its pod.
pub(crate) const MEMBER_LABELS: [&str; 4] =
    [LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE, LABEL_SANDBOX_CLAIMED, LABEL_TEMPLATE_HASH];

/// The letters and digits that Kubernetes appends to `generateName`: no vowels, and nothing that is mistaken for another
/// one.
pub(crate) const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Number of letters that are appended.
const SUFFIX: usize = 5;

/// The longest name is that of a label's value, because pods are selected by it.
const LONGEST_NAME: usize = 63;

/// Returns a new member without a name. All members of a revision are copies of it.
pub(crate) fn prototype(set: &SandboxSet, revision: &str) -> Sandbox {
    let labels = member_labels(set, revision);
    let template = set.spec.template.as_ref();
    let (mut own_labels, annotations) = template.map(template_metadata).unwrap_or_default();
    own_labels.extend(labels.clone());
    let spec = &set.spec;
    Sandbox {
        metadata: ObjectMeta {
            namespace: set.metadata.namespace.clone(),
            generate_name: Some(prefix(set)),
            labels: Some(own_labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![owner(set)]),
            ..ObjectMeta::default()
        },
        spec: SandboxSpec {
            template: template.map(|template| changed(template, |template| add_labels(template, labels))),
            template_ref: spec.template_ref.clone().filter(|_| template.is_none()).map(Box::new),
            volume_claim_templates: spec.volume_claim_templates.clone(),
            persistent_contents: spec.persistent_contents.clone().map(Into::into),
            runtimes: spec.runtimes.clone().map(Into::into),
            rare: spec.pause_strategy.clone().map(|strategy| {
                Box::new(RareFields { pause_strategy: Some(strategy), ..RareFields::default() })
            }),
            ..SandboxSpec::default()
        },
        status: None,
        unread: UnreadFields::default(),
    }
}

/// Returns a name for a new member, as the API server would generate it.
///
/// The name is chosen here, so that a creation whose answer is lost can be repeated without a second sandbox (LC2).
pub(crate) fn new_name(set: &SandboxSet) -> String {
    let random = Uuid::new_v4();
    let letters =
        random.as_bytes()[..SUFFIX].iter().map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]);
    let mut name = prefix(set);
    name.truncate(name.floor_char_boundary(LONGEST_NAME - SUFFIX));
    name.extend(letters.map(char::from));
    name
}

fn prefix(set: &SandboxSet) -> String {
    format!("{}-", set.name_or_empty())
}

fn member_labels(set: &SandboxSet, revision: &str) -> BTreeMap<String, String> {
    let name = set.name_or_empty();
    let template = set.spec.template_ref.as_ref().filter(|_| set.spec.template.is_none());
    let template = template.map_or(name, |template| &template.name);
    let labels = [
        (LABEL_SANDBOX_POOL, name),
        (LABEL_SANDBOX_TEMPLATE, template),
        (LABEL_SANDBOX_CLAIMED, LABEL_FALSE),
        (LABEL_TEMPLATE_HASH, revision),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn owner(set: &SandboxSet) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: "SandboxSet".to_owned(),
        name: set.name_or_empty().to_owned(),
        uid: set.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

type Texts = BTreeMap<String, String>;

/// Returns the labels and annotations of a template. Values that are not texts are left out: the API server refuses the
/// pod, and says why.
fn template_metadata(template: &PodTemplate) -> (Texts, Texts) {
    let template: Value = serde_json::from_str(&template.to_json()).unwrap_or_default();
    let texts = |path: &str| -> Texts {
        let fields = template.pointer(path).and_then(Value::as_object).into_iter().flatten();
        fields.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    (texts("/metadata/labels"), texts("/metadata/annotations"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(replicas: i32, image: &str) -> SandboxSet {
        let object = json!({
            "metadata": { "namespace": "ns", "name": "pool", "uid": "set-uid" },
            "spec": {
                "replicas": replicas,
                "template": {
                    "metadata": { "labels": { "app": "x" }, "annotations": { "note": "n" } },
                    "spec": { "containers": [{ "name": "a", "image": image }] },
                },
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn lp3_a_new_member_has_the_shape_that_openkruise_agents_gives_it() {
        let set = set(1, "busybox");
        let labels = json!({
            "agents.kruise.io/sandbox-claimed": "false", "agents.kruise.io/sandbox-pool": "pool",
            "agents.kruise.io/sandbox-template": "pool", "agents.kruise.io/template-hash": "r", "app": "x",
        });
        let expected = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
            "metadata": {
                "annotations": { "note": "n" }, "generateName": "pool-", "labels": labels, "namespace": "ns",
                "ownerReferences": [{
                    "apiVersion": "agents.kruise.io/v1alpha1", "blockOwnerDeletion": true, "controller": true,
                    "kind": "SandboxSet", "name": "pool", "uid": "set-uid",
                }],
            },
            "spec": { "template": {
                "metadata": { "annotations": { "note": "n" }, "labels": labels },
                "spec": { "containers": [{ "image": "busybox", "name": "a" }] },
            } },
        });
        assert_eq!(serde_json::to_value(prototype(&set, "r")).unwrap(), expected);
    }

    #[test]
    fn lp3_everything_that_describes_a_sandbox_is_copied() {
        let mut set = set(1, "i");
        set.spec = serde_json::from_value(json!({
            "replicas": 1,
            "templateRef": { "name": "gold" },
            "volumeClaimTemplates": [{ "metadata": { "name": "data" }, "spec": {} }],
            "persistentContents": ["memory"],
            "runtimes": [{ "name": "agent-runtime" }],
            "pauseStrategy": { "type": "Stop" },
        }))
        .unwrap();
        let sandbox = serde_json::to_value(prototype(&set, "r")).unwrap();
        let mut expected = serde_json::to_value(&set.spec).unwrap();
        expected.as_object_mut().unwrap().remove("replicas");
        assert_eq!(sandbox["spec"], expected);
        assert_eq!(sandbox["metadata"]["labels"][LABEL_SANDBOX_TEMPLATE], "gold");
        assert_eq!(sandbox["metadata"]["labels"][LABEL_SANDBOX_POOL], "pool");
    }

    #[test]
    fn lp3_a_template_that_no_pod_can_have_is_copied_as_it_is() {
        for template in
            [r#"{"metadata":null}"#, r#"{"metadata":{"labels":["a"]}}"#, r#"{"metadata":{"labels":{"a":1}}}"#]
        {
            let mut set = set(1, "i");
            set.spec.template = Some(serde_json::from_str(template).unwrap());
            let sandbox = prototype(&set, "r");
            assert_eq!(sandbox.metadata.labels.as_ref().unwrap().len(), 4, "{template}");
            assert!(sandbox.spec.template.is_some());
        }
    }

    #[test]
    fn lp3_names_are_those_that_the_api_server_would_generate() {
        let mut set = set(1, "i");
        let name = new_name(&set);
        let suffix = name.strip_prefix("pool-").unwrap();
        assert!(suffix.len() == 5 && suffix.bytes().all(|letter| ALPHABET.contains(&letter)), "{name}");
        assert_ne!(name, new_name(&set));
        set.metadata.name = Some("n".repeat(80));
        assert_eq!(new_name(&set).len(), LONGEST_NAME);
    }
}
