//! [`Member`]: a sandbox that a set controls, and what the set may do with it (LP1).
//!
//! A sandbox is a member if its controller reference has the UID of the set. A claim removes that reference, so a claimed
//! sandbox is normally no member. A sandbox that is labelled as claimed and still has the reference belongs to its user
//! as well.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::v1alpha1::{
    ANNOTATION_LOCK, LABEL_TEMPLATE_HASH, OWNER_SCALE_DOWN, Sandbox, StateKind, annotation, label,
};

/// What a member is for its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has a place in the pool, and is not ready yet.
    Creating,
    /// Has a place in the pool, and is ready for a claim.
    Available,
    /// Has ended. The set deletes the member.
    Dead,
    /// Is locked by a controller of the set, which has not deleted the member yet.
    Locked,
    /// Is being deleted, or belongs to a user.
    Gone,
}

/// A sandbox that a set controls.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) standing: Standing,
    /// True if the member was made from the current template of the set.
    pub(super) is_updated: bool,
    /// True if the set must not delete the member now.
    pub(super) is_protected: bool,
    /// When the set deletes a member that is [`Standing::Locked`].
    pub(super) due: Option<Instant>,
    /// Why the API server has refused to lock or delete the member, if it did.
    pub(super) refusal: Option<Refusal>,
}

/// The answer of the API server that has refused to lock or delete a member.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) message: String,
    /// The set leaves the member alone until then.
    pub(super) retry_at: Instant,
}

impl Member {
    /// Classifies a sandbox that the set controls.
    pub(super) fn new(sandbox: Arc<Sandbox>, revision: &str, now: Timestamp) -> Self {
        let standing = standing(&sandbox, now);
        let kind = sandbox.state(now).kind;
        Self {
            is_updated: label(&sandbox.metadata, LABEL_TEMPLATE_HASH) == Some(revision),
            is_protected: is_locked_by_claimant(&sandbox)
                || matches!(kind, StateKind::Unknown | StateKind::Recycling),
            due: None,
            refusal: None,
            standing,
            sandbox,
        }
    }

    /// Returns true if the member has a place in the pool: it is available, or may become available.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self.standing, Standing::Creating | Standing::Available)
    }

    /// Returns the refusal because of which the set leaves the member alone now.
    pub(super) fn refusal(&self, now: Instant) -> Option<&Refusal> {
        self.refusal.as_ref().filter(|refusal| now < refusal.retry_at)
    }

    /// Returns true if the set should have deleted the member already.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.standing == Standing::Locked && self.due.is_some_and(|due| due <= now)
    }

    pub(super) fn uid(&self) -> &str {
        self.sandbox.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Returns why the sandbox has ended, for people.
    pub(super) fn message(&self) -> String {
        let status = self.sandbox.status.as_ref();
        let message = status.and_then(|status| status.message.as_deref()).filter(|text| !text.is_empty());
        let phase = self.sandbox.phase().map_or("", |phase| phase.as_str());
        format!("{}: {}", self.sandbox.name_or_empty(), message.unwrap_or(phase))
    }
}

fn standing(sandbox: &Sandbox, now: Timestamp) -> Standing {
    if sandbox.is_deleting() || sandbox.is_claimed() {
        return Standing::Gone;
    }
    if is_locked_by_set(sandbox) {
        return Standing::Locked;
    }
    match sandbox.state(now).kind {
        StateKind::Available => Standing::Available,
        StateKind::Dead => Standing::Dead,
        // A sandbox in a state that this version does not know may become available later. It keeps its place, because
        // a replacement could then be one too many.
        _ => Standing::Creating,
    }
}

/// Returns true if a controller of the set has locked the sandbox, to delete it.
pub(super) fn is_locked_by_set(sandbox: &Sandbox) -> bool {
    annotation(&sandbox.metadata, ANNOTATION_LOCK).is_some() && sandbox.owner() == Some(OWNER_SCALE_DOWN)
}

fn is_locked_by_claimant(sandbox: &Sandbox) -> bool {
    annotation(&sandbox.metadata, ANNOTATION_LOCK).is_some() && sandbox.owner() != Some(OWNER_SCALE_DOWN)
}

/// The members that have a place in the pool, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) creating: usize,
    pub(super) available: usize,
    pub(super) updated_creating: usize,
    pub(super) updated_available: usize,
}

impl Counts {
    /// Counts the members, and the own creations that the cache does not show.
    pub(super) fn of(members: &[Member], unseen: Unseen) -> Self {
        let mut counts = Self {
            creating: unseen.updated + unseen.old,
            updated_creating: unseen.updated,
            ..Self::default()
        };
        for member in members {
            let updated = usize::from(member.is_updated);
            match member.standing {
                Standing::Creating => {
                    counts.creating += 1;
                    counts.updated_creating += updated;
                }
                Standing::Available => {
                    counts.available += 1;
                    counts.updated_available += updated;
                }
                Standing::Dead | Standing::Locked | Standing::Gone => {}
            }
        }
        counts
    }

    pub(super) fn total(self) -> usize {
        self.creating + self.available
    }

    pub(super) fn updated(self) -> usize {
        self.updated_creating + self.updated_available
    }
}

/// Number of own creations that the cache does not show, by whether they have the current revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) updated: usize,
    pub(super) old: usize,
}
