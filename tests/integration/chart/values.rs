//! Bad values are refused with a message that names them, before anything reaches a cluster; and the schema says of
//! each option what the binary itself says.

use std::process::Command;

use sandbox_manager::options::SETTINGS;
use serde_json::{Value, json};

use super::helm::{Helm, printed, run};
use super::rendered::merge;

/// The value at a path such as `config.cache.pageSize`, alone.
fn only(path: &str, value: &Value) -> Value {
    path.rsplit('.').fold(value.clone(), |inner, name| json!({ name: inner }))
}

#[track_caller]
fn refused(values: &Value, parts: &[&str]) {
    let refusal = Helm::offline("operators").template("release", values).expect_err(&values.to_string());
    for part in parts {
        assert!(refusal.contains(part), "{values}: {part} is not in: {refusal}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn unknown_keys_are_refused_by_name_at_every_depth() {
    for (path, place) in [
        ("sandboxNamespace", "''"),
        ("image.tags", "'/image'"),
        ("config.sandboxNamespaces", "'/config'"),
        ("config.cache.pageSiz", "'/config/cache'"),
        ("config.controllers.sandboxset", "'/config/controllers'"),
        ("config.controllers.sandbox.workers", "'/config/controllers/sandbox'"),
        ("rbac.clusterWide", "'/rbac'"),
        ("resources.limits.gpu", "'/resources/limits'"),
        ("podSecurityContext.privileged", "'/podSecurityContext'"),
        ("probes.readiness.path", "'/probes/readiness'"),
        ("affinity.nodeAffinity.preferred", "'/affinity/nodeAffinity'"),
        ("networkPolicy.egress.dns", "'/networkPolicy/egress'"),
        ("serviceMonitor.namespace", "'/serviceMonitor'"),
        ("strategy.rollingUpdates", "'/strategy'"),
        ("lifecycle.prestop", "'/lifecycle'"),
        ("config.lifecycle.enable", "'/config/lifecycle'"),
        ("config.e2b.keys", "'/config/e2b'"),
        ("e2b.gateway", "'/e2b'"),
        ("e2b.ingress.host", "'/e2b/ingress'"),
        ("e2b.httpRoute.tls", "'/e2b/httpRoute'"),
    ] {
        let key = path.rsplit('.').next().unwrap();
        let message = format!("at {place}: additional properties '{key}' not allowed");
        refused(&only(path, &json!("x")), &[&message]);
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn autoscaling_is_refused_with_and_without_replicas() {
    let message = "at '': additional properties 'autoscaling' not allowed";
    let autoscaling = json!({ "enabled": true, "minReplicas": 1, "maxReplicas": 3 });
    refused(&json!({ "replicas": 2, "autoscaling": autoscaling }), &[message]);
    refused(&json!({ "autoscaling": autoscaling }), &[message]);
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn bad_values_are_refused_by_path_and_value() {
    for (path, value) in [
        ("image.repository", json!("Sandbox Manager")),
        ("image.registry", json!("https://registry.example.com")),
        ("image.tag", json!("a:b")),
        ("image.tag", json!(1.0)),
        ("image.digest", json!("sha256:beef")),
        ("image.pullPolicy", json!("Sometimes")),
        ("fullnameOverride", json!("Manager")),
        ("replicas", json!(-1)),
        ("replicas", json!(1.5)),
        ("replicas", json!("2")),
        ("config", json!("file.yaml")),
        ("config.apiVersion", json!("v1")),
        ("config.kind", json!("Deployment")),
        ("config.sandboxNamespace", json!("Team_A")),
        ("config.sandboxNamespace", json!("a,b")),
        ("config.sandboxLabelSelector", json!("team in (a")),
        ("config.sandboxLabelSelector", json!("team = a b")),
        ("config.sandboxLabelSelector", json!("team,,tier")),
        ("config.systemNamespace", json!(["a"])),
        ("config.metrics.bindAddress", json!("8080")),
        ("config.metrics.bindAddress", json!(8080)),
        ("config.health.bindAddress", json!("0.0.0.0:65536")),
        ("config.debug.enabled", json!("yes")),
        ("config.controllers.sandbox.maxConcurrentReconciles", json!(0)),
        ("config.controllers.sandboxSet.maxConcurrentReconciles", json!(65536)),
        ("config.cache.syncTimeout", json!("0s")),
        ("config.cache.pageSize", json!(10001)),
        ("config.client.qps", json!(-1)),
        ("config.client.burst", json!(0)),
        ("config.log.level", json!("verbose")),
        ("config.log.format", json!("xml")),
        ("config.shutdown.gracePeriod", json!("30")),
        ("config.shutdown.gracePeriod", json!("-5s")),
        ("serviceAccount.name", json!("Not_A_Name")),
        ("podSecurityContext.runAsUser", json!(0)),
        ("resources.limits.memory", json!("256 MB")),
        ("probes.liveness.periodSeconds", json!(0)),
        ("service.port", json!(0)),
        ("config.e2b.auth", json!("token")),
        ("config.e2b.firstKeyTeam", json!("Team A")),
        ("e2b.service.port", json!(65536)),
        ("e2b.ingress.className", json!("Public Class")),
        ("e2b.ingress.hosts", json!(["https://api.example.com"])),
        ("e2b.ingress.tls", json!([{ "secret": "a" }])),
        ("e2b.httpRoute.parentRefs", json!([{}])),
        ("e2b.httpRoute.hostnames", json!("api.example.com")),
        ("e2b.httpRoute.requestTimeout", json!("60")),
        ("networkPolicy.e2bFrom", json!([{}])),
        ("serviceMonitor.interval", json!("30")),
        ("prometheusRule.disabled", json!(["SandboxManagerUp"])),
        ("podDisruptionBudget.maxUnavailable", json!("half")),
        ("nodeSelector", json!("linux")),
        ("tolerations", json!([{ "effect": "Never" }])),
        ("priorityClassName", json!("High Priority")),
        ("rbac.extraRules", json!([{ "apiGroups": [""], "resources": ["pods"] }])),
        ("rbac.extraRules", json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": [] }])),
        ("networkPolicy.egress.apiServerPorts", json!([70000])),
        ("networkPolicy.egress.apiServerCIDRs", json!(["everywhere"])),
        ("networkPolicy.metricsFrom", json!([{}])),
        ("extraEnv", json!([{ "value": "nameless" }])),
        ("strategy.type", json!("OnDelete")),
        ("commonLabels", json!({ "a": 1 })),
        ("extraArgs", json!([1])),
        ("extraVolumes", json!([{ "name": "config", "emptyDir": {} }])),
        ("extraVolumes", json!([{ "name": "a", "emptydir": {} }])),
        ("extraVolumeMounts", json!([{ "name": "a", "mountPath": "relative" }])),
        ("envFrom", json!([{ "configMapRef": {} }])),
    ] {
        let place = format!("at '/{}", path.replace('.', "/"));
        refused(&only(path, &value), &[&place]);
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn bad_selectors_of_kubernetes_are_refused_where_they_stand() {
    refused(&json!({ "nodeSelector": { "a b": "c" } }), &["at '/nodeSelector'", "'a b'"]);
    refused(&json!({ "nodeSelector": { "a": "b c" } }), &["at '/nodeSelector/a'", "'b c'"]);
    refused(&json!({ "podLabels": { "-a": "b" } }), &["at '/podLabels'", "'-a'"]);
    let constraint = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
                             "labelSelector": { "matchLabels": { "a": "b=c" } } });
    let place = "at '/topologySpreadConstraints/0/labelSelector/matchLabels/a'";
    refused(&json!({ "topologySpreadConstraints": [constraint] }), &[place, "'b=c'"]);
    let from = json!([{ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Like" }] } }]);
    let place = "at '/networkPolicy/metricsFrom/0/podSelector/matchExpressions/0/operator'";
    refused(&json!({ "networkPolicy": { "metricsFrom": from } }), &[place]);
}

/// What no schema can say, the templates say.
#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn values_that_contradict_each_other_are_refused_by_name() {
    refused(&json!({ "serviceAccount": { "create": false } }), &["at '/serviceAccount/name'"]);
    let health = |address: &str| json!({ "config": { "health": { "bindAddress": address } } });
    refused(&health("0.0.0.0:0"), &["config.health.bindAddress: port 0"]);
    refused(&health("127.0.0.1:8081"), &["config.health.bindAddress", "\"127.0.0.1:8081\"", "kubelet"]);
    refused(&health("localhost:8081"), &["config.health.bindAddress", "\"localhost:8081\""]);
    refused(
        &health(":8080"),
        &["config.health.bindAddress: port 8080 is the port of config.metrics.bindAddress"],
    );
    let unscraped =
        json!({ "serviceMonitor": { "enabled": true }, "config": { "metrics": { "bindAddress": "0" } } });
    refused(&unscraped, &["serviceMonitor.enabled", "config.metrics.bindAddress"]);
    let variable =
        json!({ "extraEnv": [{ "name": "SANDBOX_MANAGER_SYSTEM_NAMESPACE", "value": "kube-system" }] });
    refused(&variable, &["extraEnv: SANDBOX_MANAGER_SYSTEM_NAMESPACE"]);
    for argument in ["--lifecycle-enabled=false", "--sandbox-namespace", "--config=other.yaml"] {
        let flag = argument.split('=').next().unwrap();
        refused(&json!({ "extraArgs": [argument] }), &[&format!("extraArgs: {flag} would override config")]);
    }
    refused(&json!({ "image": { "registry": "" } }), &["image.registry: set the registry"]);
}

/// What the binary would refuse in the pod, and what would lead nowhere.
#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn values_of_the_e2b_api_that_contradict_each_other_are_refused_by_name() {
    let e2b = |more: Value| {
        let mut e2b = json!({ "enabled": true });
        merge(&mut e2b, &more);
        json!({ "config": { "systemNamespace": "system", "e2b": e2b } })
    };
    let mut nowhere = e2b(json!({}));
    merge(&mut nowhere, &json!({ "config": { "systemNamespace": "" } }));
    refused(&nowhere, &["config.e2b.enabled: set config.systemNamespace"]);
    let open = json!({ "auth": "none" });
    refused(&e2b(open), &["config.e2b.auth: without keys", "config.e2b.allowUnauthenticated"]);
    let half = json!({ "tls": { "certFile": "/tls/tls.crt" } });
    refused(&e2b(half), &["config.e2b.tls: set both certFile and keyFile"]);
    for (address, listener) in [(":8080", "metrics"), ("0.0.0.0:8081", "health")] {
        let message = format!("is the port of config.{listener}.bindAddress");
        refused(&e2b(json!({ "bindAddress": address })), &["config.e2b.bindAddress: port ", &message]);
    }
    refused(&e2b(json!({ "bindAddress": ":0" })), &["config.e2b.bindAddress: port 0"]);
    for (way, most) in
        [("ingress", json!({ "hosts": ["a.b"] })), ("httpRoute", json!({ "parentRefs": [{ "name": "a" }] }))]
    {
        let mut values = json!({ "e2b": { way: { "enabled": true } } });
        refused(&values, &[&format!("at '/e2b/{way}/")]);
        merge(&mut values, &json!({ "e2b": { way: most } }));
        let message = format!("e2b.{way}.enabled: there is nothing to reach");
        refused(&values, &[&message]);
        for address in ["0", "127.0.0.1:8082"] {
            let mut values = values.clone();
            merge(&mut values, &e2b(json!({ "bindAddress": address })));
            refused(&values, &[&message]);
        }
        merge(&mut values, &e2b(json!({})));
        Helm::offline("operators").template("release", &values).unwrap();
    }
}

/// Two pods of a rolling update must not both create sandboxes.
#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z3_lifecycle_controllers_need_a_leader_election_or_a_single_pod_that_is_recreated() {
    let lifecycle = |more: Value| {
        let mut values = json!({ "config": { "lifecycle": { "enabled": true } } });
        merge(&mut values, &more);
        values
    };
    let recreate = json!({ "strategy": { "type": "Recreate" } });
    let named = &["config.lifecycle.enabled: set config.leaderElection.enabled"];
    refused(&lifecycle(json!({})), named);
    let mut two = recreate.clone();
    merge(&mut two, &json!({ "replicas": 2 }));
    refused(&lifecycle(two), named);
    let helm = Helm::offline("operators");
    let elected = json!({ "replicas": 2, "config": { "leaderElection": { "enabled": true } } });
    for accepted in [recreate, elected] {
        helm.template("release", &lifecycle(accepted)).unwrap();
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn several_bad_values_are_all_named_at_once() {
    let mut values = only("config.cache.pageSize", &json!(0));
    merge(&mut values, &only("config.log.level", &json!("loud")));
    merge(&mut values, &json!({ "typo": 1 }));
    refused(&values, &["'/config/cache/pageSize'", "'/config/log/level'", "'typo'"]);
}

/// Values of the options that are worth asking about: good, bad, and at the edge.
const PROBES: &[(&str, &[&str])] = &[
    ("sandboxNamespace", &["", "a", "team-a", "A", "a.b", "-a", "a-", "0", "a b"]),
    ("systemNamespace", &["", "kube-system", "kube_system"]),
    (
        "sandboxLabelSelector",
        &[
            "",
            " ",
            "a",
            "!a",
            "! a",
            "a=b",
            "a==b",
            "a===b",
            "a!=b",
            "a=",
            "a = ",
            "a=,b",
            "a in (x,y)",
            "a in(x)",
            "a notin ( x , y )",
            "a in ()",
            "a in (x",
            "a in x",
            "a in (x y)",
            "in in (in,notin)",
            "in(x)",
            "a,b",
            "a,,b",
            ",a",
            "a,",
            "a b",
            "a>1",
            "a<-2",
            "a>+3",
            "a>x",
            "a>",
            "!a=b",
            "=b",
            "(",
            "a=b c",
            "example.com/m=v",
            "Example.com/m",
            "a/b/c",
            "/b",
            "a/",
            "-a",
            "a-",
            "a=-b",
            "a=b.",
            "a=b_c",
            "ü",
            "a\t=\nb",
            "a=b,c==d,e!=f,g in (x),h notin (y),i,!j,k>1,l<2",
        ],
    ),
    (
        "metrics.bindAddress",
        &[
            "0",
            "00",
            "",
            "8080",
            ":8080",
            "0.0.0.0:8080",
            "127.0.0.1:1",
            "1.2.3.256:80",
            "10.0.0:80",
            "01.0.0.0:80",
            "localhost:80",
            "a.b-c:1",
            "-a:80",
            "a..b:80",
            "a b:80",
            "[::1]:80",
            "[::]:8080",
            "::1:80",
            ":65535",
            ":65536",
            ":+80",
            ":http",
            "a:",
            "http://a:80",
        ],
    ),
    (
        "cache.syncTimeout",
        &["1s", "0", "0s", "0.0s", "2m", "1h30m", "500ms", "1.5s", ".5s", "1.s", "5", "5 s", "-5s"],
    ),
    ("health.staleAfter", &["0", "5m", "1h30m", "5", "-5m", ""]),
    (
        "shutdown.gracePeriod",
        &["0", "0s", "30s", "1m30s", "100us", "1µs", "30", "s", "5d", "1h 30m", "", "ms5"],
    ),
    ("e2b.auth", &["secret", "none", "Secret", ""]),
    ("log.level", &["error", "warn", "info", "debug", "trace", "INFO", "", "off"]),
    ("log.format", &["json", "text", "xml", ""]),
];

/// The name and the value that the label selector of a matrix of 63 and 64 characters has.
fn long_names() -> Vec<String> {
    let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
    vec![
        longest.clone(),
        too_long.clone(),
        format!("a={longest}"),
        format!("a={too_long}"),
        format!("b.c/{longest}"),
    ]
}

/// What the binary says to an options file with this one setting.
fn binary_accepts(path: &str, value: &str) -> Result<(), String> {
    let mut options = only(path, &json!(value));
    options["apiVersion"] = json!("config.agents.kruise.io/v1alpha1");
    options["kind"] = json!("SandboxManagerOptions");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
    command.args(["config", "--config", "/dev/stdin"]).env_clear();
    printed(&run(&mut command, &options.to_string())).map(|_| ())
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_schema_says_of_each_option_what_the_binary_says() {
    let helm = Helm::offline("operators");
    let long = long_names();
    let mut asked = 0;
    for (path, values) in PROBES {
        assert!(SETTINGS.iter().any(|setting| setting.path == *path), "{path} is no setting");
        let long = long.iter().map(String::as_str).filter(|_| path.contains("Selector"));
        for value in values.iter().copied().chain(long) {
            let by_schema = helm.template("release", &only(&format!("config.{path}"), &json!(value)));
            let by_binary = binary_accepts(path, value);
            // Only the schema's own refusals count here.
            let by_schema = by_schema
                .map(|_| ())
                .or_else(|refusal| if refusal.contains("at '/config/") { Err(refusal) } else { Ok(()) });
            assert_eq!(
                by_schema.is_ok(),
                by_binary.is_ok(),
                "{path} {value:?}: {by_schema:?}, {by_binary:?}"
            );
            asked += 1;
        }
    }
    assert!(asked > 100, "{asked} values");
}
