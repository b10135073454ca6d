//! The endpoints of the API: one table for the router, the metrics and the OpenAPI document.
//!
//! The SDKs put a sandbox id into the path without escaping its slashes, and escape other ids completely. So the raw path
//! is split first, and then each segment is decoded.

use http::Method;
use percent_encoding::percent_decode_str;

use super::errors::ApiError;

/// The prefix below which OpenKruise Agents serves the same API.
const OTHER_PREFIX: &str = "/kruise/api/";

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Operation {
    Health,
    OpenApi,
    CreateSandbox,
    ListSandboxes,
    /// The list of clients that know no pages.
    ListRunningSandboxes,
    GetSandbox,
    KillSandbox,
    SetTimeout,
    RefreshSandbox,
    PauseSandbox,
    ConnectSandbox,
    ResumeSandbox,
    SandboxMetrics,
    SandboxLogs,
    SandboxLogsV2,
    ListTemplates,
    GetAlias,
    GetTemplate,
    ListTeams,
    ListKeys,
    CreateKey,
    DeleteKey,
    /// A part of the API that this server does not have.
    Unsupported,
}

use Operation as Op;

impl Operation {
    /// The name in metrics, logs and the OpenAPI document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Op::Health => "health",
            Op::OpenApi => "openApi",
            Op::CreateSandbox => "createSandbox",
            Op::ListSandboxes => "listSandboxes",
            Op::ListRunningSandboxes => "listRunningSandboxes",
            Op::GetSandbox => "getSandbox",
            Op::KillSandbox => "killSandbox",
            Op::SetTimeout => "setTimeout",
            Op::RefreshSandbox => "refreshSandbox",
            Op::PauseSandbox => "pauseSandbox",
            Op::ConnectSandbox => "connectSandbox",
            Op::ResumeSandbox => "resumeSandbox",
            Op::SandboxMetrics => "sandboxMetrics",
            Op::SandboxLogs => "sandboxLogs",
            Op::SandboxLogsV2 => "sandboxLogsV2",
            Op::ListTemplates => "listTemplates",
            Op::GetAlias => "getTemplateAlias",
            Op::GetTemplate => "getTemplate",
            Op::ListTeams => "listTeams",
            Op::ListKeys => "listApiKeys",
            Op::CreateKey => "createApiKey",
            Op::DeleteKey => "deleteApiKey",
            Op::Unsupported => "unsupported",
        }
    }

    /// Returns true if no key is needed.
    pub(super) const fn is_public(self) -> bool {
        matches!(self, Op::Health | Op::OpenApi)
    }

    /// Returns true if the request changes nothing, so that an answer from memory is right also during an outage.
    pub(super) const fn is_read(self) -> bool {
        matches!(
            self,
            Op::ListSandboxes
                | Op::ListRunningSandboxes
                | Op::GetSandbox
                | Op::SandboxMetrics
                | Op::SandboxLogs
                | Op::SandboxLogsV2
                | Op::ListTemplates
                | Op::GetAlias
                | Op::GetTemplate
                | Op::ListTeams
                | Op::ListKeys
        )
    }
}

/// One method of one path. A segment in braces stands for any one segment; `*` stands for all the rest.
pub(super) struct Endpoint {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) operation: Operation,
}

const fn endpoint(method: Method, path: &'static str, operation: Operation) -> Endpoint {
    Endpoint { method, path, operation }
}

