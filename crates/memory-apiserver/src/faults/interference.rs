//! [`Interference`]: the faults that strike one request.

use std::io;
use std::time::Duration;

use super::plan::RequestFault;
use crate::error::ApiError;

/// Why a request gets no answer that it asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is refused.
    Refused(ApiError),
    /// Its connection ends without a word.
    Dropped,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for io::Error {
    fn from(_: Failure) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, "connection dropped")
    }
}

/// The faults that strike one request, in the order of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interference {
    faults: Vec<RequestFault>,
    since: u64,
}

impl Interference {
    pub(super) fn new(faults: Vec<RequestFault>, since: u64) -> Self {
        Self { faults, since }
    }

    pub(crate) fn faults(&self) -> &[RequestFault] {
        &self.faults
    }

    /// The revision at which the last of the faults was injected.
    pub(crate) fn since(&self) -> u64 {
        self.since
    }

    /// Whether the connection is dropped instead of an answer.
    pub(crate) fn drops_answer(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, RequestFault::DropAnswer))
    }

    /// The revision that a list is served from instead of the newest one.
    pub(crate) fn list_revision(&self, newest: u64) -> Option<u64> {
        self.faults.iter().find_map(|fault| match fault {
            RequestFault::OldList { behind } => Some(newest.saturating_sub(*behind).max(1)),
            _ => None,
        })
    }

    /// Whether a watch is to send no bookmarks.
    pub(crate) fn withholds_bookmarks(&self) -> bool {
        self.faults.iter().any(|fault| matches!(fault, RequestFault::NoBookmarks))
    }

    /// After which time a watch is cut off.
    pub(crate) fn cut_after(&self) -> Option<Duration> {
        self.faults.iter().find_map(|fault| match fault {
            RequestFault::CutAfter(time) => Some(*time),
            _ => None,
        })
    }
}
