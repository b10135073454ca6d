//! [`RequestLog`]: the latest requests, so that a test can see what a client sent.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::request::{Target, Verb};

/// Requests that are kept.
const MAX_REQUESTS: usize = 10_000;

/// A request for a resource, as [`ApiServer::requests`](crate::ApiServer::requests) returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenRequest {
    /// What was to be done.
    pub verb: Verb,
    /// The group of the kind; empty for the core group.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The plural of the kind, such as `configmaps`.
    pub resource: String,
    /// `status`, `scale` and so on.
    pub subresource: Option<String>,
    /// The namespace in the path.
    pub namespace: Option<String>,
    /// The name in the path. A create has none.
    pub name: Option<String>,
    /// The user that the request counts as.
    pub user: String,
    /// The HTTP status of the answer. `None` if there is no answer yet, or a fault dropped it.
    pub status: Option<u16>,
}

impl SeenRequest {
    pub(crate) fn new(verb: Verb, target: &Target, user: &str) -> Self {
        Self {
            verb,
            group: target.group.clone(),
            version: target.version.clone(),
            resource: target.plural.clone(),
            subresource: target.subresource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            user: user.to_owned(),
            status: None,
        }
    }
}

/// The latest requests, in the order in which they came.
#[derive(Default)]
pub(crate) struct RequestLog {
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    requests: VecDeque<SeenRequest>,
    /// Requests that were forgotten.
    forgotten: usize,
}

impl RequestLog {
    /// Adds a request. Returns its number, for [`Self::answered`].
    pub(crate) fn add(&self, request: SeenRequest) -> usize {
        let mut ring = self.ring.lock();
        if ring.requests.len() == MAX_REQUESTS {
            ring.requests.pop_front();
            ring.forgotten += 1;
        }
        ring.requests.push_back(request);
        ring.forgotten + ring.requests.len() - 1
    }

    /// Notes the status of an answer, unless the request is forgotten.
    pub(crate) fn answered(&self, number: usize, status: u16) {
        let mut ring = self.ring.lock();
        let place = number.checked_sub(ring.forgotten);
        if let Some(request) = place.and_then(|place| ring.requests.get_mut(place)) {
            request.status = Some(status);
        }
    }

    pub(crate) fn all(&self) -> Vec<SeenRequest> {
        self.ring.lock().requests.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_requests_are_forgotten() {
        let log = RequestLog::default();
        let add = |name: usize| {
            let target = Target { name: Some(name.to_string()), ..Target::default() };
            log.add(SeenRequest::new(Verb::Get, &target, "u"))
        };
        let numbers: Vec<_> = (0..MAX_REQUESTS + 2).map(add).collect();
        log.answered(numbers[1], 500);
        log.answered(numbers[2], 200);
        let all = log.all();
        assert_eq!(all.len(), MAX_REQUESTS);
        assert_eq!((all[0].name.as_deref(), all[0].status), (Some("2"), Some(200)));
        assert_eq!(all[1].status, None);
    }
}
