//! Alerts and dashboard: every metric that they name exists, and the alerts hold when they should, as Prometheus
//! itself evaluates them.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::helm::{Helm, printed, program, run};
use super::{read, the};

/// What `promql` says to an input.
fn promql(command: &str, input: &str) -> Result<String, String> {
    printed(&run(Command::new(program("promql")).arg(command).env_clear(), input))
}

/// The names and the expressions of the alerts, as the chart renders them; each expression in one line.
fn rendered_alerts() -> Vec<(String, String)> {
    let values = json!({ "prometheusRule": { "enabled": true } });
    let objects = Helm::offline("operators").template("sandbox-manager", &values).unwrap();
    let rules = the(&objects, "PrometheusRule").pointer("/spec/groups/0/rules").unwrap().clone();
    let text = |rule: &Value, field: &str| {
        rule[field].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    rules.as_array().unwrap().iter().map(|rule| (text(rule, "alert"), text(rule, "expr"))).collect()
}

/// The expressions of the dashboard, with its variables filled in.
fn dashboard() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("charts/sandbox-manager/files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets.map(|target| target["expr"].as_str().unwrap().replace("$job", "sandbox-manager")).collect()
}

/// The metrics of the README's table, which a test compares with those of a running manager, as series are named.
fn known_metrics() -> BTreeSet<String> {
    let readme = read("README.md");
    let (_, table) = readme.split_once("<!-- metrics: begin -->").unwrap();
    let (table, _) = table.split_once("<!-- metrics: end -->").unwrap();
    let mut names = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let name = cells[1].trim_matches('`');
        if cells[2] == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    names
}

#[test]
#[ignore = "needs promql and helm: tests/chart/run.sh"]
fn every_metric_of_alerts_and_dashboard_exists() {
    let expressions: Vec<_> =
        rendered_alerts().into_iter().map(|(_, expression)| expression).chain(dashboard()).collect();
    assert!(expressions.len() > 20, "{expressions:?}");
    let named = promql("metrics", &expressions.join("\n")).unwrap_or_else(|error| panic!("{error}"));
    let known = known_metrics();
    let unknown = named.lines().filter(|name| !known.contains(*name) && !name.starts_with("process_"));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&str>::new());
}

#[test]
#[ignore = "needs promql and helm: tests/chart/run.sh"]
fn alerts_hold_when_they_should_and_only_then() {
    let mut script = read("tests/chart/alerts.promql");
    for (name, expression) in rendered_alerts() {
        let placeholder = format!("${name}");
        assert!(script.contains(&placeholder), "{name} is not in the script");
        script = script.replace(&placeholder, &expression);
    }
    promql("test", &script).unwrap_or_else(|error| panic!("{error}"));
    let wrong = promql("test", "load 1m\n    a 1x10\n\neval instant at 5m a\n");
    assert!(wrong.as_ref().is_err_and(|error| error.contains("unexpected metric")), "{wrong:?}");
}

#[test]
#[ignore = "needs promql and helm: tests/chart/run.sh"]
fn alerts_can_be_left_out_and_read_another_job() {
    let values =
        json!({ "prometheusRule": { "enabled": true, "job": "other", "disabled": ["SandboxManagerDown"] } });
    let objects = Helm::offline("operators").template("sandbox-manager", &values).unwrap();
    let rules = the(&objects, "PrometheusRule")["spec"].to_string();
    assert!(!rules.contains("SandboxManagerDown") && rules.contains("SandboxManagerNotReady"), "{rules}");
    assert!(!rules.contains("job=\\\"sandbox-manager\\\"") && rules.contains("job=\\\"other\\\""), "{rules}");
}
