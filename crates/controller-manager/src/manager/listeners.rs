//! [`Listeners`]: the addresses of a manager, bound but not served yet.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::ManagerError;
use super::options::ManagerOptions;
use crate::bind_address::BindAddress;
use crate::http::{Limits, ListenOptions, bind, serve, serve_on_own_thread};

/// Names of the listeners of the manager itself.
pub(super) const METRICS: &str = "metrics";
pub(super) const HEALTH: &str = "health";

/// A listener of the user.
pub(super) struct UserListener {
    pub(super) name: String,
    pub(super) address: BindAddress,
    pub(super) router: Router,
    pub(super) options: ListenOptions,
}

/// A bound address and what it will serve; the router of the manager's own listeners is made when they are served.
struct Bound {
    name: String,
    listener: TcpListener,
    router: Option<(Router, ListenOptions)>,
}

/// The addresses of a manager. An address that is off is not among them.
pub(super) struct Listeners(Vec<Bound>);

impl Listeners {
    /// Binds all addresses.
    pub(super) async fn bind(
        options: &ManagerOptions,
        user: Vec<UserListener>,
    ) -> Result<Self, ManagerError> {
        let own = [(METRICS, &options.metrics_address), (HEALTH, &options.health_address)];
        let own = own.map(|(name, address)| (name.to_owned(), address.clone(), None));
        let user = user
            .into_iter()
            .map(|UserListener { name, address, router, options }| (name, address, Some((router, options))));
        let all: Vec<_> = own.into_iter().chain(user).collect();
        let mut names: Vec<_> = all.iter().map(|(name, ..)| name).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ManagerError::NameInUse { what: "listeners", name: pair[0].clone() });
        }
        let mut bound = Vec::new();
        for (name, address, router) in all {
            if let Some(listener) = bind(&name, &address).await? {
                bound.push(Bound { name, listener, router });
            }
        }
        Ok(Self(bound))
    }

    /// The address of a listener by its name.
    pub(super) fn address(&self, name: &str) -> Option<SocketAddr> {
        self.0.iter().find(|bound| bound.name == name)?.listener.local_addr().ok()
    }

    /// Serves everything until `close` is cancelled; the health on a thread of its own. Returns the tasks.
    ///
    /// # Errors
    ///
    /// [`ManagerError::Thread`].
    pub(super) async fn serve(
        self,
        metrics: &Router,
        health: &Router,
        close: &CancellationToken,
    ) -> Result<TaskTracker, ManagerError> {
        let servers = TaskTracker::new();
        for Bound { name, listener, router } in self.0 {
            match router {
                Some((router, options)) => {
                    servers.spawn(serve(listener, router, Limits::user(options), close.clone()))
                }
                None if name == METRICS => {
                    servers.spawn(serve(listener, metrics.clone(), Limits::probes(), close.clone()))
                }
                None => {
                    let (router, close) = (health.clone(), close.clone());
                    let served = serve_on_own_thread(&name, listener, router, Limits::probes(), close).await;
                    servers.spawn(served.map_err(ManagerError::Thread)?)
                }
            };
        }
        servers.close();
        Ok(servers)
    }
}
