//! [`Attempts`]: what this process remembers of its attempts for each claim: how many sandboxes have failed, and when to
//! try again (LC7).
//!
//! Lost when the process ends: another process tries each claim at once, and counts the failures anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::decide::{Refusal, Standing};
use crate::api::v1alpha1::{Sandbox, SandboxClaim};
use crate::claims::{gave_up, pause_after};
use crate::lifecycle::backoff::Backoff;

/// The first and the longest pause after a claimed sandbox has failed, or the API server has refused a request.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What is remembered of one claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// Number of sandboxes that were given up since the spec of the claim has last changed.
    pub(super) failed: usize,
    /// What was wrong with the last one.
    pub(super) last_failure: String,
    /// Why the last try got fewer sandboxes than it asked for.
    pub(super) shortage: Option<String>,
    /// The sandboxes that could not be given up, by their UID.
    pub(super) refused: HashMap<String, Refusal>,
    /// The sandboxes whose runtime is not initialised after a try, by their UID.
    uninitialised: HashMap<String, Tries>,
    generation: i64,
    /// UIDs of the sandboxes that were deleted. The cache may still show them.
    deleted: HashSet<String>,
}

/// The tries to initialise one runtime.
#[derive(Clone, Debug)]
struct Tries {
    failed: usize,
    /// Why the last one has failed.
    last: String,
    /// Time of the next try.
    next: Instant,
}

impl Attempt {
    /// Returns why the runtime of a sandbox is not initialised after a try. None if there is no such sandbox.
    pub(super) fn uninitialised_because(&self) -> Option<&str> {
        self.uninitialised.values().max_by_key(|tries| tries.next).map(|tries| &*tries.last)
    }

    /// Returns what a sandbox is for its claim whose runtime is not initialised yet.
    pub(super) fn initialisation(&self, sandbox: &Sandbox) -> Standing {
        match self.uninitialised.get(sandbox.metadata.uid.as_deref().unwrap_or_default()) {
            None => Standing::Uninitialised(Duration::ZERO),
            Some(Tries { failed, last, .. }) if pause_after(*failed).is_none() => {
                Standing::Failed(gave_up(last))
            }
            Some(Tries { next, .. }) => {
                Standing::Uninitialised(next.saturating_duration_since(Instant::now()))
            }
        }
    }
}

/// The attempts of all claims, by the UID of the claim.
pub(super) struct Attempts {
    claims: Mutex<HashMap<String, Attempt>>,
    backoff: Backoff,
}

impl Default for Attempts {
    fn default() -> Self {
        Self { claims: Mutex::default(), backoff: Backoff::new(PAUSE.0, PAUSE.1) }
    }
}

impl Attempts {
    /// Returns what is known of a claim.
    pub(super) fn of(&self, claim: &SandboxClaim) -> Attempt {
        let known = self.claims.lock().get(uid(claim)).cloned();
        known.filter(|known| known.generation == generation(claim)).unwrap_or_default()
    }

    /// Notes why the last try got fewer sandboxes than it asked for.
    pub(super) fn set_shortage(&self, claim: &SandboxClaim, shortage: Option<&str>) {
        self.change(claim, |attempt| attempt.shortage = shortage.map(str::to_owned));
    }

    /// Notes that the claim has given up a sandbox.
    pub(super) fn add_failure(&self, claim: &SandboxClaim, reason: &str) {
        self.change(claim, |attempt| {
            attempt.failed += 1;
            reason.clone_into(&mut attempt.last_failure);
        });
    }

    /// Notes that the API server refuses to give up a sandbox, with its answer.
    pub(super) fn add_refusal(&self, claim: &SandboxClaim, sandbox: &Sandbox, answer: &str) {
        self.change(claim, |attempt| {
            let uid = sandbox.metadata.uid.clone().unwrap_or_default();
            let refusal = attempt.refused.entry(uid).or_insert_with(|| Refusal {
                name: sandbox.name_or_empty().to_owned(),
                answer: String::new(),
                since: Timestamp::now(),
            });
            answer.clone_into(&mut refusal.answer);
        });
    }

