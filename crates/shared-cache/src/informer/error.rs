//! [`WatchError`]: every way in which listing or watching a kind can fail.

use std::time::Duration;

use kube::core::Status;

/// A failed step of a list or watch. All of them are retried; none ends the informer.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The API server answered with an error.
    #[error("{}", describe_status(.status))]
    Status {
        /// What it answered.
        status: Box<Status>,
        /// When it asked to be tried again.
        retry_after: Option<Duration>,
    },
    /// The request did not get through or the response broke off.
    #[error("{0}")]
    Transport(String),
    /// No response headers in time.
    #[error("no response within {} s", .0.as_secs())]
    ResponseTimeout(Duration),
    /// Neither events nor bookmarks nor the rest of a page in time.
    #[error("connection silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// A line or page that is not what the API promises.
    #[error("unreadable response: {0}")]
    Protocol(String),
    /// More bytes for one event or page than is safe to hold.
    #[error("response of more than {0} bytes")]
    TooLarge(usize),
    /// A list older than what was already seen: a stale replica, or a server that was set back.
    #[error("list at version {listed} is older than {seen}, which was already seen")]
    Stale {
        /// Version of the list.
        listed: u64,
        /// Highest version seen before it.
        seen: u64,
    },
}

impl WatchError {
    /// A short word for metric labels; the set of words is small and fixed.
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
            Self::Stale { .. } => "stale_list",
        }
    }

    /// HTTP status code, if the API server answered with one.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(status.code),
            _ => None,
        }
    }

    /// Whether the version that was asked for is no longer kept, so that only a new list helps.
    pub(crate) fn is_expired(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.code == 410 || status.reason == "Expired" || status.reason == "Gone")
    }

    /// Whether the server has not reached the version that was asked for ("Too large resource version").
    pub(crate) fn is_version_too_large(&self) -> bool {
        let Self::Status { status, .. } = self else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        status.code == 504
            && (causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
                || status.message.contains("Too large resource version"))
    }

    /// True if a streaming list that failed so may succeed page by page: all errors of an answer but those that any
    /// other request would meet too (401, 403, 404, 410, 429), and a connection that broke or fell silent during it.
    pub(crate) fn speaks_against_streaming(&self, answered: bool) -> bool {
        match self {
            Self::Status { status, .. } => !matches!(status.code, 401 | 403 | 404 | 410 | 429),
            Self::Transport(_) => answered,
            Self::Silent(_) | Self::Protocol(_) | Self::TooLarge(_) => true,
            Self::ResponseTimeout(_) | Self::Stale { .. } => false,
        }
    }

    /// When the API server asked to be tried again.
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
