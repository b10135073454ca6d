//! The references in `docs/`, and the commented options in `config/` and in the chart, are generated. The
//! options are generated from the list of settings, the metrics from a running manager. Links in the
//! documentation lead to existing files and headings.
//!
//! `just generate` writes the generated text.

use std::fmt::Write as _;
use std::path::PathBuf;

use sandbox_manager::options::{OTHER_VARIABLES, SETTINGS, SandboxManagerOptions, Setting};
use serde_json::Value;

use crate::readme::{families, metrics_rows};
use crate::support::generated::{assert_part, assert_section};

/// The width of the comments in YAML files.
const WIDTH: usize = 118;

#[test]
fn reference_of_options_is_that_of_the_code() {
    let defaults = SandboxManagerOptions::default();
    let mut text = String::new();
    for setting in &*SETTINGS {
        let default = match setting.get(&defaults) {
            empty if empty.is_empty() => "empty".to_owned(),
            value => format!("`{value}`"),
        };
        let (path, flag, variable, accepts) = (&setting.path, &setting.flag, &setting.env, &setting.accepts);
        write!(
            text,
            "\n### `{path}`\n\n{}\n\n| | |\n|---|---|\n| Flag | `--{flag}` |\n| Variable | `{variable}` |\n\
             | Default | {default} |\n| Accepted | {accepts} |\n",
            setting.help
        )
        .unwrap();
    }
    text += "\n";
    assert_section("docs/configuration.md", "options", &text);
}

#[test]
fn reference_of_other_variables_is_that_of_the_code() {
    let mut table = String::from("| Variable | Meaning |\n|---|---|\n");
    for (variable, meaning) in OTHER_VARIABLES {
        writeln!(table, "| `{variable}` | {meaning} |").unwrap();
    }
    assert_section("docs/configuration.md", "variables", &table);
}

/// Returns a comment of several lines, each with `indent`. The first line begins with `marker`.
fn comment(indent: &str, marker: &str, text: &str) -> String {
    let (mut lines, mut line) = (String::new(), format!("{indent}# {marker}"));
    let bare = format!("{indent}# ");
    for word in text.split(' ') {
        if line.len() + word.len() > WIDTH && line.len() > bare.len() + marker.len() {
            writeln!(lines, "{}", line.trim_end()).unwrap();
            line.clone_from(&bare);
        }
        line += word;
        line.push(' ');
    }
    writeln!(lines, "{}", line.trim_end()).unwrap();
    lines
}

/// Returns all options with their defaults as YAML. `explain` writes the comment above a field.
fn commented_options(indent: &str, explain: impl Fn(&str, &Setting) -> String) -> String {
    let defaults = SandboxManagerOptions::default().to_json();
    let (mut yaml, mut above) = (String::new(), Vec::new());
    for setting in &*SETTINGS {
        let names: Vec<_> = setting.path.split('.').collect();
        let sections = &names[..names.len() - 1];
        let same = sections.iter().zip(&above).take_while(|(name, before)| name == before).count();
        for (depth, name) in sections.iter().enumerate().skip(same) {
            writeln!(yaml, "{indent}{}{name}:", "  ".repeat(depth)).unwrap();
        }
        let indent = format!("{indent}{}", "  ".repeat(sections.len()));
        let value: &Value = names.iter().fold(&defaults, |section, name| &section[name]);
        yaml += &explain(&indent, setting);
        writeln!(yaml, "{indent}{}: {value}", names[names.len() - 1]).unwrap();
        above = sections.to_vec();
    }
    yaml
}

#[test]
fn reference_of_the_options_file_is_that_of_the_code() {
    let options = commented_options("", |indent, setting| {
        let values = setting.values().map_or_else(String::new, |values| format!(" Values: {values}."));
        let what = comment(indent, "", &format!("{}{values}", setting.help));
        format!("{what}{indent}# Flag: --{}\n", setting.flag)
    });
    assert_part("config/manager/config.yaml", |text| {
        let (head, _) = text.split_once("\n\n").expect("a blank line after apiVersion and kind");
        format!("{head}\n\n{options}")
    });
}

#[test]
fn reference_of_the_options_in_the_chart_is_that_of_the_code() {
    let options = commented_options("  ", |indent, setting| {
        let values = setting.values().map_or_else(String::new, |values| format!(". Values: {values}"));
        comment(indent, "-- ", &format!("{}{values}", setting.help.trim_end_matches('.')))
    });
    assert_part("charts/sandbox-manager/values.yaml", |text| {
        let (before, rest) = text.split_once("\nconfig:\n").expect("the section config");
        let (_, after) = rest.split_once("\n\n").expect("a blank line after the section");
        format!("{before}\nconfig:\n{options}\n{after}")
    });
}

/// The parts of the reference of metrics, by name prefix.
const PARTS: [(&str, &[&str]); 9] = [
    ("The fleet", &["sandbox_manager_sandboxes", "sandbox_manager_pool_"]),
    ("The cache", &["sandbox_manager_cache_"]),
    ("Waits", &["sandbox_manager_wait"]),
    (
        "The lifecycle controllers",
        &[
            "sandbox_manager_pod_",
            "sandbox_manager_pods_",
            "sandbox_manager_sandbox_",
            "sandbox_manager_events_",
        ],
    ),
    ("Claims", &["sandbox_claim_", "sandbox_pause_", "sandbox_resume_", "sandbox_manager_claims_"]),
    ("The E2B API", &["sandbox_manager_e2b_"]),
    ("Controllers and their queues", &["controller_runtime_", "workqueue_"]),
    ("Leader election", &["leader_election_"]),
    ("The process and the API server", &["sandbox_manager_build_info", "rest_client_"]),
];

/// Returns the names of metrics that are written in the sources, by the file.
fn metrics_in_sources() -> Vec<(PathBuf, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut names) = (vec![root], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("metrics.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let is_name = |text: &&str| {
                    text.starts_with("sandbox_")
                        && text
                            .bytes()
                            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                };
                names.extend(text.split('"').filter(is_name).map(|name| (path.clone(), name.to_owned())));
            }
        }
    }
    names
}

#[test]
fn every_metric_of_the_sources_is_in_the_reference() {
    let reference = std::fs::read_to_string("docs/metrics.md").unwrap();
    let names = metrics_in_sources();
    for part in ["claims", "e2b", "lifecycle", "manager"] {
        assert!(names.iter().any(|(path, _)| path.components().any(|one| one.as_os_str() == part)), "{part}");
    }
    let missing: Vec<_> =
        names.iter().filter(|(_, name)| !reference.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

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

/// Returns the anchor that Markdown renderers give a heading.
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

/// Adds the text of all Rust files under a folder.
fn read_sources(folder: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn tests_of_the_fault_matrix_exist() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for folder in ["crates", "src", "tests/integration"] {
        read_sources(&root.join(folder), &mut sources);
    }
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let mut tests = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let columns: Vec<_> = row.split('|').collect();
        let [_, _, _, in_memory, both, _] = columns[..] else { panic!("not four columns: {row}") };
        assert!(!in_memory.trim().is_empty() || !both.trim().is_empty(), "no test: {row}");
        for name in [in_memory, both].into_iter().flat_map(|column| column.split('`').skip(1).step_by(2)) {
            tests += 1;
            // Tests of several seeds are named in a macro.
            let is_there = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("{name}: "));
            assert!(is_there, "there is no test {name}");
        }
    }
    assert!(tests > 40, "{tests} tests");
}
