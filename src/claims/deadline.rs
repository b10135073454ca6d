//! The times of a claimed sandbox: when it ends, and how that is changed. Pure.
//!
//! A sandbox that is deleted at its end has `shutdownTime` only. One that is paused at its end has `pauseTime`, and its
//! `shutdownTime` is later by the time that it is kept while it is paused. All times are whole seconds, rounded up, so that
//! nobody gets less than asked for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::request::Retention;
use crate::api::v1alpha1::{
    ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION, GoDuration, Sandbox, SandboxSpec, Time, annotation,
};

/// The text of [`Retention::Forever`] in annotations.
pub(super) const FOREVER: &str = "forever";

/// What [`Retention::Forever`] means: a hundred years, as OpenKruise Agents counts them.
const HUNDRED_YEARS: Duration = Duration::from_hours(36_500 * 24);

/// A change of the end of a claimed sandbox. The time counts from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeoutChange {
    /// Ends then, also if that is earlier than before. A sandbox that never ended does so then.
    Set(Duration),
    /// Ends then, unless it ends later.
    Extend(Duration),
}

/// Returns when a claimed sandbox ends: it is paused then, or else deleted. None if it never ends.
#[must_use]
pub fn ends_at(sandbox: &Sandbox) -> Option<Timestamp> {
    sandbox.spec.pause_time.as_ref().or(sandbox.spec.shutdown_time.as_ref()).map(Time::timestamp)
}

/// The times of a sandbox.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    pub(super) pause: Option<Time>,
    pub(super) shutdown: Time,
}

impl Times {
    /// Returns the times of a sandbox that ends after `lifetime`. It is paused then if a retention is given.
    pub(super) fn after(lifetime: Duration, paused_for: Option<Retention>, now: Timestamp) -> Self {
        let end = later(now, lifetime);
        match paused_for {
            None => Self { pause: None, shutdown: end },
            Some(retention) => {
                let shutdown = later(end.timestamp(), span(retention));
                Self { pause: Some(end), shutdown }
            }
        }
    }

    pub(super) fn write(self, spec: &mut SandboxSpec) {
        spec.pause_time = self.pause;
        spec.shutdown_time = Some(self.shutdown);
    }
}

/// Makes a sandbox end after `lifetime`. It is paused or deleted then as before.
pub(super) fn set_end(sandbox: &mut Sandbox, lifetime: Duration, now: Timestamp) {
    let paused_for = sandbox.spec.pause_time.is_some().then(|| retention(sandbox));
    Times::after(lifetime, paused_for, now).write(&mut sandbox.spec);
}

/// Stops the time of a sandbox that is being paused: it is kept as its annotation says, and ends after that. A sandbox
/// that never ends has no times.
pub(super) fn stop_time(sandbox: &mut Sandbox, now: Timestamp) {
    let end = later(now, span(retention(sandbox)));
    if sandbox.spec.pause_time.is_some() {
        sandbox.spec.pause_time = Some(end.clone());
    }
    if sandbox.spec.shutdown_time.is_some() {
        sandbox.spec.shutdown_time = Some(end);
    }
}

/// Returns true if the sandbox ends before `lifetime` is over.
pub(super) fn ends_before(sandbox: &Sandbox, lifetime: Duration, now: Timestamp) -> bool {
    ends_at(sandbox).is_some_and(|end| end < later(now, lifetime).timestamp())
}

/// Returns how long a sandbox is kept while it is paused. A text that is neither `forever` nor a duration counts as
/// forever: nothing is deleted because of a misspelling.
fn retention(sandbox: &Sandbox) -> Retention {
    let text = annotation(&sandbox.metadata, ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION);
    let duration = text.and_then(|text| text.parse::<GoDuration>().ok()?.non_negative());
    duration.map_or(Retention::Forever, Retention::For)
}

fn span(retention: Retention) -> Duration {
    match retention {
        Retention::Forever => HUNDRED_YEARS,
        Retention::For(time) => time,
    }
}

/// Returns a later instant in whole seconds, rounded up. The library ends in the year 9999.
fn later(instant: Timestamp, by: Duration) -> Time {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    let exact = instant.checked_add(by).unwrap_or(Timestamp::MAX);
    let up = i64::from(exact.subsec_nanosecond() > 0);
    Timestamp::from_second(exact.as_second() + up).unwrap_or(Timestamp::MAX).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[expect(clippy::needless_pass_by_value, reason = "made for the call")]
    fn sandbox(spec: serde_json::Value, retention: &str) -> Sandbox {
        let annotations = json!({ ANNOTATION_RESERVE_PAUSED_SANDBOX_DURATION: retention });
        serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": spec })).unwrap()
    }

    fn times(sandbox: &Sandbox) -> [Option<String>; 2] {
        [&sandbox.spec.pause_time, &sandbox.spec.shutdown_time].map(|time| time.as_ref().map(Time::to_string))
    }

    #[test]
    fn q2_an_end_is_rounded_up_so_that_nobody_gets_less() {
        let times = Times::after(MINUTE, None, at("2030-01-01T00:00:00.001Z"));
        assert_eq!(times, Times { pause: None, shutdown: "2030-01-01T00:01:01Z".parse().unwrap() });
    }

    #[test]
    fn q2_a_sandbox_that_is_paused_at_its_end_has_both_times() {
        let now = at("2026-11-28T20:07:39Z");
        let times = Times::after(Duration::ZERO, Some(Retention::Forever), now);
        assert_eq!(times.shutdown.to_string(), "2126-11-04T20:07:39Z", "as OpenKruise Agents counts");
        let times = Times::after(MINUTE, Some(Retention::For(MINUTE)), now);
        assert_eq!(times.pause.unwrap().to_string(), "2026-11-28T20:08:39Z");
        assert_eq!(times.shutdown.to_string(), "2026-11-28T20:09:39Z");
    }

    #[test]
    fn q2_a_new_end_moves_both_times_or_the_one_that_is_there() {
        let now = at("2030-01-01T00:00:00Z");
        let mut kept = sandbox(
            json!({ "pauseTime": "2029-01-01T00:00:00Z", "shutdownTime": "2029-02-01T00:00:00Z" }),
            "1h",
        );
        set_end(&mut kept, MINUTE, now);
        assert_eq!(
            times(&kept),
            ["2030-01-01T00:01:00Z", "2030-01-01T01:01:00Z"].map(|t| Some(t.to_owned()))
        );
        let mut endless = sandbox(json!({}), "forever");
        assert!(!ends_before(&endless, MINUTE, now));
        set_end(&mut endless, MINUTE, now);
        assert_eq!(times(&endless), [None, Some("2030-01-01T00:01:00Z".to_owned())]);
        assert!(ends_before(&endless, 2 * MINUTE, now) && !ends_before(&endless, MINUTE, now));
    }

    #[test]
    fn q2_the_time_of_a_paused_sandbox_stands_still() {
        let now = at("2030-01-01T00:00:00Z");
        let mut kept = sandbox(json!({ "shutdownTime": "2029-02-01T00:00:00Z" }), "1h");
        stop_time(&mut kept, now);
        assert_eq!(times(&kept), [None, Some("2030-01-01T01:00:00Z".to_owned())]);
        let mut misspelled = sandbox(json!({ "pauseTime": "2029-02-01T00:00:00Z" }), "for ever");
        stop_time(&mut misspelled, now);
        assert_eq!(times(&misspelled), [Some("2129-12-08T00:00:00Z".to_owned()), None]);
    }
}
