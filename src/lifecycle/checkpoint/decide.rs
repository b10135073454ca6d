//! Decides what follows from the state of a checkpoint (LK2). Pure: no I/O, and no clock but the `now` that it is given.
//!
//! The content is saved by an agent on the node, which is not part of this project. Decided here is only what needs no
//! content: when a checkpoint that has ended is deleted, and that a checkpoint whose sandbox is gone fails. The finalizer
//! protects saved content, so only a checkpoint that never began loses it here.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::{
    Checkpoint, CheckpointPhase, CheckpointStatus, FINALIZER_CHECKPOINT, GoDuration, Time,
};

/// How long a new checkpoint waits for its sandbox. Both may be created by one `kubectl apply`, in any order.
pub(super) const GRACE: Duration = Duration::from_mins(1);

/// Seconds of a day, a unit that the durations of Go do not have.
const DAY: u64 = 24 * 60 * 60;

/// What is known of a checkpoint at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'v> {
    pub(super) checkpoint: &'v Checkpoint,
    /// True if the API server has no sandbox of the name. False for a checkpoint that names none.
    pub(super) sandbox_is_gone: bool,
    pub(super) now: Timestamp,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// True if the finalizer is to be removed, before anything else.
    pub(super) release: bool,
    /// The next status, if it changes.
    pub(super) status: Option<CheckpointStatus>,
    /// True if the checkpoint is to be deleted.
    pub(super) delete: bool,
    /// True if the time to live is no duration.
    pub(super) invalid_ttl: bool,
    /// Time until something follows without a change.
    pub(super) after: Option<Duration>,
}

/// Returns what follows from a view.
pub(super) fn decide(view: &View<'_>) -> Decision {
    let checkpoint = view.checkpoint;
    if checkpoint.metadata.deletion_timestamp.is_some() {
        return Decision {
            release: has_finalizer(checkpoint) && !checkpoint.has_started(),
            ..Decision::default()
        };
    }
    if is_finished(checkpoint) {
        return expiry(view);
    }
    if checkpoint.has_started() || !view.sandbox_is_gone {
        return Decision::default();
    }
    let created = checkpoint.metadata.creation_timestamp.as_ref().map_or(view.now, |time| time.0);
    let due = later(created, GRACE);
    if due > view.now {
        return Decision { after: Some(until(view.now, due)), ..Decision::default() };
    }
    Decision { release: has_finalizer(checkpoint), status: Some(failed(view)), ..Decision::default() }
}

fn failed(view: &View<'_>) -> CheckpointStatus {
    let checkpoint = view.checkpoint;
    let sandbox = checkpoint.spec.sandbox_name.as_deref().unwrap_or_default();
    CheckpointStatus {
        phase: Some(CheckpointPhase::Failed),
        message: Some(format!("Sandbox {sandbox} is gone, and nothing was saved")),
        completion_time: Some(Time::whole_seconds(view.now)),
        observed_generation: checkpoint.metadata.generation,
        ..checkpoint.status.clone().unwrap_or_default()
    }
}

/// A checkpoint that has ended is deleted when its time to live is over.
fn expiry(view: &View<'_>) -> Decision {
    let Some(text) = view.checkpoint.spec.ttl_after_finished.as_deref().filter(|text| !text.is_empty())
    else {
        return Decision::default();
    };
    let Some(life) = time_to_live(text) else {
        return Decision { invalid_ttl: true, ..Decision::default() };
    };
    let ended = view.checkpoint.status.as_ref().and_then(|status| status.completion_time.as_ref());
    // Without a time of its end, a checkpoint does not expire.
    let Some(ended) = ended.map(Time::timestamp) else { return Decision::default() };
    let end = later(ended, life);
    if end <= view.now {
        return Decision { delete: true, ..Decision::default() };
    }
    Decision { after: Some(until(view.now, end)), ..Decision::default() }
}

/// Reads a duration of Go, or a number of days such as `30d`. Returns none for another text, and for a negative duration.
fn time_to_live(text: &str) -> Option<Duration> {
    if let Some(days) = text.strip_suffix('d') {
        return days.parse::<u64>().ok()?.checked_mul(DAY).map(Duration::from_secs);
    }
    text.parse::<GoDuration>().ok()?.non_negative()
}

fn is_finished(checkpoint: &Checkpoint) -> bool {
    matches!(checkpoint.phase(), Some(CheckpointPhase::Succeeded | CheckpointPhase::Failed))
}

/// Returns true if the finalizer of the checkpoint keeps the object.
pub(super) fn has_finalizer(checkpoint: &Checkpoint) -> bool {
    checkpoint.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER_CHECKPOINT)
}

fn later(instant: Timestamp, by: Duration) -> Timestamp {
    let by = jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX);
    instant.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn until(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}
