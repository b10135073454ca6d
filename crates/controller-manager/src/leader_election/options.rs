//! [`LeaderElectionOptions`]: which lease, and its times.

use std::time::Duration;

/// The retry period is multiplied by this before it is compared with the renew deadline, as in client-go.
const MARGIN: f64 = 1.2;

/// Which lease to hold, as whom, and its times. All processes that compete for a lease should have the same times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElectionOptions {
    /// Namespace of the lease; see [`pod_namespace`](crate::pod_namespace).
    pub namespace: String,
    /// Name of the lease. Created if it does not exist.
    pub name: String,
    /// Name of this process in the lease, which no other process may have; see [`pod_identity`](crate::pod_identity).
    pub identity: String,
    /// Time without a renewal after which another process takes the lease. Whole seconds.
    pub lease_duration: Duration,
    /// Time without a renewal after which the leader stops. The writes of leader-only work are refused from then on. The
    /// rest of the lease duration is for requests that are on their way.
    pub renew_deadline: Duration,
    /// Longest time between two attempts to get or to renew the lease.
    pub retry_period: Duration,
}

impl LeaderElectionOptions {
    /// The times of Kubernetes' own components: 15 s, 10 s and 2 s.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Checks the times and the names.
    ///
    /// # Errors
    ///
    /// [`InvalidLeaderElection`].
    pub fn validate(&self) -> Result<(), InvalidLeaderElection> {
        let named = [("namespace", &self.namespace), ("name", &self.name), ("identity", &self.identity)];
        if let Some((field, _)) = named.into_iter().find(|(_, value)| value.is_empty()) {
            return Err(InvalidLeaderElection::Empty(field));
        }
        Self::validate_times(self.lease_duration, self.renew_deadline, self.retry_period)
    }

    /// Checks the times alone.
    ///
    /// # Errors
    ///
    /// [`InvalidLeaderElection`].
    pub fn validate_times(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<(), InvalidLeaderElection> {
        let seconds = lease_duration.as_secs();
        if lease_duration.subsec_nanos() != 0 || seconds == 0 || i32::try_from(seconds).is_err() {
            return Err(InvalidLeaderElection::LeaseDuration(lease_duration));
        }
        if lease_duration <= renew_deadline {
            return Err(InvalidLeaderElection::RenewDeadline { lease_duration, renew_deadline });
        }
        if retry_period.is_zero() || renew_deadline <= retry_period.mul_f64(MARGIN) {
            return Err(InvalidLeaderElection::RetryPeriod { renew_deadline, retry_period });
        }
        Ok(())
    }

    /// `namespace/name` of the lease.
    pub(super) fn lease(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Options of a leader election that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLeaderElection {
    /// A name is missing.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A lease stores whole seconds.
    #[error("leaseDuration is {}, expected whole seconds from 1s to 2147483647s", text(.0))]
    LeaseDuration(Duration),
    /// The leader must stop before another process may take the lease.
    #[error("renewDeadline is {}, expected less than leaseDuration, which is {}", text(.renew_deadline), text(.lease_duration))]
    RenewDeadline {
        /// The lease duration.
        lease_duration: Duration,
        /// The renew deadline.
        renew_deadline: Duration,
    },
    /// One failed renewal must not lose the lease.
    #[error(
        "retryPeriod is {}, expected more than 0s, and 1.2 times of it to be less than renewDeadline, which is {}",
        text(.retry_period), text(.renew_deadline)
    )]
    RetryPeriod {
        /// The renew deadline.
        renew_deadline: Duration,
        /// The retry period.
        retry_period: Duration,
    },
}

fn text(duration: &Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(lease: u64, renew: u64, retry: u64) -> String {
        let [lease, renew, retry] = [lease, renew, retry].map(Duration::from_millis);
        LeaderElectionOptions::validate_times(lease, renew, retry).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        LeaderElectionOptions::new("n", "l", "i").validate().unwrap();
    }

    #[test]
    fn times_that_could_make_two_leaders_or_lose_a_lease_by_one_failure_are_rejected() {
        assert_eq!(
            error(10_000, 10_000, 2_000),
            "renewDeadline is 10s, expected less than leaseDuration, which is 10s"
        );
        assert_eq!(
            error(15_000, 10_000, 9_000),
            "retryPeriod is 9s, expected more than 0s, and 1.2 times of it to be less than renewDeadline, which is 10s"
        );
        assert!(error(15_000, 10_000, 0).starts_with("retryPeriod is 0s"));
        for lease in [0, 999, 1_500, 3_000_000_000_000] {
            let error = error(lease, 10, 2);
            assert!(error.contains("expected whole seconds from 1s to 2147483647s"), "{error}");
        }
    }

    #[test]
    fn a_missing_name_is_rejected() {
        let error = LeaderElectionOptions::new("n", "", "i").validate().unwrap_err();
        assert_eq!(error.to_string(), "name is empty");
    }
}
