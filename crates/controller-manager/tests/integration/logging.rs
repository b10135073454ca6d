//! What is logged. The subscriber is that of the whole test process, so lines are told apart by the controller.

use std::io::{self, Write};
use std::sync::Arc;

use controller_manager::shared_cache::{SharedCache, Watch};
use controller_manager::{CancellationToken, Manager, ManagerOptions, Observed};
use k8s_openapi::api::core::v1::ConfigMap;
use memory_apiserver::ApiServer;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tracing_subscriber::fmt::MakeWriter;

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<String>>,
    written: Arc<Notify>,
}

impl Log {
    /// Waits for a line that contains all these texts.
    async fn line(&self, parts: &[&str]) -> String {
        loop {
            let written = self.written.notified();
            if let Some(line) =
                self.text.lock().lines().find(|line| parts.iter().all(|part| line.contains(part)))
            {
                return line.to_owned();
            }
            written.await;
        }
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.text.lock().push_str(&String::from_utf8_lossy(text));
        self.written.notify_waiters();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write the pod")]
struct Outer(#[source] io::Error);

#[tokio::test]
async fn x2_an_error_is_logged_with_its_causes_in_a_span_that_names_the_key() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let server = ApiServer::new();
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": "a"}});
    server.load(&map).unwrap();
    let cache = SharedCache::builder(server.client()).kind::<ConfigMap>(Watch::all()).build().unwrap();
    let mut manager = Manager::builder(cache, ManagerOptions::default()).build().unwrap();
    manager
        .controller::<ConfigMap>("failing")
        .handler(|_: Observed<ConfigMap>| async { Err(Outer(io::Error::other("disk full")).into()) });
    let stop = CancellationToken::new();
    let running = tokio::spawn(manager.run(stop.clone()));
    let line = log.line(&["reconcile failed", "controller=\"failing\""]).await;
    for part in [
        "WARN",
        "namespace=\"default\"",
        "name=\"a\"",
        "reconcile_id=",
        "error=\"cannot write the pod: disk full\"",
    ] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
