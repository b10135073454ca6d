//! The built-in handlers: gauges of the sandboxes by state, and of the replicas of the sets.
//!
//! For each object the series that counts it is stored, so that exactly that series is decreased when the
//! object changes or is deleted. A series without objects is removed. 16 bytes are stored per sandbox,
//! without its name.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus::{IntGaugeVec, Opts, Registry};

use controller_manager::{Action, HandlerError, Observed, ReconcileHandler};
use shared_cache::KeyRef;

use crate::api::v1alpha1::{Sandbox, SandboxSet, SandboxSetStatus, StateKind};

/// Updates `sandbox_manager_sandboxes{namespace,pool,state}`: the number of sandboxes by pool and state.
///
/// The pool index uses the same pool ([`Sandbox::pool`]).
pub struct SandboxFleet {
    gauge: IntGaugeVec,
    counted: Mutex<Counted>,
}

/// The series that counts one sandbox.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Series {
    namespace: Box<str>,
    pool: Box<str>,
    state: StateKind,
}

#[derive(Default)]
struct Counted {
    /// The series of each sandbox, by a 64-bit hash of its key. Among a million sandboxes, two hashes collide
    /// in one of ten million fleets. One of those two sandboxes is then not counted.
    of: HashMap<u64, Arc<Series>>,
    /// Number of sandboxes in every series.
    series: HashMap<Arc<Series>, i64>,
    hasher: RandomState,
}

impl Counted {
    /// Moves a sandbox to a series, or out of all series. Returns the series whose numbers have changed.
    fn place(&mut self, key: KeyRef<'_>, series: Option<Series>) -> Vec<(Arc<Series>, i64)> {
        let key = self.hasher.hash_one(key);
        let new = series.map(|series| match self.series.get_key_value(&series) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(series),
        });
        let old = match &new {
            Some(new) => self.of.insert(key, Arc::clone(new)),
            None => self.of.remove(&key),
        };
        if old == new {
            return Vec::new();
        }
        let steps = old.into_iter().map(|old| (old, -1)).chain(new.into_iter().map(|new| (new, 1)));
        steps.map(|(series, step)| self.step(series, step)).collect()
    }

    fn step(&mut self, series: Arc<Series>, step: i64) -> (Arc<Series>, i64) {
        let count = self.series.entry(Arc::clone(&series)).or_default();
        *count += step;
        let count = *count;
        if count == 0 {
            self.series.remove(&series);
        }
        (series, count)
    }
}

impl SandboxFleet {
    /// Creates the gauge and registers it.
    ///
    /// # Errors
    ///
    /// If the registry already has a family of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Sandboxes by the pool that they were made for and their state.";
        let gauge =
            IntGaugeVec::new(Opts::new("sandbox_manager_sandboxes", help), &["namespace", "pool", "state"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self { gauge, counted: Mutex::default() })
    }

    fn place(&self, key: KeyRef<'_>, series: Option<Series>) {
        // The gauge is set under the lock. Otherwise two reconciles could set it in the wrong order.
        let mut counted = self.counted.lock();
        for (series, count) in counted.place(key, series) {
            let labels = [&*series.namespace, &*series.pool, series.state.as_str()];
            if count == 0 {
                // Fails only if the series does not exist.
                let _ = self.gauge.remove_label_values(&labels);
            } else {
                self.gauge.with_label_values(&labels).set(count);
            }
        }
    }
}

impl ReconcileHandler<Sandbox> for SandboxFleet {
    async fn reconcile(&self, observed: Observed<Sandbox>) -> Result<Action, HandlerError> {
        let Observed::Present(sandbox) = &observed else {
            self.place(observed.key(), None);
            return Ok(Action::await_change());
        };
        let series = Series {
            namespace: sandbox.namespace_or_empty().into(),
            pool: sandbox.pool().unwrap_or_default().into(),
            state: sandbox.state(Timestamp::now()).kind,
        };
        // At the shutdown time the state changes without a write. The cache reports that change too.
        self.place(observed.key(), Some(series));
        Ok(Action::await_change())
    }
}

/// Updates `sandbox_manager_pool_replicas`, `sandbox_manager_pool_available` and `sandbox_manager_pool_desired`, each
/// with the labels `namespace` and `name`.
pub struct SandboxSetFleet {
    replicas: IntGaugeVec,
    available: IntGaugeVec,
    desired: IntGaugeVec,
}

impl SandboxSetFleet {
    /// Creates the gauges and registers them.
    ///
    /// # Errors
    ///
    /// If the registry already has a family of one of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<_, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["namespace", "name"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            replicas: gauge("sandbox_manager_pool_replicas", "Unclaimed sandboxes that the set has.")?,
            available: gauge(
                "sandbox_manager_pool_available",
                "Unclaimed sandboxes of the set that are ready.",
            )?,
            desired: gauge("sandbox_manager_pool_desired", "Unclaimed sandboxes that the set should have.")?,
        })
    }
}

impl ReconcileHandler<SandboxSet> for SandboxSetFleet {
    async fn reconcile(&self, observed: Observed<SandboxSet>) -> Result<Action, HandlerError> {
        let key = observed.key();
        let labels = [key.namespace, key.name];
        if let Observed::Present(set) = &observed {
            let status = |read: fn(&SandboxSetStatus) -> i32| set.status.as_ref().map_or(0, read).into();
            self.replicas.with_label_values(&labels).set(status(|status| status.replicas));
            self.available.with_label_values(&labels).set(status(|status| status.available_replicas));
            // A number that could not be read leaves the last one in place.
            if let Some(replicas) = set.spec.replicas {
                self.desired.with_label_values(&labels).set(replicas.into());
            }
        } else {
            tracing::debug!(set = %key, "set was deleted, removing its series");
            for gauge in [&self.replicas, &self.available, &self.desired] {
                // Fails only if the series does not exist.
                let _ = gauge.remove_label_values(&labels);
            }
        }
        Ok(Action::await_change())
    }
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;

