//! [`CountLayer`]: counts the requests to the API server by their answer.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use prometheus::IntCounterVec;
use tower::{Layer, Service};

/// Counts requests by HTTP status, method and host. A watch counts when its answer begins.
pub(super) struct CountLayer {
    requests: IntCounterVec,
    host: Arc<str>,
}

impl CountLayer {
    pub(super) fn new(requests: IntCounterVec, host: impl Into<Arc<str>>) -> Self {
        Self { requests, host: host.into() }
    }
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, requests: self.requests.clone(), host: self.host.clone() }
    }
}

/// A service whose requests are counted.
pub(super) struct Count<S> {
    inner: S,
    requests: IntCounterVec,
    host: Arc<str>,
}

impl<S, B> Service<Request<Body>> for Count<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (requests, host, method) = (self.requests.clone(), self.host.clone(), request.method().clone());
        let counted = self.inner.call(request).inspect(move |answer| {
            let status = answer.as_ref().map(Response::status);
            let code = status.as_ref().map_or("<error>", |status| status.as_str());
            requests.with_label_values(&[code, method.as_str(), &host]).inc();
        });
        counted.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn answers_and_failures_are_counted_by_code_method_and_host() {
        let metrics = Metrics::new().unwrap();
        let layer = CountLayer::new(metrics.rest_client_requests().clone(), "h:443");
        let answering = service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::builder().status(404).body(()).unwrap())
        });
        let failing = service_fn(|_: Request<Body>| async { Err::<Response<()>, _>("reset") });
        layer.layer(answering).oneshot(Request::new(Body::empty())).await.unwrap();
        layer.layer(failing).oneshot(Request::new(Body::empty())).await.unwrap_err();
        for code in ["404", "<error>"] {
            assert_eq!(metrics.rest_client_requests().with_label_values(&[code, "GET", "h:443"]).get(), 1);
        }
    }
}
