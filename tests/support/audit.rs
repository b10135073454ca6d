//! [`AuditedRequest`]: what a user has asked an API server for, as the server itself has noted it.

use std::path::Path;

use memory_apiserver::SeenRequest;
use serde_json::Value;

/// A request for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuditedRequest {
    /// Where the request is among all requests of the server, by the time at which the server received it.
    pub(crate) place: u64,
    /// The verb as RBAC has it, such as `deletecollection`.
    pub(crate) verb: String,
    pub(crate) group: String,
    /// The plural, and after a slash the subresource, if there is one.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    /// Empty for a list, a watch of a kind, and the creation of an object.
    pub(crate) name: String,
    /// The HTTP status of the answer. `None` if there is none yet.
    pub(crate) code: Option<u64>,
}

impl AuditedRequest {
    /// Whether the request can change something.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    fn of_event(event: &Value) -> Self {
        let text = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
        let received = event["requestReceivedTimestamp"].as_str().expect("a time");
        let received: jiff::Timestamp = received.parse().expect("a time");
        Self {
            place: u64::try_from(received.as_microsecond()).expect("a time after 1970"),
            verb: event["verb"].as_str().expect("a verb").to_owned(),
            group: text("apiGroup").to_owned(),
            resource: joined(text("resource"), text("subresource")),
            namespace: text("namespace").to_owned(),
            name: text("name").to_owned(),
            code: event["responseStatus"]["code"].as_u64(),
        }
    }
}

fn joined(plural: &str, subresource: &str) -> String {
    if subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{subresource}") }
}

/// Reads the requests of a user from the audit log of kube-apiserver, in the order in which they came. A request that
/// lasts is there twice: with its beginning and with its end.
pub(super) fn read(log: &Path, user: &str) -> Vec<AuditedRequest> {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    // The last line may be half written. Most lines are of other users, and are not parsed.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(user));
    let events = whole.map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    let by_user = events.filter(|event| {
        let known = event.get("impersonatedUser").unwrap_or(&event["user"]);
        known["username"] == user
    });
    let mut requests: Vec<_> = by_user.map(|event| AuditedRequest::of_event(&event)).collect();
    requests.sort_by_key(|request| request.place);
    requests
}

/// The requests of a user among those that the server in memory has noted.
pub(super) fn seen(requests: &[SeenRequest], user: &str) -> Vec<AuditedRequest> {
    let numbered = (0..).zip(requests).filter(|(_, request)| request.user == user);
    let request = |(place, request): (u64, &SeenRequest)| AuditedRequest {
        place,
        verb: format!("{:?}", request.verb).to_lowercase(),
        group: request.group.clone(),
        resource: joined(&request.resource, request.subresource.as_deref().unwrap_or_default()),
        namespace: request.namespace.clone().unwrap_or_default(),
        name: request.name.clone().unwrap_or_default(),
        code: request.status.map(u64::from),
    };
    numbered.map(request).collect()
}
