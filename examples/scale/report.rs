//! The measurements in order: one `key value` per line, or one JSON object.

use std::time::Duration;

use serde_json::{Map, Value, json};

#[derive(Default)]
pub(crate) struct Report {
    json: bool,
    values: Map<String, Value>,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, values: Map::new() }
    }

    /// Adds a value with the given number of decimal places.
    pub(crate) fn add(&mut self, key: &str, value: f64, digits: usize) {
        let text = format!("{value:.digits$}");
        if self.json {
            self.values.insert(key.to_owned(), json!(text.parse::<f64>().unwrap_or(value)));
        } else {
            println!("{key} {text}");
        }
    }

    /// Adds the median and the 99th percentile of microseconds.
    pub(crate) fn add_percentiles(&mut self, name: &str, mut micros: Vec<f64>) {
        micros.sort_by(f64::total_cmp);
        self.add(&format!("{name}_p50_us"), percentile(&micros, 0.50), 0);
        self.add(&format!("{name}_p99_us"), percentile(&micros, 0.99), 0);
    }

    /// Adds the median and the 99th percentile of times in milliseconds, and returns the median.
    pub(crate) fn add_times(&mut self, name: &str, times: &[Duration]) -> f64 {
        let mut millis: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        millis.sort_by(f64::total_cmp);
        let median = percentile(&millis, 0.50);
        self.add(&format!("{name}_p50_ms"), median, 2);
        self.add(&format!("{name}_p99_ms"), percentile(&millis, 0.99), 2);
        median
    }

    /// Adds the median of several values.
    pub(crate) fn add_median(&mut self, key: &str, mut values: Vec<f64>, digits: usize) {
        values.sort_by(f64::total_cmp);
        self.add(key, percentile(&values, 0.50), digits);
    }

    pub(crate) fn finish(self) {
        if self.json {
            println!("{}", Value::Object(self.values));
        }
    }
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a short list"
    )]
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
