//! The metadata of a user on a Sandbox: how it is written, read and checked.
//!
//! It is kept verbatim as JSON in one annotation, because a user may choose any key. Each entry whose key is a valid key of
//! an annotation is also an annotation of its own, as OpenKruise Agents writes it, so that both servers show the same.
//! Keys with a prefix of this project are requests to the server and not kept.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::errors::{ApiError, quoted};
use super::types::Texts;
use crate::api::label_syntax::{is_label_value, is_qualified_name};
use crate::api::v1alpha1::{ANNOTATION_UPDATED_METADATA_IN_CLAIM, Sandbox, annotation};

/// On a Sandbox: the metadata of its user as JSON.
pub(super) const ANNOTATION_METADATA: &str = "e2b.agents.kruise.io/metadata";

/// The prefix of what the server writes.
const RESERVED: &str = "agents.kruise.io/";

/// No user sets an annotation whose prefix is one of these or below.
const RESERVED_DOMAINS: [&str; 6] =
    ["kruise.io", "kubernetes.io", "k8s.io", "x-k8s.io", "cilium.io", "istio.io"];

/// The prefix of requests to the server.
const EXTENSION: &str = "e2b.agents.kruise.io/";

/// Metadata and environment variables together, as they are written. Kubernetes accepts 256 KiB of annotations, and the
/// claim needs some of it.
pub(super) const MOST_BYTES: usize = 240 * 1024;

/// The most of the user's own annotations.
const MOST_OWN_BYTES: usize = 32 * 1024;

/// Metadata of one create: what is kept, and what is asked of the server.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) kept: Texts,
    pub(super) extensions: Extensions,
}

/// What the metadata of a create asks of the server, as with OpenKruise Agents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub(super) create_on_no_stock: Option<bool>,
    pub(super) never_timeout: bool,
    pub(super) skip_init_runtime: bool,
    pub(super) reserve_failed_sandbox: bool,
    /// Seconds.
    pub(super) wait_ready_timeout: Option<u64>,
    /// Labels of the sandbox and of its pod.
    pub(super) labels: Texts,
}

impl Metadata {
    /// Splits the metadata of a create.
    ///
    /// # Errors
    ///
    /// 400 for a key that begins with a reserved prefix, and for an extension that this server does not have or whose value
    /// is not accepted.
    pub(super) fn parse(metadata: Texts) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        for (key, value) in metadata {
            if let Some(extension) = key.strip_prefix(EXTENSION) {
                parsed.extensions.set(extension, &value)?;
            } else if key.starts_with(RESERVED) {
                let text = format!("metadata key {}: the prefix {RESERVED} is reserved", quoted(&key));
                return Err(ApiError::bad_request(text));
            } else {
                parsed.kept.insert(key, value);
            }
        }
        Ok(parsed)
    }
}

impl Extensions {
    fn set(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let invalid = |expected: &str| {
            let text = format!(
                "metadata key {EXTENSION}{name}: invalid value {}: expected {expected}",
                quoted(value)
            );
            ApiError::bad_request(text)
        };
        let boolean = || value.parse::<bool>().map_err(|_| invalid("true or false"));
        match name {
            "create-on-no-stock" => self.create_on_no_stock = Some(boolean()?),
            "never-timeout" => self.never_timeout = boolean()?,
            "skip-init-runtime" => self.skip_init_runtime = boolean()?,
            "reserve-failed-sandbox" => self.reserve_failed_sandbox = boolean()?,
            "wait-ready-timeout-seconds" => {
                let seconds = value.parse().ok().filter(|seconds| *seconds > 0);
                self.wait_ready_timeout =
                    Some(seconds.ok_or_else(|| invalid("a number of seconds above zero"))?);
            }
            _ => match name.strip_prefix("label:") {
                // Kubernetes leaves labels without a prefix to users, and programs act on those with one.
                Some(key) if key.contains('/') => {
                    let name = quoted(&format!("{EXTENSION}{name}"));
                    let text = format!("metadata key {name}: a label that a client sets must have no prefix");
                    return Err(ApiError::bad_request(text));
                }
                Some(key) if is_qualified_name(key) && is_label_value(value) => {
                    self.labels.insert(key.to_owned(), value.to_owned());
                }
                Some(_) => return Err(invalid("a label that Kubernetes accepts")),
                None => {
                    let text =
                        format!("metadata key {} is not supported", quoted(&format!("{EXTENSION}{name}")));
                    return Err(ApiError::bad_request(text));
                }
            },
        }
        Ok(())
    }
}

