//! [`ApiServer::listen`]: the server on a TCP port, until its [`Serving`] is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::Kubeconfig;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::access::User;
use super::api_server::ApiServer;
use super::serve;
use super::tls::Identity;

impl ApiServer {
    /// Serves other programs over TCP and TLS until the returned [`Serving`] is dropped. Port 0 takes a free port.
    ///
    /// Clients need a token and the certificate, which are in [`Serving::kubeconfig`]. The certificate is valid for
    /// loopback and for the first address that this server listens on.
    ///
    /// # Errors
    ///
    /// If the server cannot listen on the address.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Serving> {
        let (listener, address) = serve::bind(address).await?;
        let identity = self.identity(address)?;
        let stop = CancellationToken::new();
        let served = serve::serve(Arc::clone(&self.state), listener, Arc::clone(&identity), stop.clone());
        Ok(Serving {
            api: self.clone(),
            address,
            identity,
            stop: stop.drop_guard(),
            ended: tokio::spawn(served),
        })
    }

    /// The identity of the server, created when it first listens.
    fn identity(&self, address: SocketAddr) -> io::Result<Arc<Identity>> {
        let mut identity = self.state.identity.lock();
        match &*identity {
            Some(known) => Ok(Arc::clone(known)),
            None => Ok(Arc::clone(identity.insert(Arc::new(Identity::new(address)?)))),
        }
    }
}

/// A server that listens. Dropping it breaks every connection; the objects stay.
pub struct Serving {
    api: ApiServer,
    address: SocketAddr,
    identity: Arc<Identity>,
    stop: DropGuard,
    ended: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// A kubeconfig of a user who may do everything, with a new token.
    #[must_use]
    pub fn kubeconfig(&self) -> Kubeconfig {
        self.kubeconfig_of(User::admin())
    }

    /// A kubeconfig of a user who may do what roles and bindings grant to that name, with a new token.
    #[must_use]
    pub fn kubeconfig_as(&self, user: &str) -> Kubeconfig {
        self.kubeconfig_of(User::named(user))
    }

    fn kubeconfig_of(&self, user: User) -> Kubeconfig {
        let name = user.name.clone();
        let token = self.api.state.access.issue(user);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "dev",
            "clusters": [{"name": "dev", "cluster": {
                "server": self.url(),
                "certificate-authority-data": STANDARD.encode(&self.identity.certificate),
            }}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "dev", "context": {"cluster": "dev", "user": name, "namespace": "default"}}],
        });
        serde_json::from_value(config).unwrap_or_default()
    }

    /// Stops listening, breaks every connection, and returns once the port is free again.
    pub async fn stop(self) {
        drop(self.stop);
        // If the task panicked, it has ended, too.
        let _ = self.ended.await;
    }
}
