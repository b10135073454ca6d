//! What the listeners of the manager serve.

use std::sync::Arc;

use axum::{Router, middleware};
use shared_cache::SharedCache;
use tokio::runtime::Handle;

use super::body::reject_body;
use super::health::HealthSource;
use super::own_thread::on_runtime;
use super::{debug, health, metrics};
use crate::metrics::Metrics;

/// `/livez`, `/healthz`, `/readyz`; with a cache `/debug/cache` too; everything else is answered by `user_routes`. All
/// but the probes run on `runtime`.
pub(crate) fn health_router(
    runtime: Handle,
    health: Arc<dyn HealthSource>,
    debug: Option<SharedCache>,
    user_routes: Option<Router>,
) -> Router {
    let probes = health::router(health).layer(middleware::from_fn(reject_body));
    let others = debug.map_or_else(Router::new, debug::router).layer(middleware::from_fn(reject_body));
    let others = match user_routes {
        // As a fallback, since merging a route that exists twice panics.
        Some(user_routes) => others.fallback_service(user_routes),
        None => others,
    };
    probes.fallback_service(on_runtime(others, runtime))
}

/// `/metrics`.
pub(crate) fn metrics_router(metrics: Metrics) -> Router {
    metrics::router(metrics).layer(middleware::from_fn(reject_body))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header::CONTENT_LENGTH;
    use axum::http::{Request, StatusCode};
    use axum::routing::{get, post};
    use tower::ServiceExt;

    use super::super::health::Check;
    use super::super::test_support;
    use super::*;

    struct Healthy;

    impl HealthSource for Healthy {
        fn live(&self) -> Vec<Check> {
            Vec::new()
        }

        fn ready(&self) -> Vec<Check> {
            Vec::new()
        }
    }

    #[tokio::test]
    async fn a_request_body_is_rejected() {
        let router = metrics_router(Metrics::new().unwrap());
        let request = Request::get("/metrics").header(CONTENT_LENGTH, 5).body(Body::from("hello")).unwrap();
        assert_eq!(router.oneshot(request).await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn routes_of_the_user_are_served_beside_the_probes_and_may_take_a_body() {
        let user_routes = Router::new()
            .route("/echo", post(async |body: String| body))
            .route("/livez", get(async || "not this one"));
        let router = health_router(Handle::current(), Arc::new(Healthy), None, Some(user_routes));
        assert_eq!(test_support::get(&router, "/livez").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(test_support::get(&router, "/none").await.0, StatusCode::NOT_FOUND);
        let request = Request::post("/echo").header(CONTENT_LENGTH, 5).body(Body::from("hello")).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, "hello");
    }
}
