//! [`NotSent`]: marks the error of a request of which certainly nothing was sent.
//!
//! Most errors of a request leave it open whether the API server has processed the request. A refused connection does
//! not: there was no connection to send the request on. Whoever knows this of a write repeats the write without reading
//! first whether it was made.
//!
//! The error of an HTTP client alone is no proof. The retries of kube, which are on by default, send a request again
//! after HTTP 503 and 504. If that repetition finds no connection, the first request may have been processed. So only a
//! client that does not repeat requests marks its errors. The `Connector` of the crate `controller-manager` does.
//!
//! A deadline that ends a request is no proof either. The caller does not know whether the request was still waiting for
//! the rate limit or for a connection.

use std::error::Error;

/// The error of a request of which no byte was sent.
///
/// Clients wrap their error in it, and callers ask [`is_not_sent`]. Its text is that of the error in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotSent(#[source] Box<dyn Error + Send + Sync>);

impl NotSent {
    /// Marks an error. The caller has the proof that no byte of the request was sent, in no attempt.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// Returns true if an error or one of its causes says that the request was [not sent](NotSent). False means that the
/// request may have been processed.
#[must_use]
pub fn is_not_sent(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(<dyn Error>::is::<NotSent>)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_text;

    #[test]
    fn a_marked_error_is_found_below_others_and_reads_as_before() {
        let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let plain = kube::Error::Service(Box::new(refused()));
        let marked = kube::Error::Service(Box::new(NotSent::new(refused())));
        assert!(!is_not_sent(&plain));
        assert!(is_not_sent(&marked));
        assert_eq!(error_text(&marked), error_text(&plain));
        assert!(is_not_sent(&kube::Error::Service(Box::new(marked))));
    }
}