/// Every endpoint. The first match counts.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    endpoint(Method::GET, "health", Op::Health),
    endpoint(Method::GET, "openapi.json", Op::OpenApi),
    endpoint(Method::POST, "v2/sandboxes", Op::CreateSandbox),
    endpoint(Method::POST, "sandboxes", Op::CreateSandbox),
    endpoint(Method::GET, "v2/sandboxes", Op::ListSandboxes),
    endpoint(Method::GET, "sandboxes", Op::ListRunningSandboxes),
    endpoint(Method::GET, "sandboxes/metrics", Op::Unsupported),
    endpoint(Method::GET, "sandboxes/{id}", Op::GetSandbox),
    endpoint(Method::DELETE, "sandboxes/{id}", Op::KillSandbox),
    endpoint(Method::POST, "sandboxes/{id}/timeout", Op::SetTimeout),
    endpoint(Method::POST, "sandboxes/{id}/refreshes", Op::RefreshSandbox),
    endpoint(Method::POST, "sandboxes/{id}/pause", Op::PauseSandbox),
    endpoint(Method::POST, "v2/sandboxes/{id}/connect", Op::ConnectSandbox),
    endpoint(Method::POST, "sandboxes/{id}/connect", Op::ConnectSandbox),
    endpoint(Method::POST, "sandboxes/{id}/resume", Op::ResumeSandbox),
    endpoint(Method::GET, "sandboxes/{id}/metrics", Op::SandboxMetrics),
    endpoint(Method::GET, "sandboxes/{id}/logs", Op::SandboxLogs),
    endpoint(Method::GET, "v2/sandboxes/{id}/logs", Op::SandboxLogsV2),
    endpoint(Method::GET, "templates", Op::ListTemplates),
    endpoint(Method::GET, "templates/aliases/{alias}", Op::GetAlias),
    endpoint(Method::POST, "templates/tags", Op::Unsupported),
    endpoint(Method::DELETE, "templates/tags", Op::Unsupported),
    endpoint(Method::GET, "templates/{id}", Op::GetTemplate),
    endpoint(Method::GET, "teams", Op::ListTeams),
    endpoint(Method::GET, "api-keys", Op::ListKeys),
    endpoint(Method::POST, "api-keys", Op::CreateKey),
    endpoint(Method::DELETE, "api-keys/{id}", Op::DeleteKey),
    endpoint(Method::PATCH, "api-keys/{id}", Op::Unsupported),
    endpoint(Method::POST, "sandboxes/{id}/snapshots", Op::Unsupported),
    endpoint(Method::POST, "sandboxes/{id}/fork", Op::Unsupported),
    endpoint(Method::PUT, "sandboxes/{id}/network", Op::Unsupported),
    endpoint(Method::GET, "snapshots", Op::Unsupported),
    endpoint(Method::POST, "templates", Op::Unsupported),
    endpoint(Method::DELETE, "templates/{id}", Op::Unsupported),
    endpoint(Method::PATCH, "templates/{id}", Op::Unsupported),
    endpoint(Method::POST, "templates/{id}", Op::Unsupported),
    endpoint(Method::GET, "templates/{id}/*", Op::Unsupported),
    endpoint(Method::POST, "templates/{id}/*", Op::Unsupported),
    endpoint(Method::POST, "v2/templates", Op::Unsupported),
    endpoint(Method::POST, "v2/templates/{id}/*", Op::Unsupported),
    endpoint(Method::PATCH, "v2/templates/{id}", Op::Unsupported),
    endpoint(Method::POST, "v3/templates", Op::Unsupported),
    endpoint(Method::GET, "volumes", Op::Unsupported),
    endpoint(Method::POST, "volumes", Op::Unsupported),
    endpoint(Method::GET, "volumes/{id}", Op::Unsupported),
    endpoint(Method::DELETE, "volumes/{id}", Op::Unsupported),
    endpoint(Method::GET, "secrets", Op::Unsupported),
    endpoint(Method::POST, "secrets", Op::Unsupported),
    endpoint(Method::GET, "secrets/{id}", Op::Unsupported),
    endpoint(Method::PATCH, "secrets/{id}", Op::Unsupported),
    endpoint(Method::DELETE, "secrets/{id}", Op::Unsupported),
];

/// A request that has an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) operation: Operation,
    /// The decoded segment in braces; empty if the path has none.
    pub(super) id: String,
}

/// Finds the endpoint of a request.
///
/// # Errors
///
/// 404 for an unknown path; 405 if the path has other methods only.
pub(super) fn resolve(method: &Method, path: &str) -> Result<Route, ApiError> {
    // A HEAD is a GET whose body is not sent.
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let inner = path.strip_prefix(OTHER_PREFIX).or_else(|| path.strip_prefix('/')).unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let mut allowed: Vec<&str> = Vec::new();
    for endpoint in ENDPOINTS {
        let Some(captured) = matches(endpoint.path, inner) else { continue };
        if endpoint.method != *method {
            allowed.push(endpoint.method.as_str());
            continue;
        }
        return match percent_decode_str(captured).decode_utf8() {
            Ok(id) => Ok(Route { operation: endpoint.operation, id: id.into_owned() }),
            Err(_) => Err(unknown_path(inner)),
        };
    }
    if allowed.is_empty() {
        return Err(unknown_path(inner));
    }
    allowed.dedup();
    Err(ApiError::method_not_allowed(allowed.join(", ")))
}

