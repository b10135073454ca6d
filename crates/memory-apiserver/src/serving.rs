//! [`ApiServer::serve`]: the server on a TCP port, and [`Serving`], which stops when it is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::Kubeconfig;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ApiServer;
use super::access::User;
use super::serve::{self, Identity};

impl ApiServer {
    /// Serves programs that are not this one, over TCP, until what is returned is dropped. Port 0 takes a free one.
    ///
    /// Clients need a token and the certificate, which [`Serving::kubeconfig`] gives them. It is for loopback and
    /// for the first address that this server listens on.
    ///
    /// # Errors
    ///
    /// When the address can't be listened on.
    pub async fn serve(&self, address: SocketAddr) -> io::Result<Serving> {
        let (listener, address) = serve::bind(address).await?;
        let identity = self.server.identity(address)?;
        let stop = CancellationToken::new();
        let served = serve::serve(Arc::clone(&self.server), listener, Arc::clone(&identity), stop.clone());
        Ok(Serving {
            api: self.clone(),
            address,
            identity,
            stop: stop.drop_guard(),
            ended: tokio::spawn(served),
        })
    }
}

/// A server that listens. Dropping it breaks every connection off; the objects stay.
pub struct Serving {
    api: ApiServer,
    address: SocketAddr,
    identity: Arc<Identity>,
    stop: DropGuard,
    ended: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as clients are told.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// What a client needs that may do everything, with a new token.
    #[must_use]
    pub fn kubeconfig(&self) -> Kubeconfig {
        self.kubeconfig_of(User::admin())
    }

    /// What a client of a user needs who may do what roles and bindings grant, with a new token.
    #[must_use]
    pub fn kubeconfig_for(&self, user: &str) -> Kubeconfig {
        self.kubeconfig_of(User::named(user))
    }

    fn kubeconfig_of(&self, user: User) -> Kubeconfig {
        let name = user.name.clone();
        let token = self.api.server.access.issue(user);
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

    /// Stops listening, breaks every connection off, and returns once the port is free again.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic of the task would have ended it just as well.
        let _ = self.ended.await;
    }
}
