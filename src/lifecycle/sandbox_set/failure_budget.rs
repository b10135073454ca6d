//! [`FailureBudget`]: how many sandboxes a set may still create when its members keep failing (LP4, LC7).
//!
//! A member that dies before it was ever available is a failure. After a failure the set waits, 1 s at first and twice as
//! long after each further failure, up to 5 min. Then it creates one sandbox as a probe. A member that becomes available
//! ends the back-off, and so does a new revision. Failures that come while the set waits count as one.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::members::{Member, Standing};
use crate::lifecycle::backoff::delay;

/// The first delay after a failure.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// Delays that double with each failure in a row.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    retry_at: Option<Instant>,
    message: String,
}

impl Backoff {
    /// Creates a back-off without failures.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0, retry_at: None, message: String::new() }
    }

    /// Records a failure. Further failures before the next try count as the same one.
    pub(super) fn failed(&mut self, now: Instant, message: String) {
        self.message = message;
        if self.waits_until(now).is_none() {
            self.retry_at = Some(now + delay(self.first, self.longest, self.failures));
            self.failures += 1;
        }
    }

    /// Ends the back-off.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.first, self.longest);
    }

    /// Returns true if the last try has failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Returns the time of the next try if it is not due.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.retry_at.filter(|retry_at| now < *retry_at)
    }

    /// Returns the time until the next try; zero if it is due.
    pub(super) fn remaining(&self, now: Instant) -> Duration {
        self.waits_until(now).map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// Returns the message of the last failure.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST_DELAY, LONGEST_DELAY)
    }
}

/// What the budget knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    /// Not available yet. The number of failures at which the member was first seen.
    Creating(u32),
    /// Was available.
    Available,
    /// Died before it was available, and is counted.
    Failed,
}

/// The failures of one set's members.
#[derive(Clone, Debug, Default)]
pub(super) struct FailureBudget {
    /// `None` before the first observation.
    revision: Option<Box<str>>,
    backoff: Backoff,
    members: HashMap<Box<str>, Record>,
}

impl FailureBudget {
    /// Creates the budget of a set whose status says that its members keep failing: a process that begins must not
    /// create all of them again.
    pub(super) fn failing(now: Instant, message: &str) -> Self {
        let mut budget = Self::default();
        budget.backoff.failed(now, message.to_owned());
        budget
    }

    /// Takes the members of the current revision into account.
    pub(super) fn observe(&mut self, revision: &str, members: &[Member], now: Instant) {
        let is_first = self.revision.is_none();
        if self.revision.as_deref() != Some(revision) {
            if !is_first {
                self.backoff.reset();
            }
            self.revision = Some(revision.into());
        }
        let failures = self.backoff.failures();
        let mut records = HashMap::with_capacity(members.len());
        let (mut succeeded, mut failed) = (false, None);
        for member in members.iter().filter(|member| member.is_updated) {
            let known = self.members.get(member.uid()).copied();
            let record = match (member.standing, known) {
                (Standing::Locked | Standing::Gone, None | Some(Record::Creating(_))) => continue,
                (Standing::Available, Some(Record::Available)) => Record::Available,
                (Standing::Available, _) => {
                    succeeded = true;
                    Record::Available
                }
                (Standing::Dead, None) if was_available(member) => Record::Available,
                (Standing::Dead, None | Some(Record::Creating(_))) => {
                    failed = Some(member);
                    Record::Failed
                }
                (_, Some(known)) => known,
                (_, None) => Record::Creating(failures),
            };
            records.insert(member.uid().into(), record);
        }
        self.members = records;
        // The members that a new process finds available prove nothing about those that are created now.
        if succeeded && !is_first {
            self.backoff.reset();
        }
        if let Some(member) = failed {
            self.backoff.failed(now, member.message());
        }
    }

    /// Returns how many of the missing sandboxes may be created. `unseen` are own creations that the cache does not show.
    pub(super) fn allowed(&self, missing: usize, unseen: usize, now: Instant) -> usize {
        if !self.backoff.is_failing() {
            return missing;
        }
        let probe = Record::Creating(self.backoff.failures());
        let has_probe = unseen > 0 || self.members.values().any(|record| *record == probe);
        if has_probe || self.backoff.waits_until(now).is_some() { 0 } else { missing.min(1) }
    }

    /// Returns true if the members fail.
    pub(super) fn is_failing(&self) -> bool {
        self.backoff.is_failing()
    }

    /// Returns the time of the next probe if it is not due.
    pub(super) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.backoff.waits_until(now)
    }

    /// Returns the message of the member that died last.
    pub(super) fn message(&self) -> &str {
        self.backoff.message()
    }
}

/// Returns true if the status of a member that was first seen dead says that the member has been running: it has an
/// address.
fn was_available(member: &Member) -> bool {
    member.sandbox.status.as_ref().is_some_and(|status| status.sandbox_ip.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{Pool, SandboxChanges as _, member, set};
    use super::*;

    #[tokio::test]
    async fn lp4_a_process_that_begins_knows_that_the_members_keep_failing() {
        let set = set(5, "i");
        let mut pool = Pool::new(set.clone(), [member(&set, "old").ready()]);
        pool.budget = FailureBudget::failing(pool.now, "a: no such file");
        assert_eq!(pool.decide().create, 0);
        pool.now += FIRST_DELAY;
        assert_eq!(pool.decide().create, 1, "a member that was available before proves nothing");
        pool.show([member(&set, "old").ready(), member(&set, "probe").ready()]);
        assert_eq!(pool.decide().create, 3);
    }

    #[tokio::test]
    async fn lp4_a_dead_member_that_has_an_address_was_available_before_this_process_began() {
        let set = set(1, "i");
        let mut ran = member(&set, "a").failed("killed");
        ran.status.as_mut().unwrap().sandbox_ip = Some("10.0.0.1".into());
        assert_eq!(Pool::new(set.clone(), [ran]).decide().create, 1);
        assert_eq!(Pool::new(set.clone(), [member(&set, "a").failed("killed")]).decide().create, 0);
    }

    #[tokio::test]
    async fn lp4_members_of_an_old_revision_use_up_no_budget() {
        let (old, new) = (set(1, "old"), set(1, "new"));
        assert_eq!(Pool::new(new, [member(&old, "a").failed("m")]).decide().create, 1);
    }

    #[tokio::test]
    async fn lp4_a_member_that_somebody_deletes_is_no_probe_and_no_failure() {
        let set = set(2, "i");
        let mut pool = Pool::new(set.clone(), []);
        pool.decide();
        pool.show([member(&set, "a").failed("m")]);
        pool.decide();
        pool.now += FIRST_DELAY;
        let mut deleted = member(&set, "probe");
        deleted.metadata.deletion_timestamp = serde_json::from_str("\"2030-01-01T00:00:00Z\"").unwrap();
        pool.show([deleted]);
        assert_eq!(pool.decide().create, 1);
    }
}
