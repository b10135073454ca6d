//! `/livez`, `/healthz` and `/readyz`, as Kubernetes components answer them.
//!
//! 200 and `ok`, or 503 and the list of checks. `?verbose` lists the checks in either case, `?exclude=NAME` leaves a
//! check out and may be repeated, and `/readyz/NAME` answers for one check. Other than in Kubernetes the list says why
//! a check fails: it is served inside the cluster only, and contains no secret.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// One check of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// Name, such as `informer/pods`.
    pub(crate) name: String,
    pub(crate) status: CheckStatus,
}

/// The result of a check. Texts are one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckStatus {
    Ok,
    /// As `Ok`, with something to know.
    OkWith(String),
    /// Listed, but the probe does not fail.
    Degraded(String),
    Failed(String),
}

impl From<Result<(), String>> for CheckStatus {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Ok)
    }
}

/// The checks of a process. Called for each request, so the answers must come from memory.
pub(crate) trait HealthSource: Send + Sync {
    /// Checks whose failure a restart would repair.
    fn live(&self) -> Vec<Check>;
    /// Checks that must succeed before others rely on this process.
    fn ready(&self) -> Vec<Check>;
}

type Source = Arc<dyn HealthSource>;
type Parameters = Query<Vec<(String, String)>>;

#[derive(Clone, Copy)]
enum Probe {
    Livez,
    Healthz,
    Readyz,
}

impl Probe {
    fn name(self) -> &'static str {
        match self {
            Self::Livez => "livez",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
        }
    }

    fn checks(self, source: &dyn HealthSource) -> Vec<Check> {
        match self {
            Self::Livez | Self::Healthz => source.live(),
            Self::Readyz => source.ready(),
        }
    }
}

pub(super) fn router(source: Source) -> Router {
    let mut router = Router::new();
    for probe in [Probe::Livez, Probe::Healthz, Probe::Readyz] {
        let all = move |State(source): State<Source>, Query(parameters): Parameters| async move {
            answer(probe, probe.checks(&*source), &parameters)
        };
        // Names contain slashes, hence the wildcard.
        let one = move |State(source): State<Source>,
                        Path(name): Path<String>,
                        Query(parameters): Parameters| async move {
            match probe.checks(&*source).into_iter().find(|check| check.name == name) {
                Some(check) => answer(probe, vec![check], &parameters),
                None => text(StatusCode::NOT_FOUND, format!("there is no check {name:?}\n")),
            }
        };
        let name = probe.name();
        router = router.route(&format!("/{name}"), get(all)).route(&format!("/{name}/{{*check}}"), get(one));
    }
    router.with_state(source)
}

fn answer(probe: Probe, checks: Vec<Check>, parameters: &[(String, String)]) -> Response {
    let mut excluded: Vec<&str> =
        parameters.iter().filter(|(name, _)| name == "exclude").map(|(_, value)| value.as_str()).collect();
    let verbose = parameters.iter().any(|(name, _)| name == "verbose");
    let mut list = String::new();
    let mut failed = false;
    for Check { name, status } in checks {
        // Writing to a String cannot fail.
        let _ = match status {
            _ if excluded.contains(&name.as_str()) => {
                excluded.retain(|excluded| *excluded != name);
                writeln!(list, "[+]{name} excluded: ok")
            }
            CheckStatus::Ok => writeln!(list, "[+]{name} ok"),
            CheckStatus::OkWith(text) => writeln!(list, "[+]{name} ok: {text}"),
            CheckStatus::Degraded(reason) => writeln!(list, "[~]{name} {reason}"),
            CheckStatus::Failed(reason) => {
                failed = true;
                writeln!(list, "[-]{name} failed: {reason}")
            }
        };
    }
    for name in excluded {
        let _ = writeln!(list, "warn: no check to exclude is named {name:?}");
    }
    let probe = probe.name();
    match (failed, verbose) {
        (true, _) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{list}{probe} check failed\n")),
        (false, true) => text(StatusCode::OK, format!("{list}{probe} check passed\n")),
        (false, false) => text(StatusCode::OK, "ok".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::test_support::get;
    use super::*;

    struct Fixed {
        ready: Vec<Check>,
    }

    impl HealthSource for Fixed {
        fn live(&self) -> Vec<Check> {
            vec![Check { name: "ping".to_owned(), status: CheckStatus::Ok }]
        }

        fn ready(&self) -> Vec<Check> {
            self.ready.clone()
        }
    }

    fn app(secrets: CheckStatus) -> Router {
        let ready = vec![
            Check { name: "informer/pods".to_owned(), status: CheckStatus::Ok },
            Check { name: "informer/secrets".to_owned(), status: secrets },
        ];
        router(Arc::new(Fixed { ready }))
    }

    fn failing() -> Router {
        app(CheckStatus::Failed("forbidden: no permission to watch secrets".to_owned()))
    }

    #[tokio::test]
    async fn healthy_answers_ok_and_lists_when_asked() {
        let app = app(CheckStatus::Ok);
        for probe in ["/livez", "/healthz", "/readyz"] {
            assert_eq!(get(&app, probe).await, (StatusCode::OK, "ok".to_owned()));
        }
        let list = "[+]informer/pods ok\n[+]informer/secrets ok\nreadyz check passed\n";
        assert_eq!(get(&app, "/readyz?verbose").await, (StatusCode::OK, list.to_owned()));
        assert_eq!(get(&app, "/livez?verbose").await.1, "[+]ping ok\nlivez check passed\n");
        assert_eq!(get(&app, "/healthz?verbose=1").await.1, "[+]ping ok\nhealthz check passed\n");
    }

    #[tokio::test]
    async fn unhealthy_answers_503_with_the_list_and_stays_live() {
        let app = failing();
        let list = "[+]informer/pods ok\n[-]informer/secrets failed: forbidden: no permission to watch secrets\nreadyz check failed\n";
        for uri in ["/readyz", "/readyz?verbose"] {
            assert_eq!(get(&app, uri).await, (StatusCode::SERVICE_UNAVAILABLE, list.to_owned()));
        }
        assert_eq!(get(&app, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_degraded_check_is_listed_and_does_not_fail() {
        let app = app(CheckStatus::Degraded("not synced: forbidden".to_owned()));
        assert_eq!(get(&app, "/readyz").await, (StatusCode::OK, "ok".to_owned()));
        let list = "[+]informer/pods ok\n[~]informer/secrets not synced: forbidden\nreadyz check passed\n";
        assert_eq!(get(&app, "/readyz?verbose").await, (StatusCode::OK, list.to_owned()));
    }

    #[tokio::test]
    async fn checks_can_be_left_out_by_name() {
        let app = failing();
        assert_eq!(get(&app, "/readyz?exclude=informer/secrets").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(
            get(&app, "/readyz?verbose&exclude=informer/secrets&exclude=nothing").await.1,
            "[+]informer/pods ok\n[+]informer/secrets excluded: ok\n\
             warn: no check to exclude is named \"nothing\"\nreadyz check passed\n"
        );
    }

    #[tokio::test]
    async fn one_check_is_answered_alone() {
        let app = failing();
        assert_eq!(get(&app, "/readyz/informer/pods").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(get(&app, "/readyz/informer/secrets").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&app, "/readyz/informer/none").await.0, StatusCode::NOT_FOUND);
    }
}
