//! The cached kinds, their indexes, and the limits of each watch (behaviours B, C).
//!
//! Kinds are added only in this file.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use label_selector::{LabelSelector, Operator, Requirement};
use shared_cache::{CachedResource, DecodeError, IndexFunc, SharedCacheBuilder, Watch, decode_partially};

use super::scope::Scope;
use super::{indexes, system_objects};
use crate::api::v1alpha1::{
    CREATED_BY_SANDBOX, Checkpoint, LABEL_CREATED_BY, Sandbox, SandboxClaim, SandboxSet, SandboxTemplate,
};

/// The decoder of the kinds of our group: a field that cannot be read does not hide its object (V9).
macro_rules! decode_what_can_be_read {
    () => {
        fn decode(json: &str) -> Result<Self, DecodeError> {
            let (mut object, unread) = decode_partially::<Self>(json)?;
            object.unread = unread.into();
            Ok(object)
        }

        fn unread_fields(&self) -> &[DecodeError] {
            self.partially_decoded()
        }
    };
}

impl CachedResource for Sandbox {
    decode_what_can_be_read!();

    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc { index: indexes::SANDBOX_POOL, extract: indexes::sandbox_pool },
            IndexFunc { index: indexes::CLAIMED_SANDBOX_ID, extract: indexes::claimed_sandbox_id },
            IndexFunc { index: indexes::SANDBOX_USER, extract: indexes::sandbox_user },
            IndexFunc { index: indexes::RESERVED_FAILED, extract: indexes::reserved_failed },
            IndexFunc { index: indexes::UNFINISHED_CLAIM, extract: indexes::unfinished_claim },
        ]
    }

    /// A sandbox leaves its pool at its shutdown time without a write (B2).
    fn next_transition(&self) -> Option<Timestamp> {
        self.shutdown_at()
    }
}

impl CachedResource for SandboxSet {
    decode_what_can_be_read!();

    fn indexes() -> &'static [IndexFunc<Self>] {
        &[IndexFunc { index: indexes::TEMPLATE_ID, extract: indexes::template_id }]
    }
}

impl CachedResource for Checkpoint {
    decode_what_can_be_read!();

    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc { index: indexes::CHECKPOINT_ID, extract: indexes::checkpoint_id },
            IndexFunc { index: indexes::CHECKPOINT_USER, extract: indexes::checkpoint_user },
        ]
    }
}

impl CachedResource for SandboxTemplate {
    decode_what_can_be_read!();
}

impl CachedResource for SandboxClaim {
    decode_what_can_be_read!();
}

/// Adds the kinds of a scope. Secrets and ConfigMaps are watched only in the system namespace, if one is set
/// (C3), and mostly without their data (Y6). PersistentVolumes are cluster-scoped and never limited, and are watched
/// only if an option asks for them (C4, Y5).
pub(super) fn add(builder: SharedCacheBuilder, scope: &Scope) -> SharedCacheBuilder {
    let builder = builder
        .cached_kind::<Sandbox>(sandboxes(scope))
        .cached_kind::<SandboxSet>(sandboxes(scope))
        .cached_kind::<SandboxTemplate>(sandboxes(scope))
        .cached_kind::<Checkpoint>(sandboxes(scope))
        .kind::<PersistentVolumeClaim>(sandboxes(scope))
        .index(indexes::CLAIM_USER, indexes::claim_user)
        .index(indexes::VOLUME_NAME, indexes::claim_volume);
    let builder =
        if scope.persistent_volumes { builder.kind::<PersistentVolume>(Watch::all()) } else { builder };
    let builder = if scope.lifecycle { lifecycle(builder, scope) } else { builder };
    // Others' Secrets may be large, and a page is in memory as a whole.
    let system = |namespace: &String| Watch::namespaced(namespace).page_size(20);
    match &scope.system_namespace {
        None => builder,
        Some(namespace) => builder
            .kind::<Secret>(system(namespace))
            .decoder(system_objects::decode_secret)
            .kind::<ConfigMap>(system(namespace))
            .decoder(system_objects::decode_config_map),
    }
}

/// Adds what the lifecycle controllers need besides. Only pods that were made for sandboxes are watched, not all pods of
/// the cluster. A controller that misses a pod here must ask the API server: somebody may have removed the label, and a
/// pod of another kind may have the name.
fn lifecycle(builder: SharedCacheBuilder, scope: &Scope) -> SharedCacheBuilder {
    let operator = Operator::Equals(CREATED_BY_SANDBOX.to_owned());
    let requirements = vec![Requirement { key: LABEL_CREATED_BY.to_owned(), operator }];
    let pods = in_namespace(scope).labels(&LabelSelector { requirements });
    builder
        .kind::<Pod>(pods)
        .index(indexes::SANDBOX_TEMPLATE_REF, indexes::sandbox_template_ref)
        .index(indexes::SANDBOX_SET_TEMPLATE_REF, indexes::set_template_ref)
        .index(indexes::SANDBOX_SET, indexes::sandbox_set)
        .index(indexes::CHECKPOINT_SANDBOX, indexes::checkpoint_sandbox)
        .cached_kind::<SandboxClaim>(sandboxes(scope))
}

/// Returns the limits of the watches of the sandbox kinds (C1, C2).
fn sandboxes(scope: &Scope) -> Watch {
    let watch = in_namespace(scope);
    match &scope.label_selector {
        None => watch,
        Some(selector) => watch.labels(selector),
    }
}

fn in_namespace(scope: &Scope) -> Watch {
    match &scope.sandbox_namespace {
        None => Watch::all(),
        Some(namespace) => Watch::namespaced(namespace),
    }
}

#[cfg(test)]
mod tests {
    use shared_cache::SharedCache;

    use super::*;
    use crate::cache::scripted_server::server;

    #[tokio::test]
    async fn c4_every_scope_builds() {
        for namespace in [None, Some("team-a")] {
            for selector in [None, Some("a=b,c in (d)")] {
                for (system, volumes) in
                    [(None, false), (Some("sys"), false), (None, true), (Some("sys"), true)]
                {
                    let scope = Scope {
                        persistent_volumes: volumes,
                        lifecycle: volumes,
                        sandbox_namespace: namespace.map(str::to_owned),
                        label_selector: selector.map(|text| text.parse().unwrap()),
                        system_namespace: system.map(str::to_owned),
                    };
                    let (client, _server) = server();
                    let cache = add(SharedCache::builder(client), &scope).build().unwrap();
                    let expected = 5 + 3 * usize::from(volumes) + 2 * usize::from(system.is_some());
                    assert_eq!(cache.kinds().len(), expected, "y5: {scope:?}");
                }
            }
        }
    }
}
