//! [`Recorder`]: a handler that records what it was told of each object, and checks it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use parking_lot::Mutex;
use rand::Rng;
use sandbox_manager::ReconcileHandler;
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::{Action, HandlerError, Observed};

/// The last that the handler was told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    Shown {
        version: u64,
    },
    /// The deletion was acknowledged.
    Gone {
        is_final: bool,
    },
}

#[derive(Default)]
struct Records {
    /// By UID.
    told: BTreeMap<String, Told>,
    calls: u64,
    deletions: u64,
    violations: Vec<String>,
}

/// Succeeds, fails and asks for another call at random, as handlers do. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Records>>);

impl ReconcileHandler<Sandbox> for Recorder {
    async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
        let outcome = match rand::rng().random_range(0..20) {
            0 => Err("a failure of the test".into()),
            1 => Ok(Action::requeue(Duration::from_millis(rand::rng().random_range(1..500)))),
            _ => Ok(Action::await_change()),
        };
        let is_done = outcome.as_ref().is_ok_and(|action: &Action| action.requeue_after().is_none());
        self.record(&observed, is_done);
        outcome
    }
}

impl Recorder {
    fn record(&self, observed: &Observed<Sandbox>, is_done: bool) {
        let mut records = self.0.lock();
        records.calls += 1;
        let Some(object) = observed.object() else {
            records.violations.push(format!("{} was deleted without its last state", observed.key()));
            return;
        };
        let (uid, version) =
            (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default());
        let version = version.parse().unwrap_or_default();
        let name = object.name_any();
        match observed {
            Observed::Present(_) => {
                let before = records.told.insert(uid.clone(), Told::Shown { version });
                match before {
                    Some(Told::Gone { is_final: true }) => {
                        records.violations.push(format!("{name} {uid} was shown after its deletion"));
                    }
                    Some(Told::Shown { version: newer }) if newer > version => {
                        records.violations.push(format!("{name} went from {newer} back to {version}"));
                    }
                    _ => {}
                }
            }
            Observed::Deleted { reason, .. } if is_done => {
                records.deletions += 1;
                records.told.insert(uid, Told::Gone { is_final: reason.is_final() });
            }
            Observed::Deleted { .. } => {}
        }
    }

    /// Compares with the objects of the server, by UID: each was shown in its newest version, and of each other object
    /// that was shown, the deletion was told.
    pub(super) fn check(&self, truth: &BTreeMap<&str, u64>) -> Result<()> {
        let records = self.0.lock();
        ensure!(records.violations.is_empty(), "{:#?}", records.violations);
        for (uid, version) in truth {
            let told = records.told.get(*uid).with_context(|| format!("{uid} was never shown"))?;
            ensure!(*told == Told::Shown { version: *version }, "{uid} is at {version}, told: {told:?}");
        }
        for (uid, told) in &records.told {
            let is_lost = matches!(told, Told::Shown { .. }) && !truth.contains_key(uid.as_str());
            ensure!(!is_lost, "the deletion of {uid} was never told, only {told:?}");
        }
        Ok(())
    }

    /// Returns the number of calls, and of acknowledged deletions.
    pub(super) fn counts(&self) -> (u64, u64) {
        let records = self.0.lock();
        (records.calls, records.deletions)
    }
}
