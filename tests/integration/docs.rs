//! The references in `docs/` are what the code says: the options come from the settings table, the metrics from a
//! manager that runs. Links in the documentation lead somewhere.
//!
//! `just generate` writes the references anew.

use std::fmt::Write as _;
use std::path::PathBuf;

use sandbox_manager::options::{SETTINGS, SandboxManagerOptions};

use crate::readme::{families, metrics_rows};
use crate::support::generated::assert_section;

#[test]
fn reference_of_options_is_that_of_the_code() {
    let defaults = SandboxManagerOptions::default();
    let mut text = String::new();
    for setting in SETTINGS {
        let default = match setting.get(&defaults) {
            empty if empty.is_empty() => "empty".to_owned(),
            value => format!("`{value}`"),
        };
        let (path, flag, variable, accepts) = (setting.path, setting.flag, setting.env, setting.accepts);
        write!(
            text,
            "\n### `{path}`\n\n{}.\n\n| | |\n|---|---|\n| Flag | `--{flag}` |\n| Variable | `{variable}` |\n\
             | Default | {default} |\n| Accepted | {accepts} |\n",
            setting.help
        )
        .unwrap();
    }
    text += "\n";
    assert_section("docs/configuration.md", "options", &text);
}

/// The parts of the reference of metrics, by what their names begin with.
const PARTS: [(&str, &[&str]); 5] = [
    ("The fleet", &["sandboxes", "sandboxset_"]),
    ("The cache", &["sandbox_manager_cache_"]),
    ("Waits", &["sandbox_manager_wait"]),
    ("Controllers and their queues", &["controller_runtime_", "workqueue_"]),
    ("The process and the API server", &["sandbox_manager_build_info", "rest_client_"]),
];

#[tokio::test]
async fn reference_of_metrics_is_that_of_a_running_manager() {
    let mut rows = metrics_rows(&families().await);
    let mut text = String::new();
    for (title, prefixes) in PARTS {
        write!(text, "\n## {title}\n\n| Name | Type | Labels | Meaning |\n|---|---|---|---|\n").unwrap();
        let begins = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let (part, rest) = rows.into_iter().partition(|(name, _)| begins(name));
        rows = rest;
        let part: Vec<(String, String)> = part;
        assert!(!part.is_empty(), "{title} is empty");
        text.extend(part.into_iter().map(|(_, row)| row));
    }
    assert_eq!(rows, [], "metrics that belong to no part");
    text += "\n";
    assert_section("docs/metrics.md", "metrics", &text);
}

/// The anchor that Markdown renderers give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    pages.extend(docs.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    let mut links = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads to no file", page.display());
            if !heading.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim()));
                assert!(
                    anchors.any(|known| known == heading),
                    "{}: {link} leads to no heading",
                    page.display()
                );
            }
        }
    }
    assert!(links > 20, "{links} links");
}
