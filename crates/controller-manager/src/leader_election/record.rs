//! What a Lease says, and what to write into it. Pure functions.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;

use super::options::LeaderElectionOptions;

/// The duration in a released lease, in seconds. The API server does not accept zero.
const RELEASED_SECONDS: i32 = 1;

/// A Lease, and since when this process knows it.
///
/// The times in the Lease are those of another machine's clock. They are written for people, and never compared.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) lease: Lease,
    since: Duration,
}

impl Observed {
    pub(super) fn new(lease: Lease, now: Duration) -> Self {
        Self { lease, since: now }
    }

    /// Takes note of the Lease as it is now. Only a change of its spec is a renewal: a label that somebody changes must
    /// not hold up a takeover.
    pub(super) fn update(&mut self, lease: Lease, now: Duration) {
        if self.lease.spec != lease.spec {
            self.since = now;
        }
        self.lease = lease;
    }

    /// True if this process may take the lease: nobody holds it, this process holds it, or its holder has not renewed
    /// it for its duration.
    pub(super) fn is_free(&self, options: &LeaderElectionOptions, now: Duration) -> bool {
        match holder(&self.lease) {
            None => true,
            Some(holder) if holder == options.identity => true,
            Some(_) => now >= self.since + duration(&self.lease, options),
        }
    }
}

/// The identity of the holder; `None` if the lease was released or was never held.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long the lease lasts without a renewal. What its holder has written counts, since it relies on that.
fn duration(lease: &Lease, options: &LeaderElectionOptions) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(options.lease_duration, Duration::from_secs)
}

/// A new Lease that this process holds.
pub(super) fn created(options: &LeaderElectionOptions, now: Timestamp) -> Lease {
    let metadata = ObjectMeta {
        namespace: Some(options.namespace.clone()),
        name: Some(options.name.clone()),
        ..ObjectMeta::default()
    };
    held(Lease { metadata, spec: None }, options, now)
}

/// The Lease when this process takes or renews it. Labels and annotations stay.
pub(super) fn held(mut lease: Lease, options: &LeaderElectionOptions, now: Timestamp) -> Lease {
    let is_ours = holder(&lease) == Some(&*options.identity);
    let was_held = lease.spec.is_some();
    let spec = lease.spec.get_or_insert_default();
    if !is_ours {
        spec.holder_identity = Some(options.identity.clone());
        spec.acquire_time = Some(MicroTime(now));
        let transitions = spec.lease_transitions.unwrap_or_default();
        spec.lease_transitions = Some(transitions.saturating_add(i32::from(was_held)));
    }
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = i32::try_from(options.lease_duration.as_secs()).ok();
    lease
}

/// The Lease when this process gives it up.
pub(super) fn released(mut lease: Lease, now: Timestamp) -> Lease {
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(RELEASED_SECONDS),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(identity: &str) -> LeaderElectionOptions {
        LeaderElectionOptions::new("n", "l", identity)
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn a_lease_is_free_for_others_only_after_its_own_duration_without_a_change() {
        let mut theirs = options("them");
        theirs.lease_duration = 40 * SECOND;
        let mut observed = Observed::new(created(&theirs, now()), SECOND);
        let us = options("us");
        assert!(observed.is_free(&theirs, SECOND));
        assert!(!observed.is_free(&us, 40 * SECOND));
        assert!(observed.is_free(&us, 41 * SECOND));

        let renewed = held(observed.lease.clone(), &theirs, now() + SECOND);
        observed.update(renewed, 30 * SECOND);
        assert!(!observed.is_free(&us, 69 * SECOND));
        let mut labelled = observed.lease.clone();
        labelled.metadata.resource_version = Some("9".to_owned());
        observed.update(labelled, 60 * SECOND);
        assert!(observed.is_free(&us, 70 * SECOND), "a change of the metadata is no renewal");
        assert_eq!(observed.lease.metadata.resource_version.as_deref(), Some("9"));
    }

    #[test]
    fn the_wall_clock_in_a_lease_does_not_matter() {
        for of_the_holder in [Timestamp::MIN, Timestamp::MAX] {
            let observed = Observed::new(created(&options("them"), of_the_holder), Duration::ZERO);
            assert!(!observed.is_free(&options("us"), 14 * SECOND));
            assert!(observed.is_free(&options("us"), 15 * SECOND));
        }
    }

    #[test]
    fn a_lease_without_a_usable_duration_lasts_as_long_as_ours() {
        for seconds in [None, Some(0), Some(-1)] {
            let mut lease = created(&options("them"), now());
            lease.spec.as_mut().unwrap().lease_duration_seconds = seconds;
            let observed = Observed::new(lease, Duration::ZERO);
            assert!(!observed.is_free(&options("us"), 14 * SECOND), "{seconds:?}");
            assert!(observed.is_free(&options("us"), 15 * SECOND), "{seconds:?}");
        }
    }

    #[test]
    fn a_takeover_counts_a_transition_and_a_renewal_does_not() {
        let spec = |lease: &Lease| lease.spec.clone().unwrap();
        let first = created(&options("a"), now());
        assert_eq!(spec(&first).lease_transitions, Some(0));
        let renewed = held(first, &options("a"), now() + SECOND);
        assert_eq!(spec(&renewed).lease_transitions, Some(0));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(now())));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(now() + SECOND)));
        let taken = held(renewed, &options("b"), now() + 2 * SECOND);
        assert_eq!(holder(&taken), Some("b"));
        assert_eq!(spec(&taken).lease_transitions, Some(1));
        assert_eq!(spec(&taken).acquire_time, Some(MicroTime(now() + 2 * SECOND)));
    }

    #[test]
    fn a_released_lease_is_free_at_once_and_keeps_its_count_and_labels() {
        let mut lease = held(created(&options("a"), now()), &options("b"), now());
        lease.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into());
        let released = released(lease, now());
        assert_eq!(holder(&released), None);
        let observed = Observed::new(released.clone(), Duration::ZERO);
        assert!(observed.is_free(&options("c"), Duration::ZERO));
        let taken = held(released, &options("c"), now());
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(2));
        assert!(taken.metadata.labels.unwrap().contains_key("team"));
    }
}
