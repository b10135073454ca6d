//! Version `v1alpha1` of the group `agents.kruise.io`: [`Sandbox`], [`SandboxSet`], [`SandboxTemplate`],
//! [`SandboxClaim`], [`Checkpoint`].
//!
//! These types have the same fields as the types of OpenKruise Agents v0.3.0, and newer ones, so objects are interchangeable.
//! JSON names are camelCase, Rust names are `snake_case`. Absent, empty and unknown values are distinguished
//! and written back as they were read. Three things are not written back: fields that the types do not have, fields
//! that could not be read, and what the cache never stores, such as `managedFields`. A PUT of a cached object would
//! remove them, so write with [`SharedCache::patch`](shared_cache::SharedCache::patch), which sends only what the
//! caller changed.
//!
//! | Kind | Meaning | Files |
//! |---|---|---|
//! | [`Sandbox`] | one isolated environment, backed by a pod | `sandbox`, `sandbox_spec`, `state` |
//! | [`SandboxSet`] | a pool of ready sandboxes that users can claim | `sandboxset` |
//! | [`SandboxTemplate`] | a template of sandboxes, referred to by name | `sandboxtemplate`, `template`, `pod_template` |
//! | [`SandboxClaim`] | the wish of a user for sandboxes of a pool | `sandboxclaim` |
//! | [`Checkpoint`] | the saved content of a sandbox | `checkpoint` |
//!
//! The structs hold neither `apiVersion` nor `kind`. Serializing writes both. Decoding ignores both, because
//! the caller has already chosen the type.

/// Implements the constructor, `kube::Resource` and the serialization of a kind.
///
/// The last argument names the status field, if the kind has one.
macro_rules! kind {
    (@status $object:ident) => { None::<&()> };
    (@status $object:ident $status:ident) => { $object.$status.as_ref() };
    ($kind:ident, $spec:ty, $plural:literal $(, $status:ident)?) => {
        impl $kind {
            /// Creates an object named `name` without a namespace, for a request to the API server.
            #[must_use]
            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = ObjectMeta {
                    name: Some(name.to_owned()),
                    ..ObjectMeta::default()
                };
                Self { metadata, spec, $($status: None,)? unread: UnreadFields::default() }
            }

            /// Returns the namespace, or an empty text if the object has no namespace.
            #[must_use]
            pub fn namespace_or_empty(&self) -> &str {
                self.metadata.namespace.as_deref().unwrap_or_default()
            }

            /// Returns the name, or an empty text if the object has no name.
            #[must_use]
            pub fn name_or_empty(&self) -> &str {
                self.metadata.name.as_deref().unwrap_or_default()
            }

            /// Returns the fields that could not be read, each with its problem (V9). The value of such a field,
            /// or of the list element or map entry that contains it, is missing in this object.
            #[must_use]
            pub fn partially_decoded(&self) -> &[shared_cache::DecodeError] {
                self.unread.as_slice()
            }

            /// Returns the user that owns the object, unless the annotation is absent or empty. The annotation
            /// is [`ANNOTATION_OWNER`](super::ANNOTATION_OWNER).
            #[must_use]
            pub fn owner(&self) -> Option<&str> {
                annotation(&self.metadata, super::ANNOTATION_OWNER)
            }
        }

        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $crate::api::GROUP.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                super::VERSION.into()
            }

            fn api_version((): &()) -> Cow<'_, str> {
                super::API_VERSION.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let object = self;
                let kind = (super::API_VERSION, stringify!($kind));
                let status = kind!(@status object $($status)?);
                metadata::serialize_object(serializer, kind, &object.metadata, &object.spec, status)
            }
        }
    };
}

mod checkpoint;
mod conditions;
mod crd;
mod labels;
mod pod_template;
mod sandbox;
mod sandbox_spec;
mod sandboxclaim;
mod sandboxset;
mod sandboxtemplate;
mod state;
mod template;
#[cfg(test)]
mod tests;
mod unread;

pub use checkpoint::{Checkpoint, CheckpointPhase, CheckpointSpec, CheckpointStatus};
pub use conditions::*;
pub use crd::{crd_files, crds, crds_yaml};
pub use labels::*;
pub use pod_template::PodTemplate;
pub use sandbox::{PodInfo, Sandbox, SandboxPhase, SandboxStatus};
pub use sandbox_spec::{ExecAction, RareFields, SandboxLifecycle, SandboxSpec, UpgradeAction, UpgradePolicy};
pub use sandboxclaim::{
    ClaimInplaceUpdate, ClaimResources, DynamicVolumeMount, SandboxClaim, SandboxClaimPhase,
    SandboxClaimSpec, SandboxClaimStatus,
};
pub use sandboxset::{SandboxSet, SandboxSetSpec, SandboxSetStatus, ScaleStrategy, UpdateStrategy};
pub use sandboxtemplate::{SandboxTemplate, SandboxTemplateSpec};
pub use state::{SandboxState, StateKind, StateReason, Verdict, VerdictReason};
pub use template::{
    HibernateStrategy, PauseStrategy, PauseStrategyType, RuntimeConfig, TemplateRef, VolumeClaimTemplates,
};
pub use unread::UnreadFields;

pub use super::go_duration::{GoDuration, InvalidDuration};
pub use super::json_text::JsonText;
pub use super::metadata::{annotation, label};
pub use super::packed::{Generation, Ip, Uid};
pub use super::symbol::Symbol;
pub use super::time::Time;

/// The API version of the kinds in this module.
pub const VERSION: &str = "v1alpha1";

/// The field `apiVersion` of every kind in this module.
pub const API_VERSION: &str = "agents.kruise.io/v1alpha1";