    use super::*;
    use crate::api::v1alpha1::{
        LABEL_SANDBOX_POOL, LABEL_SANDBOX_TEMPLATE, SandboxPhase, SandboxSetSpec, SandboxSpec, SandboxStatus,
    };

    fn sandbox(name: &str, pool: &str, phase: SandboxPhase) -> Sandbox {
        let mut sandbox = Sandbox::new(name, SandboxSpec::default());
        sandbox.metadata.namespace = Some("ns".into());
        sandbox.metadata.labels = Some([(LABEL_SANDBOX_POOL.to_owned(), pool.to_owned())].into());
        sandbox.status = Some(SandboxStatus { phase: Some(phase), ..SandboxStatus::default() });
        sandbox
    }

    async fn observe(fleet: &SandboxFleet, sandbox: Sandbox) -> Action {
        fleet.reconcile(Observed::Present(Arc::new(sandbox))).await.unwrap()
    }

    async fn delete<K>(fleet: &impl ReconcileHandler<K>, name: &str) {
        let key = shared_cache::ObjectKey::new("ns", name);
        fleet
            .reconcile(Observed::Deleted {
                key,
                last_known: None,
                reason: shared_cache::DeletionReason::Removed,
            })
            .await
            .unwrap();
    }

    fn series(registry: &Registry) -> Vec<String> {
        let mut series: Vec<_> = registry
            .gather()
            .iter()
            .flat_map(|family| {
                family.get_metric().iter().map(|metric| (family.name().to_owned(), metric.clone()))
            })
            .map(|(name, metric)| {
                let labels: Vec<_> = metric.get_label().iter().map(|pair| pair.value().to_owned()).collect();
                format!("{name}{{{}}} {}", labels.join(","), metric.get_gauge().get_value())
            })
            .collect();
        series.sort();
        series
    }

    #[tokio::test]
    async fn sandboxes_are_counted_once_wherever_they_move_and_leave_no_series_behind() {
        let registry = Registry::new();
        let fleet = SandboxFleet::register(&registry).unwrap();
        observe(&fleet, sandbox("a", "p", SandboxPhase::Pending)).await;
        observe(&fleet, sandbox("b", "p", SandboxPhase::Pending)).await;
        observe(&fleet, sandbox("b", "p", SandboxPhase::Pending)).await;
        assert_eq!(series(&registry), ["sandbox_manager_sandboxes{ns,p,creating} 2"]);
        observe(&fleet, sandbox("a", "p", SandboxPhase::Paused)).await;
        observe(&fleet, sandbox("b", "q", SandboxPhase::Failed)).await;
        assert_eq!(
            series(&registry),
            ["sandbox_manager_sandboxes{ns,p,paused} 1", "sandbox_manager_sandboxes{ns,q,dead} 1"]
        );
        delete(&fleet, "a").await;
        delete(&fleet, "a").await;
        delete(&fleet, "b").await;
        assert!(series(&registry).is_empty());
        assert!(fleet.counted.lock().series.is_empty());
    }

    #[tokio::test]
    async fn x6_the_pool_is_named_by_the_rule_of_the_pool_index() {
        let registry = Registry::new();
        let fleet = SandboxFleet::register(&registry).unwrap();
        let mut of_template = sandbox("a", "p", SandboxPhase::Pending);
        let labels = of_template.metadata.labels.get_or_insert_default();
        labels.insert(LABEL_SANDBOX_TEMPLATE.to_owned(), "t".to_owned());
        observe(&fleet, of_template.clone()).await;
        assert_eq!(series(&registry), ["sandbox_manager_sandboxes{ns,t,creating} 1"]);
        of_template
            .metadata
            .labels
            .get_or_insert_default()
            .insert(LABEL_SANDBOX_TEMPLATE.to_owned(), String::new());
        observe(&fleet, of_template).await;
        assert_eq!(series(&registry), ["sandbox_manager_sandboxes{ns,p,creating} 1"]);
    }

    #[tokio::test]
    async fn sets_show_their_numbers_and_lose_their_series_when_they_go() {
        let registry = Registry::new();
        let fleet = SandboxSetFleet::register(&registry).unwrap();
        let metadata =
            ObjectMeta { namespace: Some("ns".into()), name: Some("s".into()), ..ObjectMeta::default() };
        let set = SandboxSet {
            metadata,
            spec: SandboxSetSpec { replicas: Some(5), ..SandboxSetSpec::default() },
            status: Some(SandboxSetStatus {
                replicas: 4,
                available_replicas: 3,
                ..SandboxSetStatus::default()
            }),
            ..SandboxSet::default()
        };
        fleet.reconcile(Observed::Present(Arc::new(set))).await.unwrap();
        let expected = [
            "sandbox_manager_pool_available{s,ns} 3",
            "sandbox_manager_pool_desired{s,ns} 5",
            "sandbox_manager_pool_replicas{s,ns} 4",
        ];
        assert_eq!(series(&registry), expected);
        delete(&fleet, "s").await;
        assert!(series(&registry).is_empty());
    }
}
