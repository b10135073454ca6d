//! What the files of the chart say by themselves: versions, CRDs, the schema, comments, alerts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use sandbox_manager::SandboxManagerOptions;
use sandbox_manager::options::SETTINGS;
use serde_json::{Map, Value};

use super::{read, read_yaml, repository};
use crate::support::generated::{assert_part, assert_section};

const VALUES: &str = "charts/sandbox-manager/values.yaml";
const SCHEMA: &str = "charts/sandbox-manager/values.schema.json";

fn schema() -> Value {
    serde_json::from_str(&read(SCHEMA)).unwrap()
}

#[test]
fn chart_and_binary_have_one_version() {
    let chart = read_yaml("charts/sandbox-manager/Chart.yaml");
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn crds_of_the_chart_are_those_of_the_config_folder() {
    let files = |folder: &str| -> BTreeMap<_, _> {
        let entries = fs::read_dir(repository(folder)).unwrap().map(Result::unwrap);
        let named = entries.map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()));
        named.collect()
    };
    assert_eq!(files("charts/sandbox-manager/crds"), files("config/crd/bases"));
}

#[test]
fn the_schema_of_the_configuration_is_that_of_the_options() {
    assert_part(SCHEMA, |text| {
        let mut schema: Value = serde_json::from_str(text).unwrap();
        schema["properties"]["config"] = SandboxManagerOptions::json_schema();
        format!("{}\n", serde_json::to_string_pretty(&schema).unwrap())
    });
}

#[test]
fn the_configuration_of_the_chart_holds_exactly_the_defaults() {
    let values = read_yaml(VALUES);
    assert_eq!(values["config"], SandboxManagerOptions::default().to_json());
}

/// Calls `visit` for every value in a tree, with its path.
fn walk(value: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, value);
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => {
            items.iter().enumerate().map(|(number, value)| (number.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (name, value) in inner {
        walk(value, &format!("{path}/{name}"), visit);
    }
}

#[test]
fn the_schema_accepts_no_unknown_key_anywhere() {
    let mut objects = 0;
    walk(&schema(), "", &mut |path, schema| {
        // What a parent chart shares is its own affair.
        if schema["type"] == "object" && path != "/properties/global" {
            objects += 1;
            assert_eq!(schema["additionalProperties"], false, "{path}");
        }
    });
    assert!(objects > 30, "{objects} objects");
}

/// A value that values.yaml explains.
struct Documented {
    path: String,
    comment: String,
}

/// The values whose comment begins with `# --`, in the order of the file.
fn documented() -> Vec<Documented> {
    let (mut found, mut sections, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in read(VALUES).lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim().to_owned());
            continue;
        }
        let key =
            text.split_once(':').map(|(key, _)| key).filter(|key| key.chars().all(char::is_alphanumeric));
        if let Some(key) = key {
            sections.retain(|(outer, _)| *outer < indent);
            sections.push((indent, key.to_owned()));
            if let Some(first) = comment.first().and_then(|first| first.strip_prefix("-- ")) {
                let path: Vec<_> = sections.iter().map(|(_, name)| name.as_str()).collect();
                let words: Vec<_> =
                    [first].into_iter().chain(comment[1..].iter().map(String::as_str)).collect();
                found.push(Documented { path: path.join("."), comment: words.join(" ") });
            }
        }
        comment.clear();
    }
    found
}

/// The value at a path such as `image.tag`.
fn at<'v>(values: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(values, |value, name| &value[name])
}