/// Returns the annotations that keep the metadata. Those with the user's own keys are what OpenKruise Agents reads; they
/// are left out if there is much of them, since everything is in the one of ours.
pub(super) fn annotations(metadata: &Texts) -> BTreeMap<String, String> {
    let mut annotations = own_annotations(metadata);
    annotations.insert(ANNOTATION_METADATA.to_owned(), to_json(metadata));
    annotations
}

fn own_annotations(metadata: &Texts) -> BTreeMap<String, String> {
    let is_annotation = |key: &str| is_qualified_name(key) && !is_reserved(key);
    let own: BTreeMap<String, String> =
        metadata.iter().filter(|(key, _)| is_annotation(key)).map(copied).collect();
    if bytes(&own) > MOST_OWN_BYTES { BTreeMap::new() } else { own }
}

/// Returns how much room the metadata takes on the sandbox. The claim also lists the user's own keys, in JSON.
pub(super) fn written_bytes(metadata: &Texts) -> usize {
    let own = own_annotations(metadata);
    let listed: usize = own.keys().map(|key| key.len() + 3).sum();
    json_bytes(metadata) + bytes(&own) + listed
}

/// Returns how much room texts take as JSON.
pub(super) fn json_bytes(texts: &Texts) -> usize {
    to_json(texts).len()
}

/// A map of texts is always JSON.
fn to_json(texts: &Texts) -> String {
    serde_json::to_string(texts).unwrap_or_default()
}

