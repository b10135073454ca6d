//! `/livez`, `/healthz` and `/readyz`, as Kubernetes components answer them.
//!
//! 200 and `ok`, or 503 and the list of checks. `?verbose` lists the checks in either case, `?exclude=NAME` (as
//! often as wanted) leaves one out, and `/readyz/NAME` answers for one check alone. Unlike Kubernetes, the list
//! says why a check fails: it is served inside the cluster only, and holds no secret.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};

/// One thing that must be well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is checked, such as `informer/sandboxes`.
    pub name: String,
    /// Well, or why not, in one line.
    pub result: Result<(), String>,
}

/// What the process knows of its own health. Asked at each request: answers must come at once, from memory.
pub trait HealthSource: Send + Sync {
    /// What a restart would mend; no check, or all well: alive.
    fn live(&self) -> Vec<Check>;
    /// What must be well before others rely on this process.
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
        // Names hold slashes, hence the wildcard.
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
    for Check { name, result } in checks {
        // Writing to a String cannot fail.
        let _ = match result {
            _ if excluded.contains(&name.as_str()) => {
                excluded.retain(|excluded| *excluded != name);
                writeln!(list, "[+]{name} excluded: ok")
            }
            Ok(()) => writeln!(list, "[+]{name} ok"),
            Err(reason) => {
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
    use super::{super::get, *};

    struct Fixed {
        ready: Vec<Check>,
    }

    impl HealthSource for Fixed {
        fn live(&self) -> Vec<Check> {
            vec![Check { name: "ping".to_owned(), result: Ok(()) }]
        }

        fn ready(&self) -> Vec<Check> {
            self.ready.clone()
        }
    }

    fn app(secrets: Result<(), &str>) -> Router {
        let ready = vec![
            Check { name: "informer/sandboxes".to_owned(), result: Ok(()) },
            Check { name: "informer/secrets".to_owned(), result: secrets.map_err(str::to_owned) },
        ];
        router(Arc::new(Fixed { ready }))
    }

    #[tokio::test]
    async fn well_answers_ok_and_lists_when_asked() {
        let app = app(Ok(()));
        for probe in ["/livez", "/healthz", "/readyz"] {
            assert_eq!(get(&app, probe).await, (StatusCode::OK, "ok".to_owned()));
        }
        let list = "[+]informer/sandboxes ok\n[+]informer/secrets ok\nreadyz check passed\n";
        assert_eq!(get(&app, "/readyz?verbose").await, (StatusCode::OK, list.to_owned()));
        assert_eq!(get(&app, "/livez?verbose").await.1, "[+]ping ok\nlivez check passed\n");
        assert_eq!(get(&app, "/healthz?verbose=1").await.1, "[+]ping ok\nhealthz check passed\n");
    }

    #[tokio::test]
    async fn unwell_answers_503_with_the_list_and_stays_live() {
        let app = app(Err("forbidden: cannot watch secrets"));
        let list = "[+]informer/sandboxes ok\n[-]informer/secrets failed: forbidden: cannot watch secrets\nreadyz check failed\n";
        for uri in ["/readyz", "/readyz?verbose"] {
            assert_eq!(get(&app, uri).await, (StatusCode::SERVICE_UNAVAILABLE, list.to_owned()));
        }
        assert_eq!(get(&app, "/livez").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn checks_can_be_left_out_by_name() {
        let app = app(Err("forbidden"));
        assert_eq!(get(&app, "/readyz?exclude=informer/secrets").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(
            get(&app, "/readyz?verbose&exclude=informer/secrets&exclude=nothing").await.1,
            "[+]informer/sandboxes ok\n[+]informer/secrets excluded: ok\n\
             warn: no check to exclude is named \"nothing\"\nreadyz check passed\n"
        );
    }

    #[tokio::test]
    async fn one_check_is_answered_alone() {
        let app = app(Err("forbidden"));
        assert_eq!(get(&app, "/readyz/informer/sandboxes").await, (StatusCode::OK, "ok".to_owned()));
        assert_eq!(get(&app, "/readyz/informer/secrets").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(get(&app, "/readyz/informer/none").await.0, StatusCode::NOT_FOUND);
    }
}
