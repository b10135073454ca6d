//! [`Metrics`]: the registry of one manager, and the families that belong to no other part.

use std::sync::Arc;

use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

/// Content type of the text that [`Metrics::render`] returns.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry with the metrics of the process and of its client. Clones share both.
///
/// It is never the global registry of the library, so a process may have two managers.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    registry: Registry,
    requests: IntCounterVec,
}

/// Why metrics could not be registered or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// A family of that name exists already, or its name or labels are malformed.
    #[error("cannot register a metric: {0}")]
    Register(#[source] prometheus::Error),
    /// A family cannot be written in the text format.
    #[error("cannot write the metrics: {0}")]
    Render(#[source] prometheus::Error),
}

impl Metrics {
    /// Creates a registry with `process_*` and `rest_client_requests_total`.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Register`]; no case is known.
    pub fn new() -> Result<Self, MetricsError> {
        Self::build().map_err(MetricsError::Register)
    }

    fn build() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let requests = IntCounterVec::new(
            Opts::new(
                "rest_client_requests_total",
                "Number of requests to the API server, by HTTP status, method and host. The code <error> counts requests without an answer.",
            ),
            &["code", "method", "host"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        Ok(Self { inner: Arc::new(Inner { registry, requests }) })
    }

    /// Adds `<prefix>_build_info`, whose labels name the version and the revision of the program.
    ///
    /// # Errors
    ///
    /// [`MetricsError::Register`] when called twice, or if the prefix is not a valid part of a metric name.
    pub fn add_build_info(&self, prefix: &str, version: &str, revision: &str) -> Result<(), MetricsError> {
        let opts = Opts::new(
            format!("{prefix}_build_info"),
            "Always 1. The labels name the version and the revision of the program.",
        );
        let build = IntGaugeVec::new(opts, &["version", "revision"]).map_err(MetricsError::Register)?;
        build.with_label_values(&[version, revision]).set(1);
        self.inner.registry.register(Box::new(build)).map_err(MetricsError::Register)
    }

    /// The registry, for further families.
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
    /// [`MetricsError::Render`], for instance for a family without a name.
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
    fn process_and_build_are_shown() {
        let metrics = Metrics::new().unwrap();
        metrics.add_build_info("program", "1.2.3", "abc").unwrap();
        let text = rendered(&metrics);
        assert!(text.contains("program_build_info{revision=\"abc\",version=\"1.2.3\"} 1"), "{text}");
        assert!(text.contains("process_resident_memory_bytes "), "{text}");
        assert!(metrics.add_build_info("program", "1.2.3", "abc").is_err());
        assert!(metrics.add_build_info("no name", "1.2.3", "abc").is_err());
    }

    #[test]
    fn two_instances_share_nothing_and_clones_share_everything() {
        let one = Metrics::new().unwrap();
        let other = Metrics::new().unwrap();
        one.clone().rest_client_requests().with_label_values(&["200", "GET", "a:443"]).inc();
        let line = "rest_client_requests_total{code=\"200\",host=\"a:443\",method=\"GET\"} 1";
        assert!(rendered(&one).contains(line));
        assert!(!rendered(&other).contains(line));
    }
}