    /// Notes that a runtime could not be initialised, for this reason.
    pub(super) fn add_failed_init(&self, claim: &SandboxClaim, sandbox: &Sandbox, reason: &str) {
        self.change_tries(claim, sandbox, |tries| {
            tries.failed += 1;
            reason.clone_into(&mut tries.last);
            tries.next = Instant::now() + pause_after(tries.failed).unwrap_or_default();
        });
    }

    /// Puts off the next try to initialise a runtime, for this reason. It counts as no try.
    pub(super) fn put_off_init(
        &self,
        claim: &SandboxClaim,
        sandbox: &Sandbox,
        pause: Duration,
        reason: &str,
    ) {
        self.change_tries(claim, sandbox, |tries| {
            reason.clone_into(&mut tries.last);
            tries.next = Instant::now() + pause;
        });
    }

    /// Forgets the tries for a sandbox: its runtime is initialised, or the sandbox is given up.
    pub(super) fn forget_init(&self, claim: &SandboxClaim, sandbox: &Sandbox) {
        self.change(claim, |attempt| {
            attempt.uninitialised.remove(sandbox.metadata.uid.as_deref().unwrap_or_default());
        });
    }

    fn change_tries(&self, claim: &SandboxClaim, sandbox: &Sandbox, change: impl FnOnce(&mut Tries)) {
        self.change(claim, |attempt| {
            let uid = sandbox.metadata.uid.clone().unwrap_or_default();
            let none = || Tries { failed: 0, last: String::new(), next: Instant::now() };
            change(attempt.uninitialised.entry(uid).or_insert_with(none));
        });
    }

    /// Notes that a sandbox of the claim is gone.
    pub(super) fn add_deleted(&self, claim: &SandboxClaim, sandbox: &Sandbox) {
        self.change(claim, |attempt| attempt.deleted.extend(sandbox.metadata.uid.clone()));
    }

    /// Removes the sandboxes that are gone from those that the cache shows.
    pub(super) fn retain_existing(&self, claim: &SandboxClaim, shown: &mut Vec<Arc<Sandbox>>) {
        if let Some(Attempt { deleted, .. }) = self.claims.lock().get(uid(claim)) {
            shown.retain(|shown| !shown.metadata.uid.as_ref().is_some_and(|uid| deleted.contains(uid)));
        }
    }

    /// Pauses a claim. Each pause is twice as long as the one before. Returns the time until the next try.
    pub(super) fn pause(&self, claim: &SandboxClaim) -> Duration {
        self.backoff.failed(uid(claim), generation(claim))
    }

    /// Returns the time until the next try; `None` if the claim may be tried now.
    pub(super) fn remaining(&self, claim: &SandboxClaim) -> Option<Duration> {
        self.backoff.remaining(uid(claim), generation(claim))
    }

    /// Forgets a claim that has ended or is gone.
    pub(super) fn forget(&self, claim: &SandboxClaim) {
        self.claims.lock().remove(uid(claim));
        self.backoff.forget(uid(claim));
    }

    /// Changes what is known of a claim. A new spec begins anew: it may have mended what made the sandboxes fail.
    fn change(&self, claim: &SandboxClaim, change: impl FnOnce(&mut Attempt)) {
        let mut claims = self.claims.lock();
        let attempt = claims.entry(uid(claim).to_owned()).or_default();
        if attempt.generation != generation(claim) {
            attempt.generation = generation(claim);
            (attempt.failed, attempt.shortage) = (0, None);
            attempt.refused.clear();
            attempt.uninitialised.clear();
        }
        change(attempt);
    }
}

