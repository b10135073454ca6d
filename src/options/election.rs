//! `leaderElection` of the options as the options of the generic election.

use controller_manager::{
    InvalidLeaderElection, LeaderElectionError as SetupError, LeaderElectionOptions as LeaseOptions,
    pod_identity,
};

use super::LeaderElectionOptions;

/// Options that describe no leader election. The error names the field by its path in the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaderElectionError {
    /// The times contradict each other.
    #[error("leaderElection.{0}")]
    Times(InvalidLeaderElection),
    /// The Lease needs a namespace.
    #[error(
        "leaderElection.namespace: this process runs in no pod, so the namespace of the Lease is unknown; set \
         leaderElection.namespace (--leader-elect-resource-namespace) or the variable POD_NAMESPACE"
    )]
    Namespace,
    /// The election could not be created.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl LeaderElectionOptions {
    /// Checks that the times fit together.
    pub(super) fn validate(&self) -> Result<(), LeaderElectionError> {
        LeaseOptions::validate_times(self.lease_duration, self.renew_deadline, self.retry_period)
            .map_err(LeaderElectionError::Times)
    }

    /// The options of the generic election. `pod_namespace` is the namespace of the pod, if this is one.
    ///
    /// # Errors
    ///
    /// [`LeaderElectionError::Times`], [`LeaderElectionError::Namespace`].
    pub(crate) fn for_this_process(
        &self,
        pod_namespace: Option<String>,
    ) -> Result<LeaseOptions, LeaderElectionError> {
        self.validate()?;
        let given = Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty());
        let namespace = given.or(pod_namespace).ok_or(LeaderElectionError::Namespace)?;
        Ok(LeaseOptions {
            lease_duration: self.lease_duration,
            renew_deadline: self.renew_deadline,
            retry_period: self.retry_period,
            ..LeaseOptions::new(namespace, &self.name, pod_identity())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::options::{OptionsLoader, SandboxManagerOptions};

    #[test]
    fn the_namespace_is_the_one_given_or_that_of_the_pod() {
        let mut options = LeaderElectionOptions::default();
        let namespace = |options: &LeaderElectionOptions, pod: Option<&str>| {
            options.for_this_process(pod.map(str::to_owned)).map(|options| options.namespace)
        };
        assert_eq!(namespace(&options, Some("pods")).unwrap(), "pods");
        let error = namespace(&options, None).unwrap_err().to_string();
        assert!(
            error.contains("set leaderElection.namespace (--leader-elect-resource-namespace)"),
            "{error}"
        );
        options.namespace = "given".to_owned();
        assert_eq!(namespace(&options, Some("pods")).unwrap(), "given");
    }

    #[test]
    fn times_that_contradict_each_other_are_a_fault_of_the_configuration() {
        let mut loader = OptionsLoader::new(SandboxManagerOptions::default());
        loader.environment([("SANDBOX_MANAGER_LEADER_ELECT_LEASE_DURATION".into(), "10s".into())]);
        assert_eq!(
            loader.finish().unwrap_err().faults,
            ["leaderElection.renewDeadline is 10s, expected less than leaseDuration, which is 10s"]
        );
        let options = LeaderElectionOptions {
            retry_period: Duration::from_secs(9),
            ..LeaderElectionOptions::default()
        };
        assert!(options.for_this_process(Some("n".to_owned())).is_err());
    }
}
