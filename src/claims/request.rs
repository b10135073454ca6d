//! [`ClaimRequest`]: what a caller wants to claim, and what is written into the sandbox.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::keyed::ANNOTATION_IDEMPOTENCY_KEY;
use super::lost::LostLock;
use crate::api::v1alpha1::{ClaimInplaceUpdate, RuntimeConfig, Time};

/// How long a claim may take, if the request does not say.
const CLAIM_TIMEOUT: Duration = Duration::from_mins(1);

/// How long a paused sandbox is kept after its time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// A hundred years, as OpenKruise Agents writes it.
    #[default]
    Forever,
    /// This long.
    For(Duration),
}

/// How the runtime in the sandbox is initialised (Q6). The environment variables may be secrets, so they are not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum RuntimeInit {
    /// Not at all.
    #[default]
    Skip,
    /// With these environment variables and a new access token, if the template of the sandbox has port 49983. A template
    /// without that port has no runtime.
    WithEnvVars(BTreeMap<String, String>),
}

impl fmt::Debug for RuntimeInit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skip => f.write_str("Skip"),
            Self::WithEnvVars(variables) => write!(f, "WithEnvVars({})", variables.len()),
        }
    }
}

/// When the caller's claim ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Never.
    Unlimited,
    /// After this time, counted from the lock.
    For(Duration),
    /// At this instant.
    Until(Time),
}

/// A claim of one sandbox. Created by [`Self::from_pool`].
///
/// ```
/// use std::time::Duration;
/// use sandbox_manager::claims::ClaimRequest;
///
/// let request = ClaimRequest::from_pool("team-a", "code-interpreter")
///     .owner("key-1")
///     .timeout(Duration::from_secs(300))
///     .metadata("run", "7");
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[must_use = "a request does nothing until it is passed to `Claims::claim`"]
pub struct ClaimRequest {
    pub(super) namespace: String,
    pub(super) pool: String,
    pub(super) owner: String,
    pub(super) lifetime: Lifetime,
    pub(super) auto_pause: bool,
    pub(super) retention: Option<Retention>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) own_labels: BTreeMap<String, String>,
    pub(super) own_annotations: BTreeMap<String, String>,
    pub(super) allow_internet_access: Option<bool>,
    pub(super) name_on_pod: bool,
    pub(super) inplace_update: Option<ClaimInplaceUpdate>,
    pub(super) runtimes: Option<Vec<RuntimeConfig>>,
    pub(super) init: RuntimeInit,
    pub(super) create_on_no_stock: Option<bool>,
    pub(super) claim_timeout: Duration,
    pub(super) wait_ready_timeout: Option<Duration>,
    pub(super) wait_until_ready: bool,
    pub(super) reserve_failed: bool,
    pub(super) lost: Option<LostLock>,
    pub(super) held: Option<Held>,
}

/// What a caller lets a claim hold.
#[derive(Clone)]
pub(super) struct Held(
    #[expect(dead_code, reason = "it is dropped with the claim")] Arc<dyn Any + Send + Sync>,
);

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}

impl ClaimRequest {
    /// The key of the claim, if it has one.
    pub(super) fn key(&self) -> Option<&str> {
        self.own_annotations.get(ANNOTATION_IDEMPOTENCY_KEY).map(String::as_str)
    }

    /// Sets the key by which the claim can be repeated: the owner is given one sandbox for it, on all replicas. A claim
    /// with a key that is complete is not undone when its caller is gone, because the caller may repeat it anywhere.
    pub fn idempotency_key(self, key: impl Into<String>) -> Self {
        self.own_annotation(ANNOTATION_IDEMPOTENCY_KEY, key)
    }

