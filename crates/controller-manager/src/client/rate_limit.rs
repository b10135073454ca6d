//! [`RateLimit`]: limits the rate at which requests to the API server start, as client-go does it, by a token bucket.
//!
//! A request waits in `poll_ready`, before kube's client hands over the next one. So requests start in the order in
//! which they were made, and one timer runs however many wait. The clock is that of tokio, so a test may pause it.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::{Instant, Sleep};
use tower::{Layer, Service};

/// Time since the limiter was created, by the clock of tokio.
#[derive(Clone, Debug)]
struct TokioClock {
    start: Instant,
}

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A token bucket that several clients, or other callers, may share.
pub struct RateLimit {
    /// `None`: no limit.
    bucket: Option<RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>>,
}

impl RateLimit {
    /// Creates a bucket of `burst` tokens that gains `per_second` each second. There is no limit if either is 0.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let quota = NonZeroU32::new(per_second)
            .zip(NonZeroU32::new(burst))
            .map(|(per_second, burst)| Quota::per_second(per_second).allow_burst(burst));
        let clock = || TokioClock { start: Instant::now() };
        Self { bucket: quota.map(|quota| RateLimiter::direct_with_clock(quota, clock())) }
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// If there is none: how long to wait until there may be one.
    pub fn take(&self) -> Result<(), Duration> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        bucket.check().map_err(|until| until.wait_time_from(bucket.clock().now()))
    }
}

impl std::fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RateLimit").field("is_limited", &self.bucket.is_some()).finish()
    }
}

/// Puts a [`RateLimit`] before a service.
pub(crate) struct RateLimitLayer {
    limit: Arc<RateLimit>,
}

impl RateLimitLayer {
    pub(super) fn new(limit: Arc<RateLimit>) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimited<S>;

    fn layer(&self, inner: S) -> RateLimited<S> {
        RateLimited { inner, limit: self.limit.clone(), has_token: false, wait: None }
    }
}

/// A service that is ready once a token has been taken for the next request.
pub(crate) struct RateLimited<S> {
    inner: S,
    limit: Arc<RateLimit>,
    /// Readiness may be asked for more often than requests are made, so the token is kept.
    has_token: bool,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S: Service<R>, R> Service<R> for RateLimited<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        while !self.has_token {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.limit.take() {
                Ok(()) => self.has_token = true,
                Err(wait) => self.wait = Some(Box::pin(tokio::time::sleep(wait))),
            }
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.has_token = false;
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt, service_fn};

    use super::*;

    /// Seconds of tokio's paused clock at which each of `requests` could start.
    async fn starts(per_second: u32, burst: u32, requests: usize) -> Vec<u64> {
        let layer = RateLimitLayer::new(Arc::new(RateLimit::new(per_second, burst)));
        let mut service = layer.layer(service_fn(|()| async { Ok::<_, Infallible>(()) }));
        let start = Instant::now();
        let mut starts = Vec::new();
        for _ in 0..requests {
            service.ready().await.unwrap().call(()).await.unwrap();
            starts.push(start.elapsed().as_secs());
        }
        starts
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_starts_at_once_and_the_rest_at_the_rate() {
        assert_eq!(starts(1, 3, 6).await, [0, 0, 0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit() {
        assert_eq!(starts(0, 1, 1000).await, [0; 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_for_readiness_twice_takes_one_token() {
        let layer = RateLimitLayer::new(Arc::new(RateLimit::new(1, 1)));
        let mut service = layer.layer(service_fn(|()| async { Ok::<_, Infallible>(()) }));
        service.ready().await.unwrap();
        service.ready().await.unwrap().call(()).await.unwrap();
        assert!(futures::poll!(Box::pin(service.ready())).is_pending());
    }
}
