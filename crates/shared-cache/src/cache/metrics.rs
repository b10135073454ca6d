//! [`CacheCollector`]: the cache's metrics, read from the cache at each scrape.
//!
//! No counter is kept twice and no gauge can drift, because every value is the current state of the cache.

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::cached_kind::CachedKind;
use super::shared_cache::{SharedCache, WeakCache};
use crate::informer::Report;
use crate::wait::PrefixedWaitMetrics;

/// Samples of one kind: the labels other than `resource`, and the value.
type Samples = Vec<(Vec<(&'static str, String)>, f64)>;

/// Reads the samples of one metric family from one kind.
type Read = fn(&dyn CachedKind, &Report) -> Samples;

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

fn by_result(results: [(&'static str, u64); 2]) -> Samples {
    results.into_iter().map(|(result, n)| (vec![("result", result.to_owned())], count(n))).collect()
}

fn seconds(at: Option<jiff::Timestamp>) -> Samples {
    at.map_or_else(Vec::new, |at| one(at.as_duration().as_secs_f64()))
}

const FAMILIES: &[Family] = &[
    Family {
        name: "cache_objects",
        help: "Number of objects in the cache.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(size(kind.objects())),
    },
    Family {
        name: "cache_synced",
        help: "1 if the initial list of this resource has completed, otherwise 0.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(f64::from(u8::from(report.synced))),
    },
    Family {
        name: "cache_stale_seconds",
        help: "Seconds since the watch of this resource was last up; 0 while it is up.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(report.stale_for.unwrap_or_default().as_secs_f64()),
    },
    Family {
        name: "cache_last_event_timestamp_seconds",
        help: "Unix time of the last watch event.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| seconds(report.last_event),
    },
    Family {
        name: "cache_last_bookmark_timestamp_seconds",
        help: "Unix time of the last watch bookmark. The API server sends one about every minute.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| seconds(report.last_bookmark),
    },
    Family {
        name: "cache_watch_errors_total",
        help: "Number of failed lists and watches, by verb and reason.",
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
        name: "cache_relists_total",
        help: "Number of lists that were started after the initial list had completed.",
        kind: MetricType::COUNTER,
        labels: &[],
        read: |_, report| one(count(report.relists)),
    },
    Family {
        name: "cache_undecodable_objects",
        help: "Number of objects that cannot be decoded and are therefore not in the cache.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(size(report.undecodable)),
    },
    Family {
        name: "cache_partially_decoded_objects",
        help: "Number of objects in the cache without the fields that cannot be decoded.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |_, report| one(size(report.partially_decoded)),
    },
    Family {
        name: "cache_consistency_checks_total",
        help: "Number of comparisons of the cache with the API server, by result: completed or failed.",
        kind: MetricType::COUNTER,
        labels: &["result"],
        read: |_, report| by_result([("completed", report.checks), ("failed", report.failed_checks)]),
    },
    Family {
        name: "cache_inconsistencies_total",
        help: "Number of comparisons that found the cache to differ from the API server. Each led to a new list.",
        kind: MetricType::COUNTER,
        labels: &[],
        read: |_, report| one(count(report.inconsistencies)),
    },
    Family {
        name: "cache_panics_total",
        help: "Number of panics in functions that the cache calls for this resource: decoders, transforms, index functions, transition times and observers. Also counts panics of the cache itself.",
        kind: MetricType::COUNTER,
        labels: &[],
        read: |_, report| one(count(report.panics)),
    },
    Family {
        name: "cache_lookups_total",
        help: "Number of lookups, by result.",
        kind: MetricType::COUNTER,
        labels: &["result"],
        read: |kind, _| {
            let (hits, misses) = kind.lookups();
            by_result([("hit", hits), ("miss", misses)])
        },
    },
    Family {
        name: "cache_outstanding_writes",
        help: "Number of own writes that the cache does not show yet.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(size(kind.outstanding_writes().0)),
    },
    Family {
        name: "cache_oldest_outstanding_write_seconds",
        help: "Age in seconds of the oldest own write that the cache does not show yet. After 60 s it counts as expired.",
        kind: MetricType::GAUGE,
        labels: &[],
        read: |kind, _| one(kind.outstanding_writes().1.as_secs_f64()),
    },
];

/// The metrics of a cache: `<prefix>_cache_*` and `<prefix>_wait*`. The former have the label `resource`, the
/// kind's plural.
pub struct CacheCollector {
    cache: WeakCache,
    waits: PrefixedWaitMetrics,
    /// The name of each of [`FAMILIES`].
    names: Vec<String>,
    descriptions: Vec<Desc>,
}

impl CacheCollector {
    /// Creates the collector of a cache; register the collector once. `prefix` is the namespace of the metric
    /// names, such as the name of the program. The collector does not keep the cache running. Once the cache
    /// is dropped, there are no metrics.
    ///
    /// # Errors
    ///
    /// If the prefix is not a valid part of a metric name.
    pub fn new(cache: &SharedCache, prefix: &str) -> Result<Self, prometheus::Error> {
        let names: Vec<_> = FAMILIES.iter().map(|family| format!("{prefix}_{}", family.name)).collect();
        let describe = |(family, name): (&Family, &String)| {
            let labels = ["resource"].iter().chain(family.labels).map(ToString::to_string).collect();
            Desc::new(name.clone(), family.help.into(), labels, std::collections::HashMap::new())
        };
        let descriptions = FAMILIES.iter().zip(&names).map(describe).collect::<Result<_, _>>()?;
        let waits = cache.wait_metrics().with_prefix(prefix)?;
        Ok(Self { cache: cache.downgrade(), waits, names, descriptions })
    }
}

impl Collector for CacheCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().chain(self.waits.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(cache) = self.cache.upgrade() else {
            return Vec::new();
        };
        let kinds: Vec<_> = cache.kinds().iter().map(|kind| (kind.report(), kind)).collect();
        let mut families = Vec::with_capacity(FAMILIES.len());
        for (family, name) in FAMILIES.iter().zip(&self.names) {
            let mut samples = Vec::new();
            for (report, kind) in &kinds {
                let resource = kind.plural();
                for (labels, value) in (family.read)(&***kind, report) {
                    let resource = ("resource", resource.clone().into_owned());
                    samples.push(sample(family.kind, [resource].into_iter().chain(labels), value));
                }
            }
            let mut out = MetricFamily::default();
            out.set_name(name.clone());
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
