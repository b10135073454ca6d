//! The timers of a sandbox (LS5, LC6). They count in every phase.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::v1alpha1::{Sandbox, SandboxPhase};

/// A timer that has fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The shutdown time has passed: the sandbox is to be deleted.
    Shutdown,
    /// The pause time has passed: the sandbox is to be paused.
    Pause,
}

/// Returns the timer that has fired. The shutdown goes first.
pub(super) fn fired(sandbox: &Sandbox, now: Timestamp) -> Option<Timer> {
    let passed = |at: Option<Timestamp>| at.is_some_and(|at| at <= now);
    if passed(shutdown(sandbox)) {
        return Some(Timer::Shutdown);
    }
    passed(pause(sandbox)).then_some(Timer::Pause)
}

/// Returns the time until the next timer fires.
pub(super) fn next(sandbox: &Sandbox, now: Timestamp) -> Option<Duration> {
    let times = [shutdown(sandbox), pause(sandbox)];
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    times.into_iter().flatten().min().map(until)
}

fn shutdown(sandbox: &Sandbox) -> Option<Timestamp> {
    is_present(sandbox).then_some(sandbox.spec.shutdown_time.as_ref()?.timestamp())
}

/// Returns the pause time, unless the sandbox has been paused or has ended.
fn pause(sandbox: &Sandbox) -> Option<Timestamp> {
    let ended = matches!(sandbox.phase(), Some(SandboxPhase::Succeeded | SandboxPhase::Failed));
    let is_due = is_present(sandbox) && sandbox.spec.paused != Some(true) && !ended;
    is_due.then_some(sandbox.spec.pause_time.as_ref()?.timestamp())
}

fn is_present(sandbox: &Sandbox) -> bool {
    sandbox.metadata.deletion_timestamp.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::SandboxSpec;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sandbox(shutdown: Option<i64>, pause: Option<i64>) -> Sandbox {
        let time = |second: Option<i64>| second.map(|second| at(second).into());
        let spec =
            SandboxSpec { shutdown_time: time(shutdown), pause_time: time(pause), ..SandboxSpec::default() };
        Sandbox::new("s", spec)
    }

    #[test]
    fn ls5_a_timer_fires_at_its_time_and_the_shutdown_goes_first() {
        assert_eq!(fired(&sandbox(Some(10), Some(5)), at(4)), None);
        assert_eq!(fired(&sandbox(Some(10), Some(5)), at(5)), Some(Timer::Pause));
        assert_eq!(fired(&sandbox(Some(10), Some(5)), at(10)), Some(Timer::Shutdown));
        assert_eq!(fired(&sandbox(None, None), at(5)), None);
    }

    #[test]
    fn lc6_the_nearest_timer_counts_in_every_phase_also_the_pause_time_alone() {
        let seconds = Duration::from_secs;
        for phase in ["", "Pending", "Running", "Paused", "Resuming", "Upgrading", "Novel"] {
            let with = |mut sandbox: Sandbox| {
                sandbox.status.get_or_insert_default().phase = Some(phase.into());
                sandbox
            };
            assert_eq!(next(&with(sandbox(Some(10), Some(7))), at(4)), Some(seconds(3)), "{phase}");
            assert_eq!(next(&with(sandbox(None, Some(7))), at(4)), Some(seconds(3)), "{phase}");
            assert_eq!(next(&with(sandbox(Some(10), None)), at(4)), Some(seconds(6)), "{phase}");
            assert_eq!(next(&with(sandbox(Some(1), None)), at(4)), Some(seconds(0)), "{phase}");
        }
    }

    #[test]
    fn ls5_a_paused_or_ended_sandbox_is_not_paused_again_and_a_deleted_one_has_no_timers() {
        let mut paused = sandbox(Some(10), Some(5));
        paused.spec.paused = Some(true);
        assert_eq!((fired(&paused, at(6)), next(&paused, at(6))), (None, Some(Duration::from_secs(4))));
        let mut failed = sandbox(None, Some(5));
        failed.status.get_or_insert_default().phase = Some(SandboxPhase::Failed);
        assert_eq!(fired(&failed, at(6)), None);
        let mut deleted = sandbox(Some(5), Some(5));
        deleted.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
        assert_eq!((fired(&deleted, at(6)), next(&deleted, at(6))), (None, None));
    }
}
