//! [`ClaimHandler`]: the course of one reconcile of a claim.
//!
//! ```text
//!  members ─▶ decide ─▶ give up what failed ─▶ claim what is missing ─▶ mark what is ready ─▶ status
//!     ▲                 initialise runtimes               │
//!     │                         │                         │
//!     └── until nothing is ─────┴─────────────────────────┘
//!         given up any more
//! ```
//!
//! The status is written last. So a completion is only written after everything that it says is done.

use std::sync::Arc;
use std::time::Duration;

use controller_manager::{Action, HandlerError, Observed, ReconcileHandler};
use jiff::Timestamp;
use shared_cache::{Reader, Satisfaction, SharedCache, error_text};

use super::apply::{self, Initialised, Lack, Settled};
use super::attempts::Attempts;
use super::decide::{
    Decision, Discard, Failures, Member, Standing, View, add_to_message, decide, set_name, wanted,
};
use super::observe;
use super::request::request;
use super::unseen::{self, Unseen, Write};
use super::waiting::{RETRY, Waiting};
use crate::api::v1alpha1::{Sandbox, SandboxClaim, SandboxClaimPhase, SandboxSet};
use crate::cache::indexes::SANDBOX_USER;
use crate::claims::Claims;
use crate::lifecycle::events::{Events, Reason};
use crate::lifecycle::requests::{UNSEEN_WRITE, delete_unchanged};

/// How often the sandboxes that a claim gives up are looked at anew, because they have changed meanwhile.
const SETTLE_ROUNDS: usize = 5;

/// Number of runtimes that one try initialises.
const MOST_INITS: usize = 64;

/// When a claim goes on whose round was over: others have had their turn.
const TURN: Duration = Duration::from_secs(1);

/// Reconciles claims.
pub(super) struct ClaimHandler {
    pub(super) cache: SharedCache,
    pub(super) sandboxes: Reader<Sandbox>,
    pub(super) sets: Reader<SandboxSet>,
    pub(super) claims: Claims,
    pub(super) events: Events,
    pub(super) unseen: Unseen,
    pub(super) waiting: Arc<Waiting>,
    pub(super) attempts: Attempts,
    /// Whether the runtimes of the sandboxes are initialised, unless a claim says otherwise.
    pub(super) init_runtime: bool,
}

/// The members of a claim, and a decision about them that gives up none.
type Standings = (Vec<Arc<Sandbox>>, Decision);

/// Whether the set of a claim is there.
enum Set {
    Cached(Arc<SandboxSet>),
    /// The API server has the set, and the cache does not: its watch lags behind, or the set is out of its scope.
    Unseen,
    Absent,
}

impl ReconcileHandler<SandboxClaim> for ClaimHandler {
    async fn reconcile(&self, observed: Observed<SandboxClaim>) -> Result<Action, HandlerError> {
        match observed {
            Observed::Present(claim) if claim.metadata.deletion_timestamp.is_none() => {
                self.present(claim).await
            }
            observed => {
                if let Some(claim) = observed.object() {
                    self.forget(claim);
                }
                Ok(Action::await_change())
            }
        }
    }
}

impl ClaimHandler {
    async fn present(&self, mut claim: Arc<SandboxClaim>) -> Result<Action, HandlerError> {
        // Half of a spec is no wish (LC2). The cache logs and counts such an object.
        if !claim.partially_decoded().is_empty() {
            return Ok(Action::await_change());
        }
        if let Satisfaction::Unsatisfied { .. } = self.cache.is_satisfied(&*claim) {
            return Ok(Action::requeue(UNSEEN_WRITE));
        }
        if claim.phase() == Some(&SandboxClaimPhase::Completed) {
            self.forget(&claim);
            return self.completed(&claim).await;
        }
        let set = self.set_of(&claim).await?;
        if !self.begin(&mut claim, &set).await? {
            return Ok(Action::await_change());
        }
        if claim.phase() != Some(&SandboxClaimPhase::Claiming) {
            return Ok(Action::await_change());
        }
        self.claiming(claim, &set).await
    }

