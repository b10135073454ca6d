//! The metrics of one process (or one test): a registry of its own and the families that belong to no other part.
//!
//! Never the library's global registry: two managers in one process must not meet. Other parts register their own
//! families through [`Metrics::registry`] when they are built. Of the crate this module imports only the version.

use std::sync::Arc;

use prometheus::{Encoder as _, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::version::{REVISION, VERSION};

/// Content type of what [`Metrics::render`] yields.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry and the families of the process itself. Clones share both.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: IntCounterVec,
}

/// Why metrics could not be set up or shown.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A family of that name is there already, or its name or labels are malformed.
    #[error("cannot register a metric: {0}")]
    Register(#[source] prometheus::Error),
    /// A family cannot be written in the text format.
    #[error("cannot write the metrics: {0}")]
    Render(#[source] prometheus::Error),
}

impl Metrics {
    /// A new registry with `process_*`, `sandbox_manager_build_info` and `rest_client_requests_total`.
    ///
    /// # Errors
    ///
    /// None is known; what registration says is handed on.
    pub fn new() -> Result<Self, MetricsError> {
        Self::build().map_err(MetricsError::Register)
    }

    fn build() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;

        let build = IntGaugeVec::new(
            Opts::new("sandbox_manager_build_info", "Always 1; its labels tell which build is running."),
            &["version", "revision"],
        )?;
        build.with_label_values(&[VERSION, REVISION]).set(1);
        registry.register(Box::new(build))?;

        let requests = IntCounterVec::new(
            Opts::new(
                "rest_client_requests_total",
                "Requests to the API server by HTTP status, method and host; code <error>: no answer came.",
            ),
            &["code", "method", "host"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { inner: Arc::new(Inner { registry, requests }) })
    }

    /// Where further families are registered.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// `rest_client_requests_total{code,method,host}`, which the client counts.
    #[must_use]
    pub fn rest_client_requests(&self) -> &IntCounterVec {
        &self.inner.requests
    }

    /// Every family in the Prometheus text format.
    ///
    /// # Errors
    ///
    /// When a family cannot be written, such as one without a name.
    pub fn render(&self) -> Result<Vec<u8>, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.inner.registry.gather(), &mut text).map_err(MetricsError::Render)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    #[test]
    fn process_and_build_are_shown_from_the_start() {
        let text = rendered(&Metrics::new().unwrap());
        let build = format!("sandbox_manager_build_info{{revision=\"{REVISION}\",version=\"{VERSION}\"}} 1");
        assert!(text.contains(&build), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
    }

    #[test]
    fn two_instances_share_nothing_and_clones_everything() {
        let one = Metrics::new().unwrap();
        let other = Metrics::new().unwrap();
        one.clone().rest_client_requests().with_label_values(&["200", "GET", "a:443"]).inc();
        let line = "rest_client_requests_total{code=\"200\",host=\"a:443\",method=\"GET\"} 1";
        assert!(rendered(&one).contains(line));
        assert!(!rendered(&other).contains(line));
    }
}
