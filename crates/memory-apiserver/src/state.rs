//! [`ServerState`]: what a server holds, which all of its requests share. It knows nothing of requests itself.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::access::Access;
use super::bootstrap;
use super::clock::Clock;
use super::faults::Faults;
use super::registry::Registry;
use super::requests::RequestLog;
use super::resource::Resource;
use super::served;
use super::store::{Limits, Store, Unknown};
#[cfg(feature = "__serve")]
use super::tls::Identity;

/// The objects of a server, the kinds that it serves, who may use it, and its faults.
pub(crate) struct ServerState {
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    pub(crate) clock: Clock,
    pub(crate) controllers: Controllers,
    pub(crate) requests: RequestLog,
    /// Held while the names of a definition are checked against those of the others.
    pub(crate) naming: Mutex<()>,
    /// Created when the server first listens and then kept, so that clients trust it after it listens again.
    #[cfg(feature = "__serve")]
    pub(crate) identity: Mutex<Option<Arc<Identity>>>,
    /// Kinds that the program declared.
    declared: Vec<Arc<Resource>>,
    registry: RwLock<Arc<Registry>>,
    /// Changes when every watch and connection has to end.
    cuts: watch::Sender<u64>,
    /// Changes when every watch has to send a bookmark.
    nudges: watch::Sender<u64>,
}

/// What a server is started with.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    /// Kinds that the program declared.
    pub(crate) declared: Vec<Arc<Resource>>,
    pub(crate) controllers: Controllers,
}

/// The controllers of a cluster that a server plays on request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Controllers {
    /// Whether an object goes as soon as it names only owners that do not exist.
    pub(crate) collects_absent: bool,
    /// Whether a kubelet ends deleted Pods.
    pub(crate) ends_pods: bool,
}

impl ServerState {
    /// The state of a server with the objects that every cluster has.
    pub(crate) fn new(settings: Settings) -> Self {
        let Settings { limits, clock, declared, controllers } = settings;
        let store = Store::new(limits);
        bootstrap::fill(&store, clock.now());
        let state = Self {
            store,
            access: Access::default(),
            faults: Faults::default(),
            clock,
            controllers,
            requests: RequestLog::default(),
            naming: Mutex::default(),
            #[cfg(feature = "__serve")]
            identity: Mutex::default(),
            declared,
            registry: RwLock::default(),
            cuts: watch::Sender::new(0),
            nudges: watch::Sender::new(0),
        };
        state.refresh_registry();
        state
    }

    /// The resources that are served now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }

    /// Serves the kinds of the stored definitions, and retires the resources that are served no longer.
    pub(crate) fn refresh_registry(&self) {
        // The lock is taken before the definitions are read, so that a refresh that read older ones cannot come last.
        let mut registry = self.registry.write();
        let before = Arc::clone(&registry);
        *registry = Arc::new(served::registry(&self.store, &self.declared, &before));
        let revision = self.store.revision();
        for gone in before.all().filter(|resource| !registry.contains(resource)) {
            gone.retire(revision);
            self.store.expire_watches(&gone.storage);
        }
    }

    /// Sets the store back to an older revision and ends every watch and connection.
    ///
    /// # Errors
    ///
    /// When the state at that revision is not known.
    pub(crate) fn rewind(&self, revision: u64) -> Result<(), Unknown> {
        self.store.rewind(revision)?;
        self.refresh_registry();
        self.cut();
        Ok(())
    }

    /// Ends every watch and every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Changes at each [`Self::cut`].
    pub(crate) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    /// Sends a bookmark to every watch that asked for bookmarks.
    pub(crate) fn send_bookmarks(&self) {
        self.nudges.send_modify(|count| *count += 1);
    }

    /// Changes at each [`Self::send_bookmarks`].
    pub(crate) fn nudges(&self) -> watch::Receiver<u64> {
        self.nudges.subscribe()
    }
}
