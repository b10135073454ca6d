//! Tests of the decisions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::decide::{Decision, GRACE, View, decide, has_finalizer};
use crate::api::v1alpha1::{Checkpoint, CheckpointPhase, FINALIZER_CHECKPOINT};

fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

fn checkpoint(spec: &Value, status: &Value, change: impl FnOnce(&mut Value)) -> Checkpoint {
    let mut object = json!({
        "metadata": {
            "name": "c", "namespace": "ns", "generation": 3, "creationTimestamp": "2030-01-01T11:00:00Z",
            "finalizers": [FINALIZER_CHECKPOINT],
        },
        "spec": spec, "status": status,
    });
    change(&mut object);
    serde_json::from_value(object).unwrap()
}

fn of_sandbox(status: &Value) -> Checkpoint {
    checkpoint(&json!({"sandboxName": "s"}), status, |_| ())
}

fn decided(checkpoint: &Checkpoint, sandbox_is_gone: bool) -> Decision {
    decide(&View { checkpoint, sandbox_is_gone, now: now() })
}

#[test]
fn lk2_a_checkpoint_that_never_began_fails_without_its_sandbox() {
    for status in [Value::Null, json!({"phase": "Pending"})] {
        let decision = decided(&of_sandbox(&status), true);
        assert!(decision.release && !decision.delete);
        let status = decision.status.unwrap();
        assert_eq!(status.phase, Some(CheckpointPhase::Failed));
        assert_eq!(status.message.as_deref(), Some("Sandbox s is gone, and nothing was saved"));
        assert_eq!((status.completion_time, status.observed_generation), (Some(now().into()), Some(3)));
        assert_eq!(status.checkpoint_id, None, "nothing pretends to have saved anything");
    }
    assert_eq!(decided(&of_sandbox(&Value::Null), false), Decision::default(), "its sandbox is there");
}

#[test]
fn lk2_a_checkpoint_that_the_agent_works_on_is_left_alone() {
    let begun = [
        json!({"phase": "Creating"}),
        json!({"phase": "Terminating"}),
        json!({"phase": "Later"}),
        json!({"phase": "Pending", "checkpointId": "cp-1"}),
    ];
    for status in begun {
        assert_eq!(decided(&of_sandbox(&status), true), Decision::default(), "{status}");
    }
}

#[test]
fn lk2_a_new_checkpoint_waits_a_minute_for_its_sandbox() {
    let created = |text: &str| {
        let spec = json!({"sandboxName": "s"});
        checkpoint(&spec, &Value::Null, |object| object["metadata"]["creationTimestamp"] = json!(text))
    };
    let decision = decided(&created("2030-01-01T11:59:30Z"), true);
    assert_eq!(decision, Decision { after: Some(Duration::from_secs(30)), ..Decision::default() });
    assert!(decided(&created("2030-01-01T11:59:00Z"), true).status.is_some());
}

#[test]
fn lk2_only_a_checkpoint_without_content_loses_its_finalizer_when_it_is_deleted() {
    let deleting = |status: &Value| {
        checkpoint(&json!({"sandboxName": "s"}), status, |object| {
            object["metadata"]["deletionTimestamp"] = json!("2030-01-01T12:00:00Z");
        })
    };
    let released = Decision { release: true, ..Decision::default() };
    assert_eq!(decided(&deleting(&Value::Null), false), released);
    assert_eq!(decided(&deleting(&json!({"phase": "Pending"})), true), released);
    for phase in ["Creating", "Succeeded", "Failed", "Terminating"] {
        assert_eq!(decided(&deleting(&json!({"phase": phase})), true), Decision::default(), "{phase}");
    }
}

#[test]
fn lk2_a_finished_checkpoint_expires_by_its_ttl() {
    let finished = |ttl: &str, phase: &str| {
        let spec = json!({"sandboxName": "s", "ttlAfterFinished": ttl});
        checkpoint(&spec, &json!({"phase": phase, "completionTime": "2030-01-01T11:00:00Z"}), |_| ())
    };
    for phase in ["Succeeded", "Failed"] {
        for (ttl, deleted) in [("1h", true), ("3600s", true), ("61m", false), ("1d", false), ("0d", true)] {
            let decision = decided(&finished(ttl, phase), true);
            assert_eq!(decision.delete, deleted, "{ttl}");
            assert!(decision.status.is_none() && !decision.release && !decision.invalid_ttl);
            assert_eq!(decision.after.is_some(), !deleted, "lc6");
        }
        assert_eq!(decided(&finished("1d", phase), true).after, Some(Duration::from_hours(23)));
        assert_eq!(decided(&finished("", phase), true), Decision::default());
        for invalid in ["soon", "-1h", "1w", "d", "1.5d", "99999999999999999999d"] {
            let expected = Decision { invalid_ttl: true, ..Decision::default() };
            assert_eq!(decided(&finished(invalid, phase), true), expected, "{invalid}");
        }
    }
    assert_eq!(decided(&finished("1s", "Creating"), true), Decision::default(), "it has not ended");
}

proptest! {
    /// Whatever a checkpoint looks like: applied again and again, the decisions end, and content is never given up.
    #[test]
    fn lk2_every_checkpoint_comes_to_rest_and_none_with_content_is_released(
        phase in prop::sample::select(vec!["", "Pending", "Creating", "Succeeded", "Failed", "Terminating", "X"]),
        id in prop::sample::select(vec!["", "cp-1"]),
        ttl in prop::sample::select(vec!["", "0s", "30m", "30d", "nonsense"]),
        ended in prop::option::of(0..100_000i64),
        created in 0..200i64,
        gone in any::<bool>(),
        deleting in any::<bool>(),
    ) {
        let mut status = json!({"phase": phase, "checkpointId": id});
        if let Some(ended) = ended {
            status["completionTime"] = json!((now() - SignedDuration::from_secs(ended)).to_string());
        }
        let mut checkpoint = checkpoint(&json!({"sandboxName": "s", "ttlAfterFinished": ttl}), &status, |object| {
            let created = now() - SignedDuration::from_secs(created);
            object["metadata"]["creationTimestamp"] = json!(created.to_string());
            if deleting {
                object["metadata"]["deletionTimestamp"] = json!(now().to_string());
            }
        });
        let had_content = checkpoint.has_started();
        let mut time = now();
        for step in 0.. {
            let decision = decide(&View { checkpoint: &checkpoint, sandbox_is_gone: gone, now: time });
            prop_assert!(!(had_content && decision.release));
            prop_assert!(!(decision.delete && deleting), "a deleted object is not deleted again");
            if decision.release {
                checkpoint.metadata.finalizers = None;
            }
            if let Some(status) = decision.status {
                prop_assert!(gone && !had_content);
                checkpoint.status = Some(status);
            } else if decision.delete {
                break;
            } else if let Some(after) = decision.after {
                prop_assert!(!after.is_zero(), "no hot loop");
                time += SignedDuration::try_from(after).unwrap();
            } else if !decision.release {
                break;
            }
            prop_assert!(step < 6, "it goes on for ever");
        }
        if gone && !had_content && !deleting {
            let phase = checkpoint.phase().cloned();
            prop_assert_eq!(phase, Some(CheckpointPhase::Failed));
            prop_assert!(!has_finalizer(&checkpoint) && time <= now() + SignedDuration::try_from(GRACE).unwrap()
                || ttl == "30m" || ttl == "30d");
        }
    }
}
