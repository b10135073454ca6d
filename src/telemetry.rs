//! Logging of the process: one line an event on standard error, as JSON or as text.
//!
//! Called once by the `cli` module, before anything is started. This module imports nothing else of the crate.

use std::io::{self, IsTerminal as _};

use tracing::{Level, Subscriber};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Crates that tell at `info` what only their authors want to know. Held at `warn` unless the level is `debug`.
const NOISY: [&str; 10] = [
    "h2",
    "hyper",
    "hyper_util",
    "kube",
    "kube_client",
    "kube_runtime",
    "rustls",
    "rustls_platform_verifier",
    "tower",
    "tower_http",
];

/// Reports every failed request as an error and without its cause, many times while the API server is away. Whoever
/// sent the request gets the error with its cause, and says so where it matters; off unless the level is `debug`.
const CAUSELESS: &str = "kube_client::client::builder";

/// Shape of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object: `timestamp`, `level`, `target`, `message`, and the event's fields beside them.
    Json,
    /// For a person, in colours on a terminal.
    Text,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` is no list of directives.
    #[error(
        "RUST_LOG: invalid value {value:?}: {reason}; expected directives such as `info,sandbox_manager=debug`"
    )]
    Directives {
        /// The variable's value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else in this process has set up logging already.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Sends all events of at least `level` to standard error, for the rest of the process.
///
/// The environment variable `RUST_LOG`, if set and not empty, takes the place of `level`.
///
/// # Errors
///
/// When `RUST_LOG` is malformed, or logging has been set up before; nothing is changed then.
pub fn init(level: Level, format: Format) -> Result<(), TelemetryError> {
    let filter = filter(level, std::env::var("RUST_LOG").ok().as_deref())?;
    let failed = |_| TelemetryError::AlreadySet;
    match format {
        Format::Json => tracing::subscriber::set_global_default(json(filter, io::stderr)).map_err(failed),
        Format::Text => {
            let colours = io::stderr().is_terminal();
            let text =
                tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
            tracing::subscriber::set_global_default(text.finish()).map_err(failed)
        }
    }
}

fn filter(level: Level, directives: Option<&str>) -> Result<EnvFilter, TelemetryError> {
    if let Some(value) = directives.filter(|value| !value.is_empty()) {
        return EnvFilter::try_new(value).map_err(|error| TelemetryError::Directives {
            value: value.to_owned(),
            reason: error.to_string(),
        });
    }
    let quiet: String = match level {
        Level::INFO => NOISY.iter().flat_map(|name| [",", name, "=warn"]).collect(),
        _ => String::new(),
    };
    let causeless = match level {
        Level::DEBUG | Level::TRACE => String::new(),
        _ => format!(",{CAUSELESS}=off"),
    };
    Ok(EnvFilter::new(format!("{level}{quiet}{causeless}")))
}

fn json<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: Level, directives: Option<&str>, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json(filter(level, directives).unwrap(), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_one_json_line_with_its_fields() {
        let lines = logged(Level::INFO, None, || {
            tracing::info!(kind = "Sandbox", objects = 3, "two\nlines");
        });
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "two\nlines");
        assert_eq!(line["target"], module_path!());
        assert_eq!(line["kind"], "Sandbox");
        assert_eq!(line["objects"], 3);
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn libraries_are_quiet_unless_asked() {
        let noise = || {
            tracing::info!(target: "kube_client::client", "hidden");
            tracing::warn!(target: "kube_client::client", "shown");
        };
        assert_eq!(logged(Level::INFO, None, noise).len(), 1);
        assert_eq!(logged(Level::ERROR, None, noise).len(), 0);
        assert_eq!(logged(Level::DEBUG, None, noise).len(), 2);
        assert_eq!(logged(Level::ERROR, Some("kube_client=info"), noise).len(), 2);
        assert_eq!(logged(Level::INFO, Some(""), noise).len(), 1);
    }

    #[test]
    fn errors_without_a_cause_are_left_to_those_who_know_it() {
        let noise = || tracing::error!(target: CAUSELESS, "failed with error client error (Connect)");
        for (level, lines) in [(Level::ERROR, 0), (Level::INFO, 0), (Level::DEBUG, 1)] {
            assert_eq!(logged(level, None, noise).len(), lines, "{level}");
        }
        assert_eq!(logged(Level::INFO, Some("info"), noise).len(), 1);
    }

    #[test]
    fn malformed_directives_are_refused_by_name() {
        let error = filter(Level::INFO, Some("a=b=c")).unwrap_err().to_string();
        assert!(error.starts_with("RUST_LOG: invalid value \"a=b=c\": "), "{error}");
        assert!(error.ends_with("expected directives such as `info,sandbox_manager=debug`"), "{error}");
    }

    #[test]
    fn a_second_set_up_is_refused_and_does_not_panic() {
        // The first may fail too, when another test was here before.
        let _ = init(Level::ERROR, Format::Text);
        assert!(matches!(init(Level::ERROR, Format::Json), Err(TelemetryError::AlreadySet)));
    }
}
