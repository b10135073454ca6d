//! [`CacheCollector`]: the cache's metrics, read off the cache itself whenever they are scraped.
//!
//! Nothing is counted twice and no gauge can drift: every value is what the cache knows at that moment.

use std::sync::{Arc, Weak};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::watched::ErasedKind;
use super::{Cache, Inner};
use crate::informer::Report;
use crate::wait::WaitMetrics;

/// Samples of one kind: the values of the labels beyond `resource`, and the value.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

/// Reads the samples of one family off one kind.
type Read = fn(&dyn ErasedKind, &Report) -> Samples;

struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    read: Read,
}

fn one(value: f64) -> Samples {
    vec![(Vec::new(), value)]
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are floats; counts stay far below 2^52")]
fn count(value: u64) -> f64 {
    value as f64
}

fn size(value: usize) -> f64 {
    count(value as u64)
}

fn seconds(at: Option<jiff::Timestamp>) -> Samples {
    at.map_or_else(Vec::new, |at| one(at.as_duration().as_secs_f64()))
}

const FAMILIES: &[Family] = &[
    Family {
        name: "sandbox_manager_cache_objects",
        help: "Objects in the cache.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(size(kind.objects())),
    },
    Family {
        name: "sandbox_manager_cache_synced",
        help: "Whether the cache shows a whole list of the kind (1) or not (0).",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(f64::from(u8::from(report.synced))),
    },
    Family {
        name: "sandbox_manager_cache_stale_seconds",
        help: "For how long no watch has fed the cache; 0 while one does.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(report.stale_for.unwrap_or_default().as_secs_f64()),
    },
    Family {
        name: "sandbox_manager_cache_last_event_timestamp_seconds",
        help: "When the last event came from the watch, in Unix time.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| seconds(report.last_event),
    },
    Family {
        name: "sandbox_manager_cache_last_bookmark_timestamp_seconds",
        help: "When the last bookmark came from the watch, in Unix time; due every minute.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| seconds(report.last_bookmark),
    },
    Family {
        name: "sandbox_manager_cache_watch_errors_total",
        help: "Failed lists and watches by verb and reason.",
        kind: MetricType::COUNTER,
        labels: &["verb", "reason"],
        read: |_, report| {
            let errors = report.errors.iter();
            let labels =
                |verb: &str, reason: &str| vec![("verb", verb.to_owned()), ("reason", reason.to_owned())];
            errors.map(|((verb, reason), &n)| (labels(verb.as_str(), reason), count(n))).collect()
        },
    },
    Family {
        name: "sandbox_manager_cache_relists_total",
        help: "Lists that were begun after the first one was complete.",
        kind: MetricType::COUNTER,
        labels: &[],
        read: |_, report| one(count(report.relists)),
    },
    Family {
        name: "sandbox_manager_cache_undecodable_objects",
        help: "Objects that exist but can't be decoded, and so are kept out of the cache.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(size(report.undecodable)),
    },
    Family {
        name: "sandbox_manager_cache_lookups_total",
        help: "Lookups by whether they found something.",
        kind: MetricType::COUNTER,
        labels: &["result"],
        read: |kind, _| {
            let (hits, misses) = kind.lookups();
            let results = [("hit", hits), ("miss", misses)];
            results.into_iter().map(|(result, n)| (vec![("result", result.to_owned())], count(n))).collect()
        },
    },
    Family {
        name: "sandbox_manager_cache_outstanding_writes",
        help: "Own writes that the cache has not seen yet.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(size(kind.outstanding_writes().0)),
    },
    Family {
        name: "sandbox_manager_cache_oldest_outstanding_write_seconds",
        help: "Age of the oldest own write that the cache has not seen yet; over 60 it has expired.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(kind.outstanding_writes().1.as_secs_f64()),
    },
];

/// The metrics of a cache: `sandbox_manager_cache_*`, all with the label `resource` (the kind's plural), and
/// `sandbox_manager_wait*`.
pub struct CacheCollector {
    cache: Weak<Inner>,
    waits: WaitMetrics,
    descriptions: Vec<Desc>,
}

impl CacheCollector {
    /// Metrics of this cache, to be registered once. Does not keep the cache alive: once it is dropped there are
    /// none.
    ///
    /// # Errors
    ///
    /// Only if a name or label in this file is not one that Prometheus allows.
    pub fn new(cache: &Cache) -> Result<Self, prometheus::Error> {
        let describe = |family: &Family| {
            let labels = ["resource"].iter().chain(family.labels).map(ToString::to_string).collect();
            Desc::new(family.name.into(), family.help.into(), labels, std::collections::HashMap::new())
        };
        let descriptions = FAMILIES.iter().map(describe).collect::<Result<_, _>>()?;
        let waits = cache.inner.wait_metrics.clone();
        Ok(Self { cache: Arc::downgrade(&cache.inner), waits, descriptions })
    }
}

impl Collector for CacheCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().chain(self.waits.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(inner) = self.cache.upgrade() else {
            return Vec::new();
        };
        let kinds: Vec<_> = inner.kinds.in_scope().into_iter().map(|kind| (kind.report(), kind)).collect();
        let mut families = Vec::with_capacity(FAMILIES.len());
        for family in FAMILIES {
            let mut samples = Vec::new();
            for (report, kind) in &kinds {
                let resource = kind.plural();
                for (labels, value) in (family.read)(&**kind, report) {
                    let resource = ("resource", resource.clone().into_owned());
                    samples.push(sample(family.kind, [resource].into_iter().chain(labels), value));
                }
            }
            let mut out = MetricFamily::default();
            out.set_name(family.name.into());
            out.set_help(family.help.into());
            out.set_field_type(family.kind);
            out.set_metric(samples);
            families.push(out);
        }
        families.retain(|family| !family.get_metric().is_empty());
        families.extend(self.waits.collect());
        families
    }
}

fn sample(kind: MetricType, labels: impl Iterator<Item = (&'static str, String)>, value: f64) -> Metric {
    let mut metric = Metric::default();
    let mut pairs: Vec<_> = labels
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.into());
            pair.set_value(value);
            pair
        })
        .collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    metric.set_label(pairs);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}
