//! The eight kinds that are cached: the indexes of each, and what its watch is limited to (behaviours B, C).
//!
//! A kind is added here and nowhere else: a line in `watched_kinds!` and an `impl CachedResource`.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};

use super::expectations::ResourceVersionExpectations;
use super::indexes;
use super::lookups::Lookups;
use super::watched::ErasedKind;
use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet, SandboxTemplate};
use crate::informer::{CachedResource, IndexFunc, Informer, InformerOptions};
use crate::options::{Scope, WatchScope};

impl CachedResource for Sandbox {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc {
                name: indexes::SANDBOX_POOL,
                extract: indexes::sandbox_pool,
            },
            IndexFunc {
                name: indexes::CLAIMED_SANDBOX_ID,
                extract: indexes::claimed_sandbox_id,
            },
            IndexFunc {
                name: indexes::USER,
                extract: indexes::sandbox_user,
            },
        ]
    }

    /// At its shutdown time a sandbox leaves its pool though nothing was written (B2).
    fn next_transition(&self) -> Option<Timestamp> {
        self.shutdown_at()
    }
}

impl CachedResource for SandboxSet {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[IndexFunc {
            name: indexes::TEMPLATE_ID,
            extract: indexes::template_id,
        }]
    }
}

impl CachedResource for Checkpoint {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc {
                name: indexes::CHECKPOINT_ID,
                extract: indexes::checkpoint_id,
            },
            IndexFunc {
                name: indexes::USER,
                extract: indexes::checkpoint_user,
            },
        ]
    }
}

impl CachedResource for PersistentVolumeClaim {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc {
                name: indexes::USER,
                extract: indexes::claim_user,
            },
            IndexFunc {
                name: indexes::VOLUME_NAME,
                extract: indexes::claim_volume,
            },
        ]
    }
}

impl CachedResource for SandboxTemplate {}
impl CachedResource for Secret {}
impl CachedResource for ConfigMap {}
impl CachedResource for PersistentVolume {}

/// One watched kind: its informer and what the cache keeps beside it.
pub(crate) struct Watched<K: CachedResource> {
    pub(crate) informer: Informer<K>,
    pub(crate) lookups: Lookups,
    pub(crate) expectations: Arc<ResourceVersionExpectations>,
}

impl<K: CachedResource> Watched<K> {
    fn new(client: &kube::Client, limits: WatchScope, page_size: u32) -> Self {
        let WatchScope {
            namespace,
            label_selector,
        } = limits;
        let options = InformerOptions {
            namespace,
            label_selector,
            page_size,
        };
        let expectations = Arc::new(ResourceVersionExpectations::default());
        Self {
            informer: Informer::new(client.clone(), options, vec![Arc::clone(&expectations) as _]),
            lookups: Lookups::default(),
            expectations,
        }
    }
}

/// A kind that the cache knows. Sealed: [`Sandbox`], [`SandboxSet`], [`SandboxTemplate`], [`Checkpoint`],
/// `Secret`, `ConfigMap`, `PersistentVolume` and `PersistentVolumeClaim`.
#[expect(private_bounds, reason = "sealed: the set of kinds is the cache's own")]
pub trait WatchedKind: CachedResource + Sealed {}

/// What a sealed kind is to the cache.
pub(crate) trait Sealed: CachedResource {
    /// The watch of this kind; `None` when the scope leaves the kind out.
    fn watched(kinds: &Kinds) -> Option<&Arc<Watched<Self>>>;
}

macro_rules! watched_kinds {
    ($($field:ident: $kind:ty, $limits:expr;)*) => {
        /// The watch of each kind; `None` where the scope leaves it out.
        pub(crate) struct Kinds {
            $($field: Option<Arc<Watched<$kind>>>,)*
        }

        impl Kinds {
            pub(crate) fn new(client: &kube::Client, scope: &Scope, page_size: u32) -> Self {
                $(
                    let limits: fn(&Scope) -> Option<WatchScope> = $limits;
                    let $field = limits(scope).map(|limits| Arc::new(Watched::new(client, limits, page_size)));
                )*
                Self { $($field,)* }
            }

            /// The kinds in scope, as what they have in common.
            pub(crate) fn in_scope(&self) -> Vec<Arc<dyn ErasedKind>> {
                let all = [$(self.$field.clone().map(|kind| kind as Arc<dyn ErasedKind>),)*];
                all.into_iter().flatten().collect()
            }
        }

        $(
            impl WatchedKind for $kind {}

            impl Sealed for $kind {
                fn watched(kinds: &Kinds) -> Option<&Arc<Watched<Self>>> {
                    kinds.$field.as_ref()
                }
            }
        )*
    };
}

watched_kinds! {
    sandboxes: Sandbox, |scope| Some(scope.sandboxes());
    sandbox_sets: SandboxSet, |scope| Some(scope.sandboxes());
    sandbox_templates: SandboxTemplate, |scope| Some(scope.sandboxes());
    checkpoints: Checkpoint, |scope| Some(scope.sandboxes());
    persistent_volume_claims: PersistentVolumeClaim, |scope| Some(scope.sandboxes());
    persistent_volumes: PersistentVolume, |scope| Some(scope.cluster());
    secrets: Secret, Scope::system;
    config_maps: ConfigMap, Scope::system;
}
