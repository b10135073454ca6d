//! [`fenced_client`]: a client that writes only while this process leads.
//!
//! A write is checked twice. The client of a handler checks it when it is sent, and names the fence in the request. The
//! client of a [`Connector`](crate::Connector) checks it again behind the rate limit, just before it leaves: a process
//! that was stopped while writes waited for the rate limit would otherwise send these first when it goes on.
//!
//! A write that waits for its answer when the fence shuts is dropped: its caller gets [`NotLeader`](super::NotLeader).
//!
//! # What is not protected
//!
//! The last check is made when a write is handed to its connection, which sends it in a task of its own. If the process
//! is stopped just then, that task may send the write when the process goes on, before it learns that the write was
//! dropped. The network may delay a write as well. So a write may be executed late, by at most one pause or delay.
//! The lease duration leaves time for this: the part of it after the renew deadline. A write that must not be executed
//! later than that needs a precondition, such as a `resourceVersion`.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::TryFutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use tower::{BoxError, Layer, Service, service_fn};

use super::fence::Fence;

/// Returns a client for the same API server whose writes are refused while the fence is shut. Reads pass.
///
/// Must be called on a tokio runtime.
pub(crate) fn fenced_client(client: &Client, fence: &Fence) -> Client {
    let (inner, fence) = (client.clone(), fence.clone());
    let service = service_fn(move |mut request: Request<Body>| {
        let (client, fence) = (inner.clone(), fence.clone());
        async move {
            if is_read(request.method()) {
                return client.send(request).err_into().await;
            }
            request.extensions_mut().insert(fence.clone());
            while_open(&fence, || client.send(request)).await
        }
    });
    Client::new(service, client.default_namespace()).with_valid_until(*client.valid_until())
}

/// Checks the fence that a request names. Requests that name none pass.
pub(crate) struct FenceLayer;

impl<S> Layer<S> for FenceLayer {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner }
    }
}

/// A service that refuses requests whose fence is shut.
pub(crate) struct Fenced<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Fenced<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(fence) = request.extensions().get::<Fence>().cloned() else {
            return self.inner.call(request).err_into().boxed();
        };
        if let Err(refused) = fence.check() {
            return std::future::ready(Err(refused.into())).boxed();
        }
        let response = self.inner.call(request);
        async move { while_open(&fence, || response).await }.boxed()
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Runs a request while the fence is open. The clock is read each time before the request is polled, not only when a timer
/// fires: after a pause of the process, nothing says which of two tasks runs first.
async fn while_open<F, T, E>(fence: &Fence, send: impl FnOnce() -> F) -> Result<T, BoxError>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    fence.check()?;
    let (mut response, mut shut) = (pin!(send()), pin!(fence.wait_until_shut()));
    poll_fn(|cx| {
        let is_shut = shut.as_mut().poll(cx).is_ready();
        fence.check().map_err(BoxError::from)?;
        // The fence was opened again between the two lines above, so `shut` needs to be asked anew.
        if is_shut {
            shut.set(fence.wait_until_shut());
            cx.waker().wake_by_ref();
        }
        response.as_mut().poll(cx).map_err(Into::into)
    })
    .await
}
