//! The status of a set (LP6): its numbers, and the condition Progressing.

use jiff::Timestamp;

use super::members::Counts;
use crate::api::v1alpha1::{
    CONDITION_PROGRESSING, ConditionStatus, LABEL_FALSE, LABEL_SANDBOX_CLAIMED, LABEL_SANDBOX_POOL,
    REASON_MEMBERS_KEEP_FAILING, SandboxSet, SandboxSetStatus,
};
use crate::lifecycle::conditions;

/// Reason of the condition: members of an old revision are being replaced.
const REASON_ROLLING_UPDATE: &str = "RollingUpdate";
/// Reason of the condition: all members have the current revision.
const REASON_COMPLETE: &str = "RolloutComplete";
/// Reason of the condition: sandboxes cannot be created.
const REASON_CREATE_FAILED: &str = "CreateSandboxFailed";
/// Reason of the condition: sandboxes cannot be deleted.
const REASON_DELETE_FAILED: &str = "DeleteSandboxFailed";
/// Reason of the condition: new sandboxes are not in the scope of this process.
const REASON_OUT_OF_SCOPE: &str = "SandboxesOutOfScope";
/// What the message of the condition begins with when members keep failing. The message of the last member follows.
pub(super) const MEMBERS_FAIL: &str = "sandboxes fail before they are available; the last one is ";

/// How a set comes closer to what its spec asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing hinders the set, and no member has an old revision.
    Steady,
    /// So many members have an old revision.
    RollingOut(usize),
    /// Members die before they are available.
    MembersKeepFailing(String),
    /// Sandboxes cannot be created.
    CreateFailed(String),
    /// Sandboxes cannot be deleted.
    DeleteFailed(String),
    /// New sandboxes do not match the label selector of this process, which could not count them.
    OutOfScope,
    /// The set describes no sandboxes: a reason, and what is missing.
    NoTemplate(&'static str, String),
}

/// Returns the next status of a set.
pub(super) fn next(
    set: &SandboxSet,
    revision: &str,
    counts: Counts,
    progress: &Progress,
    now: Timestamp,
) -> SandboxSetStatus {
    let mut status = set.status.clone().unwrap_or_default();
    status.observed_generation = set.metadata.generation;
    status.replicas = number(counts.total());
    status.available_replicas = number(counts.available);
    status.updated_replicas = Some(number(counts.updated()));
    status.updated_available_replicas = Some(number(counts.updated_available));
    if status.update_revision.as_deref().unwrap_or_default() != revision {
        status.current_revision = name_of_template(set);
        status.update_revision = (!revision.is_empty()).then(|| revision.to_owned());
    }
    status.selector = Some(selector(set.name_or_empty()));
    set_progress(set, &mut status, progress, now);
    status
}

/// Returns the name of the SandboxTemplate that holds the content of a revision of ours.
///
/// OpenKruise Agents stores each revision of a set with a template of its own in a new SandboxTemplate, and names it in
/// `status.currentRevision`. This project does not, so the name of the one before would be wrong.
fn name_of_template(set: &SandboxSet) -> Option<String> {
    let reference = set.spec.template_ref.as_ref().filter(|_| set.spec.template.is_none());
    reference.map(|reference| reference.name.clone())
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn selector(set: &str) -> String {
    format!("{LABEL_SANDBOX_CLAIMED}={LABEL_FALSE},{LABEL_SANDBOX_POOL}={set}")
}

/// Sets the condition Progressing. A set that was never hindered has none, as with OpenKruise Agents.
fn set_progress(set: &SandboxSet, status: &mut SandboxSetStatus, progress: &Progress, now: Timestamp) {
    let (value, reason, message) = match progress {
        Progress::Steady if set.condition(CONDITION_PROGRESSING).is_none() => return,
        Progress::Steady => {
            (ConditionStatus::True, REASON_COMPLETE, "all sandboxes have the current revision".to_owned())
        }
        Progress::RollingOut(old) => {
            let message = format!("{old} sandboxes of earlier revisions are left to replace");
            (ConditionStatus::True, REASON_ROLLING_UPDATE, message)
        }
        Progress::MembersKeepFailing(last) => {
            (ConditionStatus::False, REASON_MEMBERS_KEEP_FAILING, format!("{MEMBERS_FAIL}{last}"))
        }
        Progress::CreateFailed(answer) => (ConditionStatus::False, REASON_CREATE_FAILED, answer.clone()),
        Progress::DeleteFailed(answer) => (ConditionStatus::False, REASON_DELETE_FAILED, answer.clone()),
        Progress::OutOfScope => {
            let message = "the labels of new sandboxes do not match the label selector of sandbox-manager";
            (ConditionStatus::False, REASON_OUT_OF_SCOPE, message.to_owned())
        }
        Progress::NoTemplate(reason, missing) => (ConditionStatus::False, *reason, missing.clone()),
    };
    let seen = (set.metadata.generation, now);
    conditions::set(&mut status.conditions, CONDITION_PROGRESSING, value, (reason, &message), seen);
}
