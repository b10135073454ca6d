//! [`SandboxCache`] and its builder.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use shared_cache::{Reader, RefreshError, SharedCache, SharedCacheBuilder, WatchThreadError};

use super::kinds;
use super::scope::Scope;
use crate::api::v1alpha1::{Checkpoint, Sandbox, SandboxSet};

/// The shared cache of the kinds of a sandbox manager. Cheap to clone; all clones are one cache, which stops
/// when the last clone is dropped. It dereferences to [`SharedCache`].
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use sandbox_manager::cache::{Cache, GetClaimedSandboxOptions, Provider};
///
/// let client = kube::Client::try_default().await?;
/// let cache = Cache::builder(client).build();
/// cache.start().await?;
/// let options = GetClaimedSandboxOptions { sandbox_id: "default--my-sandbox", ..Default::default() };
/// println!("{:?}", cache.get_claimed_sandbox(options)?.status);
/// cache.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SandboxCache {
    shared: SharedCache,
    readers: Arc<Readers>,
}

/// The readers of the kinds. Created once, because finding a kind by its type costs more than a lookup.
struct Readers {
    sandboxes: Reader<Sandbox>,
    sandbox_sets: Reader<SandboxSet>,
    checkpoints: Reader<Checkpoint>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Deref for SandboxCache {
    type Target = SharedCache;

    fn deref(&self) -> &SharedCache {
        &self.shared
    }
}

/// Collects the settings of a [`SandboxCache`]. Created by [`SandboxCache::builder`].
#[must_use]
pub struct SandboxCacheBuilder {
    shared: SharedCacheBuilder,
    scope: Scope,
}

impl SandboxCacheBuilder {
    /// Sets the scope of the watches. The default is the sandbox kinds in every namespace, without Secrets
    /// and ConfigMaps.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Sets the number of objects in a page if the API server has no streaming lists; 500 by default.
    pub fn page_size(mut self, page_size: u32) -> Self {
        self.shared = self.shared.page_size(page_size);
        self
    }

    /// Sets how long [`SharedCache::start`] waits for the initial lists; two minutes by default.
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.shared = self.shared.sync_timeout(timeout);
        self
    }

    /// Runs the watches on their own thread with their own client; see [`SharedCacheBuilder::watch_thread`].
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread, or `make_client` fails.
    pub fn watch_thread<E: std::error::Error + 'static>(
        self,
        make_client: impl FnOnce() -> Result<kube::Client, E>,
    ) -> Result<Self, WatchThreadError<E>> {
        Ok(Self { shared: self.shared.watch_thread(make_client)?, scope: self.scope })
    }

    /// Builds the cache. Nothing is started.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the kinds are fixed, and a test builds every scope")]
    pub fn build(self) -> SandboxCache {
        let shared = kinds::add(self.shared, &self.scope).build();
        SandboxCache::new(shared.expect("the kinds of a sandbox cache are valid in every scope"))
    }
}

impl SandboxCache {
    /// Creates a builder. The client is used for the watches and for live reads.
    pub fn builder(client: kube::Client) -> SandboxCacheBuilder {
        SandboxCacheBuilder { shared: SharedCache::builder(client), scope: Scope::default() }
    }

    /// Returns the cache whose writes and live reads go through this clone of it.
    pub(crate) fn new(shared: SharedCache) -> Self {
        let (sandboxes, sandbox_sets, checkpoints) = (shared.reader(), shared.reader(), shared.reader());
        Self { shared, readers: Arc::new(Readers { sandboxes, sandbox_sets, checkpoints }) }
    }

    /// Returns the generic cache.
    #[must_use]
    pub fn shared(&self) -> &SharedCache {
        &self.shared
    }

    /// Returns the newest state of a sandbox; see [`SharedCache::refresh`] (K3).
    ///
    /// # Errors
    ///
    /// [`RefreshError::NotFound`] if the API server has no such object either; [`RefreshError::Read`].
    pub async fn refresh_sandbox(&self, sandbox: &Sandbox) -> Result<Arc<Sandbox>, RefreshError> {
        self.shared.refresh(sandbox).await
    }

    /// Returns the newest state of a checkpoint; see [`SharedCache::refresh`] (K3).
    ///
    /// # Errors
    ///
    /// [`RefreshError::NotFound`] if the API server has no such object either; [`RefreshError::Read`].
    pub async fn refresh_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Arc<Checkpoint>, RefreshError> {
        self.shared.refresh(checkpoint).await
    }

    pub(super) fn sandboxes(&self) -> &Reader<Sandbox> {
        &self.readers.sandboxes
    }

    pub(super) fn sandbox_sets(&self) -> &Reader<SandboxSet> {
        &self.readers.sandbox_sets
    }

    pub(super) fn checkpoints(&self) -> &Reader<Checkpoint> {
        &self.readers.checkpoints
    }
}