fn uid(claim: &SandboxClaim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

fn generation(claim: &SandboxClaim) -> i64 {
    claim.metadata.generation.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(generation: i64) -> SandboxClaim {
        let mut claim = SandboxClaim::default();
        claim.metadata.uid = Some("u".to_owned());
        claim.metadata.generation = Some(generation);
        claim
    }

    #[tokio::test(start_paused = true)]
    async fn lc7_failures_are_counted_until_the_spec_changes_or_the_claim_ends() {
        let attempts = Attempts::default();
        attempts.add_failure(&claim(1), "a");
        attempts.add_failure(&claim(1), "b");
        let attempt = attempts.of(&claim(1));
        assert_eq!((attempt.failed, attempt.last_failure.as_str()), (2, "b"));
        assert_eq!(attempts.pause(&claim(1)), Duration::from_secs(1));
        assert_eq!(attempts.pause(&claim(1)), Duration::from_secs(2));
        assert_eq!(attempts.remaining(&claim(1)), Some(Duration::from_secs(2)));
        assert_eq!(attempts.remaining(&claim(2)), None);
        assert_eq!(attempts.of(&claim(2)).failed, 0);
        attempts.add_failure(&claim(2), "c");
        attempts.forget(&claim(2));
        assert_eq!(attempts.of(&claim(2)).failed, 0);
        assert_eq!(attempts.remaining(&claim(2)), None);
    }

    #[test]
    fn lc7_a_refusal_is_remembered_from_the_first_one_with_the_last_answer_until_the_spec_changes() {
        let attempts = Attempts::default();
        let mut sandbox = Sandbox::default();
        sandbox.metadata.uid = Some("s".to_owned());
        attempts.add_refusal(&claim(1), &sandbox, "a");
        let first = attempts.of(&claim(1)).refused["s"].clone();
        attempts.add_refusal(&claim(1), &sandbox, "b");
        let second = attempts.of(&claim(1)).refused["s"].clone();
        assert_eq!(second, Refusal { answer: "b".to_owned(), ..first });
        attempts.add_failure(&claim(2), "c");
        assert_eq!(attempts.of(&claim(2)).refused.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn q6_a_runtime_is_tried_five_times_with_growing_pauses() {
        let (attempts, claim) = (Attempts::default(), claim(1));
        let mut sandbox = Sandbox::default();
        sandbox.metadata.uid = Some("s".to_owned());
        let standing = || attempts.of(&claim).initialisation(&sandbox);
        assert_eq!(standing(), Standing::Uninitialised(Duration::ZERO));
        for millis in [100, 400, 1500, 3000] {
            attempts.add_failed_init(&claim, &sandbox, "no");
            assert_eq!(standing(), Standing::Uninitialised(Duration::from_millis(millis)));
            tokio::time::advance(Duration::from_millis(millis)).await;
            assert_eq!(standing(), Standing::Uninitialised(Duration::ZERO));
        }
        attempts.put_off_init(&claim, &sandbox, Duration::from_secs(7), "later");
        assert_eq!(standing(), Standing::Uninitialised(Duration::from_secs(7)));
        attempts.add_failed_init(&claim, &sandbox, "no luck");
        let reason = "the runtime was not initialised in 5 tries: no luck";
        assert_eq!(standing(), Standing::Failed(reason.to_owned()));
        assert_eq!(attempts.of(&claim).uninitialised_because(), Some("no luck"));
        attempts.forget_init(&claim, &sandbox);
        assert_eq!(attempts.of(&claim).uninitialised_because(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn lc2_a_sandbox_that_was_deleted_does_not_count_although_the_cache_shows_it() {
        let attempts = Attempts::default();
        let sandbox = |uid: &str| {
            let mut sandbox = Sandbox::default();
            sandbox.metadata.uid = Some(uid.to_owned());
            Arc::new(sandbox)
        };
        attempts.add_deleted(&claim(1), &sandbox("gone"));
        let mut shown = vec![sandbox("gone"), sandbox("left")];
        attempts.retain_existing(&claim(1), &mut shown);
        assert_eq!(shown, [sandbox("left")]);
    }
}