fn bytes(texts: &Texts) -> usize {
    texts.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Returns the metadata of a sandbox, whichever server has written it.
pub(super) fn of(sandbox: &Sandbox) -> Texts {
    let metadata = &sandbox.metadata;
    if let Some(own) = annotation(metadata, ANNOTATION_METADATA)
        && let Ok(own) = serde_json::from_str(own)
    {
        return own;
    }
    let (annotations, labels) = (metadata.annotations.as_ref(), metadata.labels.as_ref());
    let entries = || annotations.into_iter().flatten().chain(labels.into_iter().flatten());
    if let Some(named) = annotation(metadata, ANNOTATION_UPDATED_METADATA_IN_CLAIM)
        && let Ok(Named { annotations, labels }) = serde_json::from_str(named)
    {
        let is_named = |key: &String| annotations.contains(key) || labels.contains(key);
        return entries().filter(|(key, _)| is_named(key)).map(copied).collect();
    }
    entries().filter(|(key, _)| !is_reserved(key)).map(copied).collect()
}

fn copied((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

/// The keys that a claim has written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    annotations: Vec<String>,
    labels: Vec<String>,
}

/// Annotations that this project, or another program of the cluster, acts on: a user of a sandbox must not set them.
fn is_reserved(key: &str) -> bool {
    // As Kubernetes compares them: a key that differs in case is not valid there.
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    RESERVED_DOMAINS.iter().any(|domain| {
        prefix == *domain || prefix.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(entries: &[(&str, &str)]) -> Texts {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn with(annotations: &[(&str, &str)], labels: &[(&str, &str)]) -> Sandbox {
        let mut sandbox = Sandbox::default();
        sandbox.metadata.annotations = Some(texts(annotations));
        sandbox.metadata.labels = Some(texts(labels));
        sandbox
    }

    #[test]
    fn e2b_5_1_a_reserved_prefix_is_refused_and_any_other_key_works() {
        for key in ["agents.kruise.io/owner", "agents.kruise.io/", "e2b.agents.kruise.io/nothing"] {
            let error = Metadata::parse(texts(&[(key, "x")])).unwrap_err();
            assert_eq!(error.status().as_u16(), 400, "{key}");
        }
        let odd = texts(&[("user id", "a b@c/d=e&f"), ("", ""), ("ü", "\n")]);
        assert_eq!(Metadata::parse(odd.clone()).unwrap().kept, odd);
    }

    #[test]
    fn e2b_4_6_extensions_are_requests_and_not_kept() {
        let parsed = Metadata::parse(texts(&[
            ("e2b.agents.kruise.io/create-on-no-stock", "false"),
            ("e2b.agents.kruise.io/never-timeout", "true"),
            ("e2b.agents.kruise.io/wait-ready-timeout-seconds", "20"),
            ("e2b.agents.kruise.io/label:tier", "gold"),
            ("a", "b"),
        ]))
        .unwrap();
        assert_eq!(parsed.kept, texts(&[("a", "b")]));
        let expected = Extensions {
            create_on_no_stock: Some(false),
            never_timeout: true,
            wait_ready_timeout: Some(20),
            labels: texts(&[("tier", "gold")]),
            ..Extensions::default()
        };
        assert_eq!(parsed.extensions, expected);
        for (key, value) in [
            ("e2b.agents.kruise.io/never-timeout", "yes"),
            ("e2b.agents.kruise.io/wait-ready-timeout-seconds", "0"),
            ("e2b.agents.kruise.io/label:agents.kruise.io/sandbox-pool", "x"),
            ("e2b.agents.kruise.io/label:e2b.agents.kruise.io/x", "x"),
            ("e2b.agents.kruise.io/label:apps.kruise.io/x", "x"),
            ("e2b.agents.kruise.io/label:kubernetes.io/x", "x"),
            ("e2b.agents.kruise.io/label:pod-security.kubernetes.io/enforce", "privileged"),
            ("e2b.agents.kruise.io/label:x.k8s.io/y", "x"),
            ("e2b.agents.kruise.io/label:sidecar.istio.io/inject", "false"),
            ("e2b.agents.kruise.io/label:K8S.IO/y", "x"),
            ("e2b.agents.kruise.io/label:example.com/a", "x"),
            ("e2b.agents.kruise.io/label:/a", "x"),
            ("e2b.agents.kruise.io/label:a b", "x"),
            ("e2b.agents.kruise.io/label:a", "b c"),
        ] {
            assert!(Metadata::parse(texts(&[(key, value)])).is_err(), "{key}={value}");
        }
        let kept = annotations(&texts(&[("notkubernetes.io/a", "x"), ("example.com/a", "x")]));
        assert_eq!(kept.len(), 3, "{kept:?}");
    }

    #[test]
    fn e2b_5_2_metadata_is_kept_verbatim_and_valid_keys_are_annotations_too() {
        let metadata =
            texts(&[("user id", "a"), ("user", "b"), ("kubernetes.io/x", "c"), ("x.k8s.io/y", "d")]);
        let annotations = annotations(&metadata);
        assert_eq!(annotations.keys().collect::<Vec<_>>(), [ANNOTATION_METADATA, "user"]);
        let mut sandbox = Sandbox::default();
        sandbox.metadata.annotations = Some(annotations);
        assert_eq!(of(&sandbox), metadata);
    }

    #[test]
    fn e2b_5_2_metadata_of_the_other_server_is_what_its_claim_has_written() {
        let named = r#"{"annotations":["user"],"labels":["l"]}"#;
        let sandbox = with(
            &[(ANNOTATION_UPDATED_METADATA_IN_CLAIM, named), ("user", "b"), ("other", "x")],
            &[("l", "1"), ("app", "x")],
        );
        assert_eq!(of(&sandbox), texts(&[("user", "b"), ("l", "1")]));
        let unnamed = with(
            &[
                ("user", "b"),
                ("kubectl.kubernetes.io/last-applied-configuration", "{}"),
                ("agents.kruise.io/lock", "x"),
            ],
            &[("app", "x")],
        );
        assert_eq!(of(&unnamed), texts(&[("user", "b"), ("app", "x")]));
    }

    proptest! {
        #[test]
        fn any_metadata_survives(metadata in prop::collection::btree_map("\\PC{0,12}", "\\PC{0,12}", 0..6)) {
            let mut sandbox = Sandbox::default();
            sandbox.metadata.annotations = Some(annotations(&metadata));
            prop_assert_eq!(of(&sandbox), metadata);
        }
    }
}
