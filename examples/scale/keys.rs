//! The keys and their meanings, as `--help` and docs/performance.md show them.

use std::fmt::Write as _;

/// One key per line: the key, its meaning, and what only the page needs.
const KEYS: &str = include_str!("../../docs/performance/keys.txt");

const EXPLANATIONS: &str = "\
\"After the write's answer\" counts from the moment at which the writer's request returned; 0 if the event came first. \
\"After the raw watch\" counts from the moment at which another watch in this process, which decodes nothing, received \
the last byte of the event. This value is negative if the cache was faster. A relist is forced by ending the watch of \
sandboxes with status 410. A key of the scraper exists only with --scrape.";

/// Returns the text of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Keys:\n");
    for line in KEYS.lines().filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('|').map(str::trim);
        if let (Some(key), Some(meaning)) = (columns.next(), columns.next()) {
            let _ = writeln!(text, "  {key:<32} {meaning}");
        }
    }
    format!("{text}\n{EXPLANATIONS}")
}