    /// Claims a member of the SandboxSet of this namespace and name.
    pub fn from_pool(namespace: impl Into<String>, pool: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            pool: pool.into(),
            owner: String::new(),
            lifetime: Lifetime::Unlimited,
            auto_pause: false,
            retention: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            own_labels: BTreeMap::new(),
            own_annotations: BTreeMap::new(),
            allow_internet_access: None,
            name_on_pod: false,
            inplace_update: None,
            runtimes: None,
            init: RuntimeInit::Skip,
            create_on_no_stock: None,
            claim_timeout: CLAIM_TIMEOUT,
            wait_ready_timeout: None,
            wait_until_ready: true,
            reserve_failed: false,
            lost: None,
            held: None,
        }
    }

    /// Keeps a value until the claim has ended, also if its caller is gone: a place among those that may claim at the same
    /// time, for example.
    pub fn hold(mut self, value: impl Any + Send + Sync) -> Self {
        self.held = Some(Held(Arc::new(value)));
        self
    }

    /// Sets the owner: the id of an API key, or the UID of a SandboxClaim. Required. It is also written as a label of the
    /// pod, so it must be valid as one.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// Ends the claim after this time, counted from the lock. Without a time it never ends.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.lifetime = Lifetime::For(timeout);
        self
    }

    /// Ends the claim at this instant. It is written exactly as given.
    pub fn shutdown_time(mut self, time: Time) -> Self {
        self.lifetime = Lifetime::Until(time);
        self
    }

    /// Pauses the sandbox at its end instead of deleting it.
    pub fn auto_pause(mut self, auto_pause: bool) -> Self {
        self.auto_pause = auto_pause;
        self
    }

    /// Sets how long the sandbox is kept while it is paused, and writes that as an annotation. Without this call it is
    /// kept for ever, and nothing is written.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Adds an annotation of the user. Its key is listed in the annotation `updated-metadata-in-claim`.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(key.into(), value.into());
        self
    }

    /// Adds a label of the user, to the sandbox and to its pod. Its key is listed in `updated-metadata-in-claim`.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a label that is not the user's, to the sandbox only: a short id, the name of a SandboxClaim.
    pub fn own_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.own_labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation that is not the user's, such as an idempotency key.
    pub fn own_annotation(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.own_annotations.insert(key.into(), value.into());
        self
    }

    /// Writes on the sandbox and its pod whether they may use the internet.
    pub fn allow_internet_access(mut self, allow: bool) -> Self {
        self.allow_internet_access = Some(allow);
        self
    }

    /// Writes the name of the sandbox as a label of its pod, as the E2B server of OpenKruise Agents does.
    pub fn name_on_pod(mut self) -> Self {
        self.name_on_pod = true;
        self
    }

    /// Changes image and resources of the first container. The claim then waits until that is done.
    pub fn inplace_update(mut self, update: ClaimInplaceUpdate) -> Self {
        self.inplace_update = Some(update);
        self
    }

    /// Replaces the runtimes of a sandbox that is created.
    pub fn runtimes(mut self, runtimes: Vec<RuntimeConfig>) -> Self {
        self.runtimes = Some(runtimes);
        self
    }

    /// Initialises the runtime in the sandbox; not by default. With [`Self::return_when_locked`] the lock only writes what
    /// the runtime is to be sent, in the annotation
    /// [`ANNOTATION_INIT_RUNTIME_REQUEST`](crate::api::v1alpha1::ANNOTATION_INIT_RUNTIME_REQUEST). The caller sends it, and
    /// removes [`ANNOTATION_RUNTIME_INIT_PENDING`](crate::api::v1alpha1::ANNOTATION_RUNTIME_INIT_PENDING) then.
    pub fn init(mut self, init: RuntimeInit) -> Self {
        self.init = init;
        self
    }

    /// Sets whether a sandbox is created if the pool has none. The default is that of the engine.
    pub fn create_on_no_stock(mut self, create: bool) -> Self {
        self.create_on_no_stock = Some(create);
        self
    }

    /// Sets how long the whole claim may take; a minute by default.
    pub fn claim_timeout(mut self, timeout: Duration) -> Self {
        self.claim_timeout = timeout;
        self
    }

    /// Sets how long a sandbox may take to become ready after its lock. The default is what is left of the claim's time.
    pub fn wait_ready_timeout(mut self, timeout: Duration) -> Self {
        self.wait_ready_timeout = Some(timeout);
        self
    }

    /// Returns as soon as the sandbox is the owner's. From then on the caller answers for it: waits until it is ready, and
    /// removes it if it fails. The engine undoes nothing, also if the future is dropped, or the answer to the lock is lost:
    /// the caller finds the sandbox by its owner and its labels, and what is lost in the error
    /// ([`WriteOutcome::Unknown`](super::WriteOutcome::Unknown)).
    pub fn return_when_locked(mut self) -> Self {
        self.wait_until_ready = false;
        self
    }

    /// Repeats a lock of an earlier claim whose answer was lost, with the same sandbox. Another sandbox is taken only if it
    /// is certain that the earlier lock has no effect. Together with [`Self::return_when_locked`].
    pub fn again(mut self, lost: LostLock) -> Self {
        self.lost = Some(lost);
        self
    }

    /// Keeps a sandbox that fails after its lock for inspection, instead of deleting it.
    pub fn reserve_failed(mut self, reserve: bool) -> Self {
        self.reserve_failed = reserve;
        self
    }
}
