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
use crate::informer::{CachedResource, IndexFunc, Informer, InformerOptions, Observer};
use crate::options::{Scope, WatchScope};
use crate::wait::{WaitMetrics, Waits};

impl CachedResource for Sandbox {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc { name: indexes::SANDBOX_POOL, extract: indexes::sandbox_pool },
            IndexFunc { name: indexes::CLAIMED_SANDBOX_ID, extract: indexes::claimed_sandbox_id },
            IndexFunc { name: indexes::USER, extract: indexes::sandbox_user },
            IndexFunc { name: indexes::RESERVED_FAILED, extract: indexes::reserved_failed },
        ]
    }

    /// At its shutdown time a sandbox leaves its pool though nothing was written (B2).
    fn next_transition(&self) -> Option<Timestamp> {
        self.shutdown_at()
    }
}

impl CachedResource for SandboxSet {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[IndexFunc { name: indexes::TEMPLATE_ID, extract: indexes::template_id }]
    }
}

impl CachedResource for Checkpoint {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc { name: indexes::CHECKPOINT_ID, extract: indexes::checkpoint_id },
            IndexFunc { name: indexes::USER, extract: indexes::checkpoint_user },
        ]
    }
}

impl CachedResource for PersistentVolumeClaim {
    fn indexes() -> &'static [IndexFunc<Self>] {
        &[
            IndexFunc { name: indexes::USER, extract: indexes::claim_user },
            IndexFunc { name: indexes::VOLUME_NAME, extract: indexes::claim_volume },
        ]
    }
}

impl CachedResource for SandboxTemplate {}
impl CachedResource for Secret {}
impl CachedResource for ConfigMap {}
impl CachedResource for PersistentVolume {}

/// What the watches are made with.
pub(crate) struct Making<'a> {
    pub(crate) client: &'a kube::Client,
    pub(crate) scope: &'a Scope,
    pub(crate) page_size: u32,
    pub(crate) wait_metrics: &'a WaitMetrics,
}

/// One kind of the cache: its informer and what the cache keeps beside it.
pub(crate) struct Watched<K: CachedResource> {
    /// Whether the kind is watched at all; otherwise nothing here ever has an answer.
    pub(crate) in_scope: bool,
    pub(crate) informer: Arc<Informer<K>>,
    pub(crate) waits: Arc<Waits<K>>,
    pub(crate) lookups: Lookups,
    pub(crate) expectations: Arc<ResourceVersionExpectations>,
}

impl<K: CachedResource> Watched<K> {
    fn new(making: &Making<'_>, limits: Option<WatchScope>) -> Self {
        let in_scope = limits.is_some();
        let WatchScope { namespace, label_selector } = limits.unwrap_or_default();
        let options = InformerOptions { namespace, label_selector, page_size: making.page_size };
        let waits = Arc::new(Waits::new(making.wait_metrics.clone()));
        let expectations = Arc::new(ResourceVersionExpectations::default());
        // Waits first: somebody is standing there.
        let observers: Vec<Arc<dyn Observer<K>>> =
            vec![Arc::clone(&waits) as _, Arc::clone(&expectations) as _];
        Self {
            in_scope,
            informer: Arc::new(Informer::new(making.client.clone(), options, observers)),
            waits,
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
    /// The watch of this kind.
    fn watched(kinds: &Kinds) -> &Arc<Watched<Self>>;
}

macro_rules! watched_kinds {
    ($($field:ident: $kind:ty, $limits:expr;)*) => {
        /// The watch of each kind.
        pub(crate) struct Kinds {
            $($field: Arc<Watched<$kind>>,)*
        }

        impl Kinds {
            pub(crate) fn new(making: &Making<'_>) -> Self {
                $(
                    let limits: fn(&Scope) -> Option<WatchScope> = $limits;
                    let $field = Arc::new(Watched::new(making, limits(making.scope)));
                )*
                Self { $($field,)* }
            }

            /// The kinds in scope, as what they have in common.
            pub(crate) fn in_scope(&self) -> Vec<Arc<dyn ErasedKind>> {
                let all = [$((self.$field.in_scope, Arc::clone(&self.$field) as Arc<dyn ErasedKind>),)*];
                all.into_iter().filter_map(|(in_scope, kind)| in_scope.then_some(kind)).collect()
            }
        }

        $(
            impl WatchedKind for $kind {}

            impl Sealed for $kind {
                fn watched(kinds: &Kinds) -> &Arc<Watched<Self>> {
                    &kinds.$field
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