/// The ids of sandboxes come unescaped. One with a slash is an unknown sandbox, like any other.
fn unknown_path(path: &str) -> ApiError {
    let rest = path.strip_prefix("v2/").unwrap_or(path);
    match rest.strip_prefix("sandboxes/") {
        Some(id) => ApiError::no_sandbox(id),
        None => ApiError::not_found("no such path"),
    }
}

/// Returns the segment in braces if the path fits the pattern; an empty text if the pattern has none.
fn matches<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut captured = "";
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some("*"), Some(_)) => return Some(captured),
            (Some(name), Some(segment)) if name.starts_with('{') => {
                // An empty segment is no id.
                captured = Some(segment).filter(|segment| !segment.is_empty())?;
            }
            (Some(name), Some(segment)) if name == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(method: &Method, path: &str) -> (Operation, String) {
        let route = resolve(method, path).unwrap();
        (route.operation, route.id)
    }

    fn status(method: &Method, path: &str) -> u16 {
        resolve(method, path).unwrap_err().status().as_u16()
    }

    #[test]
    fn e2b_1_1_both_dialects_have_the_same_operations() {
        for path in ["/sandboxes", "/v2/sandboxes", "/kruise/api/v2/sandboxes", "/v2/sandboxes/"] {
            assert_eq!(found(&Method::POST, path).0, Operation::CreateSandbox, "{path}");
        }
        for path in ["/sandboxes/ns--a/connect", "/v2/sandboxes/ns--a/connect"] {
            assert_eq!(found(&Method::POST, path), (Operation::ConnectSandbox, "ns--a".to_owned()), "{path}");
        }
    }

    #[test]
    fn e2b_2_a_segment_is_decoded_after_the_path_was_split() {
        assert_eq!(
            found(&Method::GET, "/templates/aliases/ns%2Fx%3Atag"),
            (Operation::GetAlias, "ns/x:tag".to_owned())
        );
        assert_eq!(found(&Method::GET, "/templates/tags"), (Operation::GetTemplate, "tags".to_owned()));
    }

    #[test]
    fn e2b_5_1_a_fixed_path_is_not_taken_for_an_id() {
        assert_eq!(found(&Method::GET, "/sandboxes/metrics").0, Operation::Unsupported);
    }

    #[test]
    fn e2b_5_0_an_id_that_is_malformed_is_an_unknown_sandbox() {
        assert_eq!(resolve(&Method::GET, "/sandboxes/a/b").unwrap_err(), ApiError::no_sandbox("a/b"));
        for (method, path) in [
            (Method::DELETE, "/sandboxes/a/b"),
            (Method::POST, "/sandboxes/a/b/pause"),
            (Method::POST, "/v2/sandboxes/a/b/connect"),
            (Method::GET, "/sandboxes/%ff"),
            (Method::GET, "/sandboxes//"),
            (Method::GET, "/nothing"),
            (Method::GET, "/"),
        ] {
            assert_eq!(status(&method, path), 404, "{path}");
        }
    }

    #[test]
    fn e2b_5_0_a_wrong_method_names_those_that_there_are() {
        let error = resolve(&Method::PUT, "/sandboxes/a").unwrap_err();
        assert_eq!(error, ApiError::method_not_allowed("GET, DELETE".to_owned()));
        assert_eq!(status(&Method::GET, "/sandboxes/a/pause"), 405);
    }

    #[test]
    fn e2b_13_what_is_not_there_yet_is_known() {
        for (method, path) in [
            (Method::POST, "/sandboxes/a/snapshots"),
            (Method::PUT, "/sandboxes/a/network"),
            (Method::GET, "/snapshots"),
            (Method::DELETE, "/templates/x"),
            (Method::POST, "/v3/templates"),
            (Method::POST, "/v2/templates/t/builds/b"),
            (Method::GET, "/templates/t/builds/b/status"),
            (Method::GET, "/volumes"),
        ] {
            assert_eq!(found(&method, path).0, Operation::Unsupported, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_answered(path in "(/|sandboxes|v2|templates|%2F|%|\\PC){0,20}") {
            let _ = resolve(&Method::GET, &path);
        }
    }
}