    /// Gives up what has failed, claims what is missing, and writes the status.
    async fn claiming(&self, mut claim: Arc<SandboxClaim>, set: &Set) -> Result<Action, HandlerError> {
        // The completion must not be written before it is known what has become of each sandbox that is given up.
        let Some(mut standings) = self.settle(&claim, set).await? else {
            return Ok(Action::requeue(UNSEEN_WRITE));
        };
        let mut wait = None;
        if standings.1.claim > 0 {
            let Some(claimed) = self.claim_missing(&claim, set, standings).await? else {
                return Ok(Action::requeue(UNSEEN_WRITE));
            };
            (standings, wait) = claimed;
        }
        let (members, mut decision) = standings;
        if decision.claim == 0 {
            self.waiting.remove(&claim);
        }
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let completes = decision.status.phase == Some(SandboxClaimPhase::Completed);
        if completes && !self.unseen.lost(uid).is_empty() {
            // What arrives after the completion would be a sandbox that nobody counts or gives up.
            return Ok(Action::requeue(UNSEEN_WRITE));
        }
        let unmarked = self.mark_ready(&claim, &members, &mut decision).await;
        let after = decision.after.into_iter().chain(wait).chain(unmarked).min();
        if !self.write_status(&mut claim, decision).await? {
            return Ok(Action::await_change());
        }
        Ok(after.map_or_else(Action::await_change, Action::requeue))
    }

    /// Decides about a claim, initialises runtimes, and gives up sandboxes until a decision gives up none. Each of them is
    /// settled before the next decision: it is gone, or kept for inspection, or it has changed and is decided about anew,
    /// or it is left alone for a while because the API server refuses. Returns none if they keep changing.
    async fn settle(&self, claim: &SandboxClaim, set: &Set) -> Result<Option<Standings>, HandlerError> {
        let mut initialises = true;
        for _ in 0..SETTLE_ROUNDS {
            let members = self.members(claim).await?;
            let decision = self.decide(claim, set, &members);
            if decision.discard.is_empty() {
                if decision.initialise.is_empty() || !initialises {
                    return Ok(Some((members, decision)));
                }
                self.initialise(claim, &members, &decision.initialise).await;
                initialises = false;
                continue;
            }
            let settled = apply::give_up_all(&self.cache, &decision.discard, &members).await;
            let mut has_failed = false;
            for (discard, settled) in decision.discard.iter().zip(settled) {
                has_failed |= self.record_discard(claim, (discard, &members[discard.place]), settled);
            }
            // Sandboxes that were claimed together often fail one after the other. That is one failure.
            if has_failed && self.attempts.remaining(claim).is_none() {
                self.attempts.pause(claim);
            }
        }
        Ok(None)
    }

    /// Initialises runtimes, in one try for all of them, so that other claims have their turn. Those that do not answer are
    /// tried again, and then given up.
    async fn initialise(&self, claim: &SandboxClaim, members: &[Arc<Sandbox>], places: &[usize]) {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let tried: Vec<_> = places.iter().take(MOST_INITS).map(|place| &members[*place]).collect();
        let outcomes = apply::initialise_all(&self.cache, claim, &tried).await;
        let mut refusal = None;
        for (member, outcome) in tried.into_iter().zip(outcomes) {
            match outcome {
                Initialised::Marked(marked) => {
                    self.attempts.forget_init(claim, member);
                    self.unseen.add(uid, Write::Known(marked));
                }
                Initialised::Failed(reason) => self.attempts.add_failed_init(claim, member, &reason),
                Initialised::Changed(live) => {
                    if let Some(live) = live {
                        self.cache.expect(&*live);
                        self.unseen.add(uid, Write::Known(live));
                    }
                    self.attempts.put_off_init(claim, member, UNSEEN_WRITE, "the sandbox has changed");
                }
                Initialised::Refused(answer) => {
                    let text = unmarked(member, &answer);
                    self.attempts.put_off_init(claim, member, self.pause(claim), &text);
                    refusal = Some(text);
                }
            }
        }
        if let Some(refusal) = refusal {
            self.events.publish(claim, Reason::ClaimSandboxFailed, &refusal);
        }
    }

