//! [`Transport`]: sends the requests of a client, with credentials and certificates that are current.
//!
//! A kube client keeps the credentials it was built of. So the transport builds a new kube client when the credentials
//! have changed. Requests that are on their way, such as watches, keep the old connections; every later request uses
//! the new client.

use std::error::Error;
use std::iter;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use kube::client::Body;
use kube::{Client, Config};
use parking_lot::Mutex;
use shared_cache::{NotSent, error_text};
use tokio::runtime::Handle;
use tower::Service;

use super::credential_store::{CredentialStore, Current};
use super::tls_problem::{explained, explained_build};

/// Builds a client of a configuration that refers to no file.
type Build = Box<dyn Fn(Config) -> kube::Result<Client> + Send + Sync>;

/// A service for requests. Cheap to clone: all clones use the same client.
#[derive(Clone)]
pub(super) struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<CredentialStore>,
    build: Build,
    /// Named if a certificate is rejected.
    proxy: Option<Uri>,
    /// The connections belong to the runtime on which the transport was created, whoever sends.
    runtime: Handle,
    built: Mutex<Built>,
}

struct Built {
    client: Client,
    /// The newest credentials of which a client was built, or could not be built.
    generation: u64,
}

impl Transport {
    /// Builds the first client, on the current runtime.
    pub(super) fn new(store: Arc<CredentialStore>, build: Build) -> kube::Result<Self> {
        let current = store.latest();
        let config = store.config(&current);
        let proxy = config.proxy_url.clone();
        let client = build(config).map_err(explained_build)?;
        let state = Mutex::new(Built { client, generation: current.generation });
        let shared = Shared { store, build, proxy, runtime: Handle::current(), built: state };
        Ok(Self { shared: Arc::new(shared) })
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        async move { shared.send(request).await }.boxed()
    }
}

impl Shared {
    /// Sends a request. After a 401 it is sent once more if there are other credentials by then, and its body is in
    /// memory. Cancelling drops the request; a renewal of the credentials that it began goes on.
    async fn send(&self, request: Request<Body>) -> kube::Result<Response<Body>> {
        let copy = copy(&request);
        let current = self.store.current().await;
        match self.client(&current).send(request).await {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                match (self.store.after_unauthorized(current.generation).await, copy) {
                    (Some(renewed), Some(copy)) => {
                        self.client(&renewed).send(copy).await.map_err(|error| self.explained(error))
                    }
                    _ => Ok(response),
                }
            }
            Ok(response) => Ok(response),
            Err(error) => {
                self.store.check_files();
                Err(self.explained(error))
            }
        }
    }

    /// Returns a client with these credentials or newer ones. If no client can be built of them, the client stays as it
    /// is until they change again.
    fn client(&self, current: &Current) -> Client {
        let mut built = self.built.lock();
        if built.generation < current.generation {
            built.generation = current.generation;
            let _entered = self.runtime.enter();
            match (self.build)(self.store.config(current)).map_err(explained_build) {
                Ok(client) => built.client = client,
                Err(error) => {
                    let error = error_text(&error);
                    self.store.reject(current);
                    tracing::warn!(error, "cannot use the new credentials; the old ones stay in use");
                }
            }
        }
        built.client.clone()
    }

    fn explained(&self, error: kube::Error) -> kube::Error {
        explained(marked(error), self.proxy.as_ref())
    }
}

/// Marks an error if there was no connection to send the request on. The client does not repeat requests after an answer,
/// except after a 401, which the API server sends before it does anything.
///
/// A connection that ends before the request was written is not marked: the HTTP client does not tell when that was.
fn marked(error: kube::Error) -> kube::Error {
    match error {
        kube::Error::Service(cause) if is_without_connection(&*cause) => {
            kube::Error::Service(Box::new(NotSent::new(cause)))
        }
        error => error,
    }
}

fn is_without_connection(error: &(dyn Error + 'static)) -> bool {
    let mut chain = iter::successors(Some(error), |error| (*error).source());
    chain.find_map(|error| error.downcast_ref::<legacy::Error>()).is_some_and(legacy::Error::is_connect)
}

/// Copies a request whose body is in memory.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}
