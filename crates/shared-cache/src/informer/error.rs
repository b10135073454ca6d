//! [`WatchError`]: the ways in which listing or watching a kind can fail.

use std::time::Duration;

use kube::core::Status;

/// A failed step of a list or watch. The informer retries all of them; none ends the informer.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server answered with an error.
    #[error("{}", describe_status(.status))]
    Status {
        /// The status that the API server returned.
        status: Box<Status>,
        /// The delay that the API server requested before a retry.
        retry_after: Option<Duration>,
    },
    /// The request failed before a response, or the response was cut off.
    #[error("{0}")]
    Transport(String),
    /// The response headers did not arrive in time.
    #[error("no response within {} s", .0.as_secs())]
    ResponseTimeout(Duration),
    /// No event, bookmark or part of a page arrived in time.
    #[error("connection silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// A line or page does not have the format of the API.
    #[error("unreadable response: {0}")]
    Protocol(String),
    /// One event or page has more bytes than the limit.
    #[error("response of more than {0} bytes")]
    TooLarge(usize),
    /// A consistency check has found an object that differs from the API server's.
    #[error("{0}")]
    Inconsistent(String),
    /// The list is older than a version that was already seen. The API server is a stale replica or was
    /// restored from a backup.
    #[error("list at version {listed} is older than {seen}, which was already seen")]
    Stale {
        /// Version of the list.
        listed: u64,
        /// Highest version seen before it.
        seen: u64,
    },
}

impl WatchError {
    /// Returns a short word for metric labels. The set of words is small and fixed.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Status { status, .. } => match status.code {
                401 => "unauthorized",
                403 => "forbidden",
                404 => "not_found",
                410 => "expired",
                429 => "too_many_requests",
                504 => "server_timeout",
                500.. => "server_error",
                _ => "bad_request",
            },
            Self::Transport(_) => "transport",
            Self::ResponseTimeout(_) => "response_timeout",
            Self::Silent(_) => "silent",
            Self::Protocol(_) => "protocol",
            Self::TooLarge(_) => "too_large",
            Self::Inconsistent(_) => "inconsistent",
            Self::Stale { .. } => "stale_list",
        }
    }

    /// Returns the HTTP status code if the API server returned an error.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.code),
            _ => None,
        }
    }

    /// Returns true if the server no longer has the requested version, so that only a new list helps.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 410 || status.reason == "Expired" || status.reason == "Gone")
    }

    /// Returns true if the server has not reached the requested version ("Too large resource version").
    pub(crate) fn is_version_too_large(&self) -> bool {
        let Self::Status { status, .. } = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 504
            && (causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
                || status.message.contains("Too large resource version"))
    }

    /// Returns true if a paged list may succeed where this streaming list failed. That excludes the errors
    /// that any other request would meet too (401, 403, 404, 410, 429). It includes a connection that broke
    /// or fell silent during the list.
    pub(crate) fn suggests_paging(&self, answered: bool) -> bool {
        match self {
            Self::Status { status, .. } => !matches!(status.code, 401 | 403 | 404 | 410 | 429),
            Self::Transport(_) => answered,
            Self::Silent(_) | Self::Protocol(_) | Self::TooLarge(_) | Self::ResponseTimeout(_) => true,
            Self::Inconsistent(_) | Self::Stale { .. } => false,
        }
    }

    /// Returns the delay that the API server requested before a retry.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn describe_status(status: &Status) -> String {
    let message = status.message.trim();
    match (message, status.reason.as_str()) {
        ("", "") => format!("HTTP {}", status.code),
        ("", reason) => format!("HTTP {} {reason}", status.code),
        (message, _) => format!("HTTP {}: {message}", status.code),
    }
}