    /// Marks a sandbox as ready for the claim. Returns why the API server refuses, if it does. A sandbox that has changed
    /// meanwhile is decided about anew.
    async fn mark(&self, claim: &SandboxClaim, member: &Arc<Sandbox>) -> Option<String> {
        match apply::mark_ready(&self.cache, claim, member).await {
            Ok(Some(marked)) => {
                let uid = claim.metadata.uid.as_deref().unwrap_or_default();
                self.unseen.add(uid, Write::Known(marked));
                None
            }
            Ok(None) => None,
            Err(error) => Some(unmarked(member, &error_text(&*error))),
        }
    }

    /// Pauses a claim whose request was refused, unless it pauses already. Returns the time until the next try.
    fn pause(&self, claim: &SandboxClaim) -> Duration {
        self.attempts.remaining(claim).unwrap_or_else(|| self.attempts.pause(claim))
    }

    /// Returns true if the claim initialises the runtimes of its sandboxes.
    fn init_runtime(&self, claim: &SandboxClaim) -> bool {
        self.init_runtime && claim.spec.skip_init_runtime != Some(true)
    }

    /// Notes what has become of a sandbox. Returns true if the claim has to pause: the sandbox is given up, or cannot be.
    fn record_discard(
        &self,
        claim: &SandboxClaim,
        (discard, sandbox): (&Discard, &Sandbox),
        settled: Settled,
    ) -> bool {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let what = match settled {
            Settled::Refused(answer) => {
                self.attempts.add_refusal(claim, sandbox, &answer);
                let (name, reason) = (sandbox.name_or_empty(), &discard.reason);
                let note = format!("Sandbox {name} ({reason}) cannot be given up: {answer}");
                self.events.publish(claim, Reason::ClaimedSandboxFailed, &note);
                return true;
            }
            Settled::Changed(live) => {
                self.cache.expect(&*live);
                self.unseen.add(uid, Write::Known(live));
                return false;
            }
            Settled::Deleted => {
                self.attempts.add_deleted(claim, sandbox);
                "removed"
            }
            Settled::Kept(reserved) => {
                self.unseen.add(uid, Write::Known(reserved));
                "kept for inspection"
            }
        };
        self.attempts.forget_init(claim, sandbox);
        self.attempts.add_failure(claim, &discard.reason);
        let note = format!("Sandbox {} is {what}: {}", sandbox.name_or_empty(), discard.reason);
        self.events.publish(claim, Reason::ClaimedSandboxFailed, &note);
        true
    }

    /// Claims what is missing, unless it is too early for another try. Returns the new standings, and the time until the
    /// next try.
    async fn claim_missing(
        &self,
        claim: &SandboxClaim,
        set: &Set,
        mut standings: Standings,
    ) -> Result<Option<(Standings, Option<Duration>)>, HandlerError> {
        if !matches!(set, Set::Cached(_)) {
            return Ok(Some((standings, Some(RETRY))));
        }
        if let Some(pause) = self.attempts.remaining(claim) {
            // A sandbox that becomes available is for a claim that may take it.
            self.waiting.remove(claim);
            return Ok(Some((standings, Some(pause))));
        }
        if let Some(wait) = self.waiting.remaining(claim) {
            return Ok(Some((standings, Some(wait))));
        }
        let mut is_waiting = false;
        loop {
            let request = request(claim, self.init_runtime(claim));
            let made = apply::claim(&self.claims, &self.unseen, claim, request, standings.1.claim).await;
            self.attempts.set_shortage(claim, made.shortage.as_ref().map(|(_, text)| text.as_str()));
            self.report(claim, &made);
            let Some(settled) = self.settle(claim, set).await? else { return Ok(None) };
            standings = settled;
            let wait = match made.shortage {
                Some((Lack::Refused, _)) => Some(self.attempts.pause(claim)),
                Some((Lack::Turn, _)) => Some(TURN),
                Some((Lack::Stock, _)) if is_waiting => Some(RETRY),
                // A sandbox may have become available after the look, and before the claim waits for it. So the claim
                // looks once more.
                Some((Lack::Stock, _)) if standings.1.claim > 0 => {
                    self.waiting.add(claim);
                    is_waiting = true;
                    continue;
                }
                _ => None,
            };
            return Ok(Some((standings, wait)));
        }
    }

