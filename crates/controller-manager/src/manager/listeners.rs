//! [`Listeners`]: the addresses of a manager, bound but not served yet.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::ManagerError;
use super::options::ManagerOptions;
use crate::bind_address::BindAddress;
use crate::http::{Limits, bind, serve};

/// Names of the listeners of the manager itself.
pub(super) const METRICS: &str = "metrics";
pub(super) const HEALTH: &str = "health";

/// A listener of the user.
pub(super) struct UserListener {
    pub(super) name: String,
    pub(super) address: BindAddress,
    pub(super) router: Router,
}

/// A bound address and what it will serve; the router of the manager's own listeners is made when they are served.
struct Bound {
    name: String,
    listener: TcpListener,
    router: Option<Router>,
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
        let user =
            user.into_iter().map(|UserListener { name, address, router }| (name, address, Some(router)));
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

    /// Serves everything until `close` is cancelled. Returns the tasks.
    pub(super) fn serve(self, metrics: &Router, health: &Router, close: &CancellationToken) -> TaskTracker {
        let servers = TaskTracker::new();
        for Bound { name, listener, router } in self.0 {
            let (router, limits) = match router {
                Some(router) => (router, Limits::USER),
                None if name == METRICS => (metrics.clone(), Limits::PROBES),
                None => (health.clone(), Limits::PROBES),
            };
            servers.spawn(serve(listener, router, limits, close.clone()));
        }
        servers.close();
        servers
    }
}
