//! [`Samples`]: what `/metrics` says, read as Prometheus would.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

/// The labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// Every series of a scrape and its value.
#[derive(Debug)]
pub(crate) struct Samples(BTreeMap<String, Vec<(Labels, f64)>>);

impl Samples {
    /// Reads the text format. Label values in these tests hold no `,` and no `"`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut families: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let pairs = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
            let labels = pairs.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()));
            let sample = (labels.collect(), value.parse().with_context(|| line.to_owned())?);
            families.entry(name.to_owned()).or_default().push(sample);
        }
        Ok(Self(families))
    }

    /// The series of a name and their values; none if the name is unknown.
    pub(crate) fn all(&self, name: &str) -> &[(Labels, f64)] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of the only series of a name that has these labels among its own.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let has =
            |of: &Labels| labels.iter().all(|(key, value)| of.get(*key).is_some_and(|own| own == value));
        let mut matching = self.all(name).iter().filter(|(of, _)| has(of));
        match (matching.next(), matching.next()) {
            (Some((_, value)), None) => Ok(*value),
            (first, _) => {
                anyhow::bail!("{} series {name}{labels:?}", if first.is_some() { "several" } else { "no" })
            }
        }
    }

    /// The names of the labels that the series of a name have.
    pub(crate) fn label_names(&self, name: &str) -> BTreeSet<&str> {
        self.all(name).iter().flat_map(|(labels, _)| labels.keys().map(String::as_str)).collect()
    }

    /// The names of all series.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