    /// Marks the sandboxes whose status would not always show that they were ready for the claim. A refusal is added to
    /// the message of the decision, so that the status is written all the same. Returns the time until the next try then.
    async fn mark_ready(
        &self,
        claim: &SandboxClaim,
        members: &[Arc<Sandbox>],
        decision: &mut Decision,
    ) -> Option<Duration> {
        let mut refusal = None;
        for place in &decision.mark {
            refusal = self.mark(claim, &members[*place]).await.or(refusal);
        }
        let refusal = refusal?;
        self.events.publish(claim, Reason::ClaimSandboxFailed, &refusal);
        add_to_message(&mut decision.status, &refusal);
        Some(self.pause(claim))
    }

    /// Writes the status of a decision. Returns false if the claim has changed meanwhile.
    async fn write_status(
        &self,
        claim: &mut Arc<SandboxClaim>,
        decision: Decision,
    ) -> Result<bool, HandlerError> {
        let was_complete = claim.phase() == Some(&SandboxClaimPhase::Completed);
        if !apply::write_status(&self.cache, claim, decision.status).await? {
            return Ok(false);
        }
        if !was_complete && claim.phase() == Some(&SandboxClaimPhase::Completed) {
            let message = claim.status.as_ref().and_then(|status| status.message.as_deref());
            self.events.publish(&**claim, Reason::ClaimCompleted, message.unwrap_or_default());
        }
        Ok(true)
    }

    /// Writes that claiming has begun, before anything is claimed. A claim that another process has begun is looked up on
    /// the API server once. Returns false if the claim has changed meanwhile.
    async fn begin(&self, claim: &mut Arc<SandboxClaim>, set: &Set) -> Result<bool, HandlerError> {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        if claim.phase().is_none() {
            let decision = self.decide(claim, set, &[]);
            if !self.write_status(claim, decision).await? {
                return Ok(false);
            }
            self.unseen.begin(&uid, Vec::new());
            self.warn_of_ignored_fields(claim, set);
        } else if !self.unseen.has(&uid) {
            self.unseen.begin(&uid, unseen::of_others(claim, &self.cache).await?);
        }
        Ok(true)
    }

    /// Deletes a claim whose time to live is over.
    async fn completed(&self, claim: &Arc<SandboxClaim>) -> Result<Action, HandlerError> {
        let Decision { delete, after, .. } = self.decide(claim, &Set::Unseen, &[]);
        if delete {
            let life = claim.spec.ttl_after_completed.as_ref().map_or_else(String::new, ToString::to_string);
            let note = format!("Deleting SandboxClaim after TTL of {life}");
            self.events.publish(&**claim, Reason::SandboxClaimTTLDelete, &note);
            delete_unchanged(&self.cache, &**claim).await?;
        }
        Ok(after.map_or_else(Action::await_change, Action::requeue))
    }

    /// Returns the sandboxes of the claim: those that the cache shows, and own claims that it does not show yet.
    async fn members(&self, claim: &SandboxClaim) -> Result<Vec<Arc<Sandbox>>, HandlerError> {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let unseen = self.unseen.of(uid, &self.claims, &self.cache).await?;
        let mut members = self.sandboxes.by_index(SANDBOX_USER, uid)?;
        members.retain(|sandbox| !unseen.iter().any(|unseen| unseen.metadata.uid == sandbox.metadata.uid));
        members.extend(unseen);
        self.attempts.retain_existing(claim, &mut members);
        members.retain(|sandbox| observe::belongs_to(sandbox, claim));
        Ok(members)
    }

    /// Looks for the set of the claim, in the namespace of the claim. A set that the cache does not have is looked for on
    /// the API server, because a claim ends if there is none.
    async fn set_of(&self, claim: &SandboxClaim) -> Result<Set, HandlerError> {
        let (namespace, name) = (claim.namespace_or_empty(), set_name(claim));
        if let Some(set) = self.sets.get(namespace, name)? {
            return Ok(Set::Cached(set));
        }
        let live = self.cache.api_reader().get::<SandboxSet>(namespace, name).await?;
        Ok(if live.is_some() { Set::Unseen } else { Set::Absent })
    }