#[test]
fn every_value_is_commented() {
    let (values, documented) = (read_yaml(VALUES), documented());
    for Documented { path, .. } in &documented {
        assert!(!at(&values, path).is_null() || path.is_empty(), "{path} is not where it is commented");
    }
    walk(&values, "", &mut |path, value| {
        let is_section = value.as_object().is_some_and(|fields| !fields.is_empty());
        let path = path.trim_start_matches('/').replace('/', ".");
        let covered = documented.iter().any(|known| {
            path.strip_prefix(&known.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        assert!(is_section || covered, "{path} has no comment that begins with `# --`");
    });
}

/// Follows `$ref`.
fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(pointer) => root.pointer(pointer.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

/// Every section and value that the schema knows has its default, where a reader looks for it.
#[test]
fn the_schema_knows_no_value_that_the_values_do_not_show() {
    fn compare(root: &Value, schema: &Value, values: &Value, path: &str) {
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        // Objects of Kubernetes' own, empty by default, are explained there.
        if values.as_object().is_some_and(Map::is_empty) {
            return;
        }
        for (name, inner) in properties {
            // A parent chart sets `enabled`, which helm itself reads.
            let optional = ["global", "enabled", "apiVersion", "kind", "ephemeral-storage"];
            if values[name].is_null() && optional.contains(&name.as_str()) {
                continue;
            }
            assert!(!values[name].is_null(), "{path}.{name} is in the schema and not in values.yaml");
            compare(root, resolved(root, inner), &values[name], &format!("{path}.{name}"));
        }
    }
    let schema = schema();
    compare(&schema, &schema, &read_yaml(VALUES), "");
}

#[test]
fn the_table_of_values_is_that_of_the_chart() {
    let values = read_yaml(VALUES);
    let mut table = String::from("| Value | Default | Meaning |\n|---|---|---|\n");
    for Documented { path, comment } in documented() {
        if path.starts_with("config.") {
            continue;
        }
        let default = match at(&values, &path) {
            Value::String(text) if text.is_empty() => "empty".to_owned(),
            value => format!("`{value}`"),
        };
        writeln!(table, "| `{path}` | {default} | {} |", comment.replace('|', "\\|")).unwrap();
    }
    assert_section("docs/install.md", "values", &table);
}

/// The flags that the chart refuses as arguments are flags of options, and `--config`.
#[test]
fn z2_the_flags_that_the_chart_refuses_exist() {
    let helpers = read("charts/sandbox-manager/templates/_helpers.tpl");
    let (_, rest) = helpers.split_once("define \"sandbox-manager.derivedFlags\" -}}\n").unwrap();
    let (flags, _) = rest.split_once("{{- end }}").unwrap();
    let flags: Vec<_> = flags.split_whitespace().collect();
    assert!(flags.len() > 5 && flags.is_sorted(), "{flags:?}");
    for flag in flags.iter().filter(|flag| **flag != "config") {
        assert!(SETTINGS.iter().any(|setting| setting.flag == *flag), "--{flag} is no flag");
    }
}

/// The alerts of the chart.
pub(super) fn alerts() -> Vec<Value> {
    let file = read_yaml("charts/sandbox-manager/files/alerts.yaml");
    let groups = file["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

#[test]
fn every_alert_says_what_it_means_and_what_to_do() {
    let alerts = alerts();
    let names: Vec<_> = alerts.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    for alert in &alerts {
        for field in ["/annotations/summary", "/annotations/description", "/labels/severity", "/expr"] {
            let text = alert.pointer(field).and_then(Value::as_str).unwrap_or_default();
            assert!(!text.is_empty(), "{}: no {field}", alert["alert"]);
        }
    }
    let operations = read("docs/operations.md");
    let headings = operations.lines().filter_map(|line| line.strip_prefix("### Alert: "));
    assert_eq!(headings.collect::<Vec<_>>(), names, "the alerts of docs/operations.md");
    assert_eq!(
        schema()["properties"]["prometheusRule"]["properties"]["disabled"]["items"]["enum"],
        serde_json::json!(names),
        "those that can be left out"
    );
}

/// The version of the compiler that rustup installs here.
fn compiler() -> String {
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    channel.trim_matches('"').to_owned()
}

#[test]
fn the_image_names_the_port_of_every_listener() {
    let defaults = SandboxManagerOptions::default().to_json();
    let mut ports: Vec<String> = Vec::new();
    walk(&defaults, "", &mut |path, value| {
        if path.ends_with("bindAddress") {
            ports.extend(value.as_str().and_then(|address| address.rsplit(':').next()).map(str::to_owned));
        }
    });
    ports.sort_unstable();
    assert!(ports.len() >= 3, "{ports:?}");
    let line = format!("\nEXPOSE {}\n", ports.join(" "));
    assert!(read("Dockerfile").contains(&line), "{line} is not in the Dockerfile");
}

/// What the Dockerfile says of versions is what Cargo and rustup are told.
#[test]
fn the_image_has_the_version_of_the_binary_and_the_compiler_of_the_repository() {
    let dockerfile = read("Dockerfile");
    let version = env!("CARGO_PKG_VERSION");
    for line in [
        format!("ARG RUST_VERSION={}", compiler()),
        format!("org.opencontainers.image.version=\"{version}\""),
        format!("--tag sandbox-manager:{version} ."),
    ] {
        assert!(dockerfile.contains(&line), "{line} is not in the Dockerfile");
    }
    let default = read_yaml("config/default/kustomization.yaml");
    assert_eq!(default["images"][0]["newTag"], version);
}

/// The commands of a job of a workflow.
fn commands(job: &Value) -> String {
    let steps = job["steps"].as_array().unwrap().iter();
    steps.filter_map(|step| step["run"].as_str()).collect::<Vec<_>>().join("\n")
}

/// A binary needs the C library that it was linked with, or a newer one.
#[test]
fn the_binaries_of_a_release_are_built_on_debian_12() {
    let binaries = read_yaml(".github/workflows/release.yaml")["jobs"]["binaries"].clone();
    assert_eq!(binaries["container"], format!("rust:{}-bookworm", compiler()));
    assert!(commands(&binaries).contains("== GLIBC_2.36 ]]"), "{binaries}");
    let dockerfile = read("Dockerfile");
    assert!(dockerfile.contains("FROM rust:${RUST_VERSION}-slim-bookworm AS build"), "{dockerfile}");
}

/// The page size that jemalloc is compiled for must not be smaller than that of the kernel (Y9).
#[test]
fn y9_jemalloc_is_compiled_for_pages_of_64_kib_on_arm64() {
    let release = read_yaml(".github/workflows/release.yaml");
    let scripts = [
        ("the release", commands(&release["jobs"]["binaries"])),
        ("the Dockerfile", read("Dockerfile")),
        ("the justfile", read("justfile")),
    ];
    for (place, script) in scripts {
        let lines: Vec<_> = script.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect();
        let at = lines.iter().position(|line| line.contains("JEMALLOC_SYS_WITH_LG_PAGE=16"));
        let at = at.unwrap_or_else(|| panic!("{place} does not set the page size"));
        let condition = lines[at.saturating_sub(1)..=at].join("\n");
        assert!(condition.contains("uname -m") && condition.contains("aarch64"), "{place}: {condition}");
        let build = |line: &&&str| line.contains("cargo build --release");
        assert!(lines[at..].iter().find(build).is_some(), "{place}: the build comes after it");
    }
    let built = |workflow: &Value, job: &str| -> BTreeMap<String, Value> {
        let matrix = workflow["jobs"][job]["strategy"]["matrix"]["include"].as_array().unwrap();
        let runners = matrix.iter().map(|entry| (entry["runner"].as_str().unwrap().to_owned(), entry));
        runners.map(|(runner, entry)| (runner, entry["page-size"].clone())).collect()
    };
    let native = |arm64: Value, amd64: Value| {
        BTreeMap::from([("ubuntu-24.04".to_owned(), amd64), ("ubuntu-24.04-arm".to_owned(), arm64)])
    };
    // Each architecture is compiled on a machine of its own, where `uname -m` names it.
    for job in ["binaries", "image"] {
        assert_eq!(built(&release, job), native(Value::Null, Value::Null), "{job}");
    }
    let ci = read_yaml(".github/workflows/ci.yaml");
    assert_eq!(built(&ci, "image"), native(65536.into(), 4096.into()));
    assert!(commands(&ci["jobs"]["image"]).contains("grep -x 'Page size: ${{ matrix.page-size }}'"));
}
