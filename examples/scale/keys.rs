//! The keys and their meanings, as `--help` and docs/performance.md show them.

use std::fmt::Write as _;

/// Keys, and what they have in common.
pub(crate) struct Keys {
    /// One key per line: the key, its meaning, and what only the page needs.
    lines: &'static str,
    explanation: &'static str,
}

/// The keys of `measure`.
pub(crate) const MEASURE: Keys = Keys {
    lines: include_str!("../../docs/performance/keys.txt"),
    explanation: "\
\"After the write's answer\" counts from the moment at which the writer's request returned; 0 if the event came first. \
\"After the raw watch\" counts from the moment at which another watch in this process, which decodes nothing, received \
the last byte of the event. This value is negative if the cache was faster. A relist is forced by ending the watch of \
sandboxes with status 410. A key of the scraper exists only with --scrape.",
};

/// The keys of `claims`.
pub(crate) const CLAIMS: Keys = Keys {
    lines: include_str!("../../docs/performance/claims/keys.txt"),
    explanation: "\
The clients run in this process and keep their connections. The managers are processes of their own, without a rate \
limit for their requests; no runtime is initialised. Every claim must be answered with 201 and a sandbox that no other \
claim holds. The burst needs 300 members. The steady load begins claims at a fixed rate, whether or not earlier \
ones were answered, and kills each sandbox after its claim. Nothing else may act on the sandboxes of the cluster \
meanwhile.",
};

impl Keys {
    /// Returns the text of `--help`.
    pub(crate) fn help(&self) -> String {
        let mut text = String::from("Keys:\n");
        for line in self.lines.lines().filter(|line| !line.starts_with('#')) {
            let mut columns = line.split('|').map(str::trim);
            if let (Some(key), Some(meaning)) = (columns.next(), columns.next()) {
                let _ = writeln!(text, "  {key:<32} {meaning}");
            }
        }
        format!("{text}\n{}", self.explanation)
    }
}