    /// Publishes what the claims of one reconcile have led to.
    fn report(&self, claim: &SandboxClaim, made: &apply::Made) {
        let (new, wanted) = (made.taken + made.created, wanted(claim));
        if new > 0 {
            let note = format!("Claimed {new} of {wanted} sandboxes, {} of them created", made.created);
            self.events.publish(claim, Reason::SandboxClaimed, &note);
        }
        match &made.shortage {
            Some((Lack::Refused, text)) => self.events.publish(claim, Reason::ClaimSandboxFailed, text),
            Some((Lack::Stock, text)) => self.events.publish(claim, Reason::NoAvailableSandboxes, text),
            // The claim goes on in a moment.
            Some((Lack::Turn, _)) | None => {}
        }
    }

    fn warn_of_ignored_fields(&self, claim: &SandboxClaim, set: &Set) {
        let spec = &claim.spec;
        // Only a template in the sandbox itself can differ from that of the other members.
        let is_shared = matches!(set, Set::Cached(set) if set.spec.template.is_none());
        // One Event with all of it: later ones of the same reason would only be counted.
        let mut notes = Vec::new();
        if is_shared && spec.inplace_update.is_some() {
            notes.push("inplaceUpdate has no effect: the SandboxSet refers to a SandboxTemplate".to_owned());
        }
        let has_variables = spec.env_vars.as_ref().is_some_and(|variables| !variables.is_empty());
        let has_runtime = match set {
            Set::Cached(set) => self.claims.has_runtime(set),
            Set::Unseen | Set::Absent => None,
        };
        let reason = match has_runtime {
            _ if !self.init_runtime => Some("lifecycle.initRuntime is false"),
            _ if !self.init_runtime(claim) => Some("skipInitRuntime is true"),
            Some(false) => Some("the template of the SandboxSet has no port 49983"),
            Some(true) | None => None,
        };
        if let Some(why) = reason.filter(|_| has_variables) {
            notes.push(format!("envVars has no effect: {why}"));
        }
        if spec.dynamic_volumes_mount.as_ref().is_some_and(|volumes| !volumes.is_empty()) {
            notes.push(
                "dynamicVolumesMount has no effect: no volume is mounted into a running sandbox".to_owned(),
            );
        }
        if !notes.is_empty() {
            self.events.publish(claim, Reason::FieldNotSupported, &notes.join("; "));
        }
    }

    fn forget(&self, claim: &SandboxClaim) {
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        self.unseen.forget(uid);
        self.attempts.forget(claim);
        self.waiting.remove(claim);
    }

    /// Decides about a claim with these sandboxes.
    fn decide(&self, claim: &SandboxClaim, set: &Set, sandboxes: &[Arc<Sandbox>]) -> Decision {
        let now = Timestamp::now();
        let attempt = self.attempts.of(claim);
        let init_runtime = self.init_runtime(claim);
        let member = |sandbox: &Arc<Sandbox>| {
            let mut member = observe::member(sandbox, claim, init_runtime, now);
            if member.standing == Standing::Uninitialised(Duration::ZERO) {
                member.standing = attempt.initialisation(sandbox);
            }
            member.refusal =
                attempt.refused.get(sandbox.metadata.uid.as_deref().unwrap_or_default()).cloned();
            member
        };
        let members: Vec<Member> = sandboxes.iter().map(member).collect();
        let unseen = "the SandboxSet is not in the cache; does sandboxLabelSelector select it?";
        let shortage = matches!(set, Set::Unseen).then_some(unseen).or(attempt.shortage.as_deref());
        decide(&View {
            claim,
            has_set: !matches!(set, Set::Absent),
            members: &members,
            shortage,
            uninitialised: attempt.uninitialised_because(),
            failures: Failures { count: attempt.failed, last: &attempt.last_failure },
            pause: self.attempts.remaining(claim),
            now,
        })
    }
}

/// Says that the API server refuses to mark a sandbox.
fn unmarked(sandbox: &Sandbox, answer: &str) -> String {
    format!("sandbox {} cannot be marked as ready: {answer}", sandbox.name_or_empty())
}
