//! Logging of the process: one line per event on standard error, as JSON or as text.
//!
//! A program calls [`init`] once, before it starts anything.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use tracing::{Level, Subscriber};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// Crates whose `info` events are of use to their authors only. They log at `warn` unless the level is `debug`.
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

/// This module logs every failed request as an error without its cause, many times while the API server is away. The
/// caller that sent the request gets the error with its cause and logs it. Off unless the level is `debug`.
const CAUSELESS: &str = "kube_client::client::builder";

/// Format of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object: `timestamp`, `level`, `target`, `message`, and the fields of the event beside them.
    Json,
    /// Text, with colours on a terminal.
    Text,
}

/// Selects the events that are logged. Prints itself as directives.
#[derive(Debug)]
pub struct Filter(EnvFilter);

/// The reason why a text is no list of directives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {value:?}: {reason}; expected directives such as `info,hyper=debug`")]
pub struct DirectivesError {
    /// The text as given.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The reason why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// Another part of this process has set up logging.
    #[error("logging is set up already")]
    AlreadySet,
}

impl Filter {
    /// Selects events of at least `level`, of noisy libraries only those that matter to a user of this program.
    #[must_use]
    pub fn from_level(level: Level) -> Self {
        let quiet: String = match level {
            Level::INFO => NOISY.iter().flat_map(|name| [",", name, "=warn"]).collect(),
            _ => String::new(),
        };
        let causeless = match level {
            Level::DEBUG | Level::TRACE => String::new(),
            _ => format!(",{CAUSELESS}=off"),
        };
        Self(EnvFilter::new(format!("{level}{quiet}{causeless}")))
    }

    /// Selects events by directives, in the syntax of the environment variable `RUST_LOG`. This function does not read
    /// the variable.
    ///
    /// # Errors
    ///
    /// The text is no list of directives.
    pub fn parse(directives: &str) -> Result<Self, DirectivesError> {
        let rejected = |reason| DirectivesError { value: directives.to_owned(), reason };
        EnvFilter::try_new(directives).map(Self).map_err(|error| rejected(error.to_string()))
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Logs the events that `filter` selects to standard error, for the rest of the process.
///
/// # Errors
///
/// Logging was set up before. The call changes nothing then.
pub fn init(filter: Filter, format: Format) -> Result<(), TelemetryError> {
    let failed = |_| TelemetryError::AlreadySet;
    match format {
        Format::Json => tracing::subscriber::set_global_default(json(filter, io::stderr)).map_err(failed),
        Format::Text => {
            let colours = io::stderr().is_terminal();
            let text = tracing_subscriber::fmt()
                .with_env_filter(filter.0)
                .with_writer(io::stderr)
                .with_ansi(colours);
            tracing::subscriber::set_global_default(text.finish()).map_err(failed)
        }
    }
}

fn json<W>(filter: Filter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter.0)
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

    fn logged(filter: Filter, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json(filter, move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_event_is_one_json_line_with_its_fields() {
        let lines = logged(Filter::from_level(Level::INFO), || {
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
        assert_eq!(logged(Filter::from_level(Level::INFO), noise).len(), 1);
        assert_eq!(logged(Filter::from_level(Level::ERROR), noise).len(), 0);
        assert_eq!(logged(Filter::from_level(Level::DEBUG), noise).len(), 2);
        assert_eq!(logged(Filter::parse("kube_client=info").unwrap(), noise).len(), 2);
    }

    #[test]
    fn errors_without_a_cause_are_not_logged_by_default() {
        let noise = || tracing::error!(target: CAUSELESS, "failed with error client error (Connect)");
        for (level, lines) in [(Level::ERROR, 0), (Level::INFO, 0), (Level::DEBUG, 1)] {
            assert_eq!(logged(Filter::from_level(level), noise).len(), lines, "{level}");
        }
        assert_eq!(logged(Filter::parse("info").unwrap(), noise).len(), 1);
    }

    #[test]
    fn malformed_directives_are_refused() {
        let error = Filter::parse("a=b=c").unwrap_err().to_string();
        assert!(error.starts_with("invalid value \"a=b=c\": "), "{error}");
        assert!(error.ends_with("expected directives such as `info,hyper=debug`"), "{error}");
    }

    #[test]
    fn a_second_set_up_is_refused_and_does_not_panic() {
        let filter = || Filter::from_level(Level::ERROR);
        // The first call fails too if another test of this process has set up logging.
        let _ = init(filter(), Format::Text);
        assert!(matches!(init(filter(), Format::Json), Err(TelemetryError::AlreadySet)));
    }
}
