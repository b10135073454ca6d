//! What Helm makes of the chart, over a matrix of values: valid to the API server, no more permissions than needed,
//! ports and probes and times that follow from the configuration.

use std::process::Command;

use sandbox_manager::SandboxManagerOptions;
use serde_json::{Value, json};

use super::helm::{Helm, REGISTRY, printed, run};
use super::kubeconform::Kubeconform;
use super::{identity, read_yaml, server, the};

/// Every combination of what changes the shape of a release; each with its description.
pub(super) fn matrix() -> Vec<(String, Value)> {
    let config = |config: Value| json!({ "config": config });
    let scopes = [
        config(json!({})),
        config(json!({ "sandboxNamespace": "sandboxes", "sandboxLabelSelector": "team in (a,b),!old" })),
        config(json!({ "systemNamespace": "system" })),
        config(json!({ "sandboxNamespace": "sandboxes", "systemNamespace": "system" })),
        config(json!({ "leaderElection": { "enabled": true, "namespace": "locks" } })),
        config(json!({ "leaderElection": { "enabled": true }, "lifecycle": { "enabled": true } })),
        config(json!({ "leaderElection": { "enabled": true }, "lifecycle": { "enabled": true },
                       "sandboxNamespace": "sandboxes", "sandboxLabelSelector": "team=a" })),
        config(json!({ "systemNamespace": "system", "e2b": { "enabled": true } })),
        config(json!({ "leaderElection": { "enabled": true }, "lifecycle": { "enabled": true },
                       "sandboxNamespace": "sandboxes", "systemNamespace": "system",
                       "e2b": { "enabled": true, "bindAddress": "0", "firstKeyTeam": "admin" } })),
        config(json!({ "sandboxNamespace": "sandboxes",
                       "e2b": { "enabled": true, "auth": "none", "allowUnauthenticated": true,
                                "bindAddress": "[::]:9443" } })),
    ];
    let listeners = [
        config(json!({})),
        config(json!({ "metrics": { "bindAddress": "0" } })),
        config(json!({ "metrics": { "bindAddress": "[::]:9090" }, "health": { "bindAddress": "0" } })),
        config(json!({ "metrics": { "bindAddress": "0" }, "health": { "bindAddress": "0" } })),
    ];
    let surroundings = [
        json!({}),
        read_yaml("tests/chart/values/everything.yaml"),
        json!({ "rbac": { "create": false }, "serviceAccount": { "create": false, "name": "given" },
                "networkPolicy": { "enabled": false }, "replicas": 0 }),
    ];
    let mut matrix = Vec::new();
    for scope in &scopes {
        for listener in &listeners {
            for surrounding in &surroundings {
                let mut values = scope.clone();
                merge(&mut values, listener);
                merge(&mut values, surrounding);
                if listener.pointer("/config/metrics/bindAddress") == Some(&json!("0")) {
                    merge(&mut values, &json!({ "serviceMonitor": { "enabled": false } }));
                }
                if e2b_port(&values).is_none() {
                    merge(&mut values, &json!({ "e2b": { "ingress": { "enabled": false } } }));
                }
                matrix.push((values.to_string(), values));
            }
        }
    }
    matrix
}

/// Lays one tree of values over another.
pub(super) fn merge(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (name, value) in over {
                merge(under.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[track_caller]
fn rendered(values: &Value) -> Vec<Value> {
    Helm::offline("operators").template("release", values).unwrap_or_else(|error| panic!("{values}: {error}"))
}

fn manager(objects: &[Value]) -> &Value {
    the(objects, "Deployment").pointer("/spec/template/spec/containers/0").unwrap()
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn every_combination_of_values_is_valid_to_the_api_server() {
    let server = server::shared().await;
    let kubeconform = Kubeconform::of(&server.client().await).await;
    let helm = Helm::offline("operators");
    let mut yaml = helm.run(&["show", "crds", &Helm::chart()], &json!({})).unwrap();
    for (description, values) in matrix() {
        yaml +=
            &helm.template_text("release", &values).unwrap_or_else(|error| panic!("{description}: {error}"));
    }
    for sample in ["sandbox", "sandboxset", "sandboxtemplate", "sandboxclaim", "checkpoint"] {
        yaml += "\n---\n";
        yaml += &super::read(&format!("config/samples/{sample}.yaml"));
    }
    let count = super::documents(&yaml).len();
    assert!(count > 300, "{count} objects");
    kubeconform.check_text(&yaml, count).unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn the_schemas_refuse_what_the_api_server_does_not_know() {
    let server = server::shared().await;
    let kubeconform = Kubeconform::of(&server.client().await).await;
    let objects = rendered(&read_yaml("tests/chart/values/everything.yaml"));
    for (kind, pointer, value) in [
        ("Deployment", "/spec/replica", json!(1)),
        ("Deployment", "/spec/replicas", json!("one")),
        ("Deployment", "/spec/template/spec/containers/0/livenessProbe/path", json!("/livez")),
        ("ClusterRole", "/rules/0/resource", json!([])),
        ("NetworkPolicy", "/spec/ingress/0/port", json!([])),
        ("ServiceMonitor", "/spec/endpoints/0/honorLabel", json!(true)),
        ("PrometheusRule", "/spec/groups/0/rules/0/alert", json!(1)),
        ("Ingress", "/spec/rules/0/hosts", json!(["a.b"])),
    ] {
        let mut object = the(&objects, kind).clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[field] = value;
        let refused = kubeconform.check(&[object]).expect_err(pointer);
        assert!(refused.contains(field), "{pointer}: {refused}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_chart_passes_the_strict_linter_with_and_without_everything() {
    let everything = read_yaml("tests/chart/values/everything.yaml");
    for values in [json!({}), everything] {
        let linted =
            Helm::offline("operators").run(&["lint", "--strict", &Helm::chart(), "--values", "-"], &values);
        assert!(linted.as_ref().is_ok_and(|said| said.contains("0 chart(s) failed")), "{linted:?}");
    }
}

/// Every rule of a release, with the namespace that it holds in (nothing: the cluster).
fn rules(objects: &[Value]) -> Vec<(Option<&str>, &Value)> {
    let roles = objects.iter().filter(|object| ["Role", "ClusterRole"].contains(&identity(object).0));
    let of = |role: &'_ Value| role["rules"].as_array().map_or(0, Vec::len);
    let mut all = Vec::new();
    for role in roles {
        let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str);
        assert_eq!(namespace.is_none(), role["kind"] == "ClusterRole", "{role}");
        assert!(of(role) > 0, "{role}");
        all.extend(role["rules"].as_array().into_iter().flatten().map(|rule| (namespace, rule)));
    }
    all
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn permissions_follow_from_the_namespaces_and_secrets_are_never_readable_elsewhere() {
    for (description, values) in matrix() {
        let config = |field: &str| values["config"][field].as_str();
        let granted = values.pointer("/rbac/create") != Some(&json!(false));
        let objects = rendered(&values);
        let mut seen = Vec::new();
        for (namespace, rule) in rules(&objects) {
            if is_of_the_keys(rule) {
                assert!(has_keys(&values), "{description}: {rule}");
                continue;
            }
            // Those are the values' own.
            if rule["verbs"] == json!(["get", "patch"]) {
                assert_eq!(namespace, config("sandboxNamespace"), "{description}");
                continue;
            }
            if is_of_the_election(rule) {
                continue;
            }
            if is_of_writes(rule) {
                let is_of_claims = has_e2b(&values) && rule["resources"] == json!(["sandboxes"]);
                assert!(has_lifecycle(&values) || is_of_claims, "{description}: {rule}");
                assert_eq!(namespace, config("sandboxNamespace"), "{description}: {rule}");
                continue;
            }
            assert_eq!(rule["verbs"], json!(["list", "watch"]), "{description}");
            for resource in rule["resources"].as_array().unwrap() {
                let resource = resource.as_str().unwrap();
                let expected = match resource {
                    "persistentvolumes" => None,
                    "secrets" | "configmaps" => Some(config("systemNamespace").expect("not without it")),
                    _ => config("sandboxNamespace"),
                };
                assert_eq!(namespace, expected, "{resource}: {description}");
                seen.push(resource);
            }
        }
        let mut expected = vec!["sandboxes", "sandboxsets", "sandboxtemplates", "checkpoints"];
        expected.push("persistentvolumeclaims");
        expected.extend(has_lifecycle(&values).then_some(["sandboxclaims", "pods"]).into_iter().flatten());
        let volumes = values.pointer("/config/cache/persistentVolumes") == Some(&json!(true));
        expected.extend(volumes.then_some("persistentvolumes"));
        expected.extend(config("systemNamespace").map(|_| ["secrets", "configmaps"]).into_iter().flatten());
        expected.retain(|_| granted);
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected, "{description}");
    }
}

/// The Events of the election are in the namespace of the Lease, and those of the lifecycle beside the sandboxes. Both are
/// written with the same verbs.
fn is_of_the_election(rule: &Value) -> bool {
    ["coordination.k8s.io", "events.k8s.io"].iter().any(|group| rule["apiGroups"][0] == *group)
}

fn has_lifecycle(values: &Value) -> bool {
    values.pointer("/config/lifecycle/enabled") == Some(&json!(true))
}

fn has_e2b(values: &Value) -> bool {
    values.pointer("/config/e2b/enabled") == Some(&json!(true))
}

/// Returns true if the E2B API asks for keys.
fn has_keys(values: &Value) -> bool {
    has_e2b(values) && values.pointer("/config/e2b/auth") != Some(&json!("none"))
}

/// The port of the E2B API, if it listens.
fn e2b_port(values: &Value) -> Option<u16> {
    let address = values.pointer("/config/e2b/bindAddress").and_then(Value::as_str).unwrap_or(":8082");
    let port = address.rsplit_once(':').map(|(_, port)| port.parse().unwrap());
    port.filter(|_| has_e2b(values))
}

/// Returns true for a rule of writes, and of reads of single objects, of the sandbox kinds and pods.
fn is_of_writes(rule: &Value) -> bool {
    let verbs = rule["verbs"].as_array().unwrap();
    !verbs.contains(&json!("list")) && !is_of_the_election(rule) && !is_of_the_keys(rule)
}

/// Returns true for a rule for the Secret of API keys, and for the namespaces that keys are for.
fn is_of_the_keys(rule: &Value) -> bool {
    [json!(["secrets"]), json!(["namespaces"])].contains(&rule["resources"])
}

/// What a claim does with sandboxes, which the lifecycle does as well, as `resource: verbs`.
const CLAIMS: &str = "sandboxes: create,delete,get,patch";

/// The rules for the writes of the lifecycle, each as `resource: verbs`.
const LIFECYCLE: [&str; 14] = [
    "checkpoints: delete",
    "checkpoints: patch",
    "checkpoints/status: patch",
    "persistentvolumeclaims: create,get",
    "pods: create,delete,get,patch",
    "pods/resize: patch",
    "sandboxclaims: delete",
    "sandboxclaims/status: patch",
    CLAIMS,
    "sandboxes/finalizers: update",
    "sandboxes/status: patch",
    "sandboxsets: get",
    "sandboxsets/finalizers: update",
    "sandboxsets/status: patch",
];

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z3_sandboxes_and_pods_may_be_written_with_the_lifecycle_and_sandboxes_with_the_e2b_api_only() {
    for (description, values) in matrix() {
        let objects = rendered(&values);
        let mut found = Vec::new();
        for (_, rule) in rules(&objects) {
            let texts = |field: &str| {
                rule[field].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>()
            };
            if is_of_writes(rule) && rule["verbs"] != json!(["get", "patch"]) {
                let verbs = texts("verbs").join(",");
                found.extend(texts("resources").iter().map(|resource| format!("{resource}: {verbs}")));
            }
        }
        found.sort_unstable();
        let mut expected: Vec<_> = LIFECYCLE.map(str::to_owned).into();
        let has_selector = values["config"]["sandboxLabelSelector"].as_str().is_some();
        expected.extend(has_selector.then(|| "sandboxtemplates: get".to_owned()));
        expected.retain(|_| has_lifecycle(&values));
        if has_e2b(&values) && !has_lifecycle(&values) {
            expected.push(CLAIMS.to_owned());
        }
        let granted = values.pointer("/rbac/create") != Some(&json!(false));
        expected.retain(|_| granted);
        expected.sort_unstable();
        assert_eq!(found, expected, "{description}");
    }
}

/// With keys only, and no other Secret than the one of keys can be read by its name or changed.
#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z3_the_secret_of_api_keys_may_be_written_with_the_e2b_api_only() {
    for (description, values) in matrix() {
        let objects = rendered(&values);
        let found: Vec<_> = rules(&objects).into_iter().filter(|(_, rule)| is_of_the_keys(rule)).collect();
        let granted = values.pointer("/rbac/create") != Some(&json!(false));
        if !granted || !has_keys(&values) {
            assert!(found.is_empty(), "{description}: {found:?}");
            continue;
        }
        let rule = |resource: &str, verbs: Value| json!({ "apiGroups": [""], "resources": [resource], "verbs": verbs });
        let mut change = rule("secrets", json!(["get", "patch"]));
        merge(&mut change, &json!({ "resourceNames": ["e2b-key-store"] }));
        let (namespaces, create) = (rule("namespaces", json!(["get"])), rule("secrets", json!(["create"])));
        let config = |field: &str| values["config"][field].as_str();
        let (sandboxes, system) = (config("sandboxNamespace"), config("systemNamespace"));
        assert!(system.is_some(), "{description}");
        let mut first = rule("secrets", json!(["get"]));
        merge(&mut first, &json!({ "resourceNames": ["e2b-first-key"] }));
        let has_first = values.pointer("/config/e2b/firstKeyTeam").is_some();
        let mut expected = vec![(sandboxes, &namespaces), (system, &create), (system, &change)];
        expected.extend(has_first.then_some((system, &first)));
        assert_eq!(found, expected, "{description}");
        let mut without = values.clone();
        merge(&mut without, &json!({ "rbac": { "createKeySecret": false } }));
        let objects = rendered(&without);
        let left = rules(&objects).into_iter().filter(|(_, rule)| is_of_the_keys(rule));
        expected.remove(1);
        assert_eq!(left.collect::<Vec<_>>(), expected, "{description}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z3_the_lease_and_its_events_may_be_written_with_leader_election_only() {
    for (description, values) in matrix() {
        let election = &values["config"]["leaderElection"];
        let granted = values.pointer("/rbac/create") != Some(&json!(false));
        let objects = rendered(&values);
        let mut found: Vec<_> =
            rules(&objects).into_iter().filter(|(_, rule)| is_of_the_election(rule)).collect();
        // The Events of the lifecycle.
        let sandboxes = values["config"]["sandboxNamespace"].as_str();
        let in_scope = |(namespace, rule): &(Option<&str>, &Value)| {
            *namespace == sandboxes && rule["apiGroups"][0] == "events.k8s.io"
        };
        if has_lifecycle(&values) && granted {
            let before = found.len();
            found.retain(|rule| !in_scope(rule));
            assert_eq!(before - found.len(), 1, "{description}");
        }
        if !granted || election["enabled"] != json!(true) {
            assert!(found.is_empty(), "{description}: {found:?}");
            continue;
        }
        let namespace = election["namespace"].as_str().unwrap_or("operators");
        assert!(found.iter().all(|(of, _)| *of == Some(namespace)), "{description}: {found:?}");
        let name = election["name"].as_str().unwrap_or("sandbox-manager");
        let rules: Vec<_> = found.drain(..).map(|(_, rule)| rule.clone()).collect();
        let leases = json!({ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"] });
        let mut create = leases.clone();
        merge(&mut create, &json!({ "verbs": ["create"] }));
        let mut renew = leases;
        merge(&mut renew, &json!({ "resourceNames": [name], "verbs": ["get", "update"] }));
        let events =
            json!({ "apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"] });
        assert_eq!(rules, [create, renew, events], "{description}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn every_binding_leads_to_a_role_of_the_release_and_to_its_account_alone() {
    for (description, values) in matrix() {
        let objects = rendered(&values);
        let account = the(&objects, "Deployment").pointer("/spec/template/spec/serviceAccountName").unwrap();
        for binding in objects.iter().filter(|object| identity(object).0.ends_with("RoleBinding")) {
            let subject = json!([{ "kind": "ServiceAccount", "name": account, "namespace": "operators" }]);
            assert_eq!(binding["subjects"], subject, "{description}");
            let namespace = &binding["metadata"]["namespace"];
            let role = |object: &&Value| {
                object["kind"] == binding["roleRef"]["kind"]
                    && object["metadata"]["name"] == binding["roleRef"]["name"]
                    && object["metadata"]["namespace"] == *namespace
            };
            assert_eq!(objects.iter().filter(role).count(), 1, "{description}");
        }
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn ports_probes_and_services_follow_from_the_addresses() {
    for (description, values) in matrix() {
        let port = |listener: &str, default: u16| {
            let address = values.pointer(&format!("/config/{listener}/bindAddress")).and_then(Value::as_str);
            address.map_or(Some(default), |text| text.rsplit_once(':').map(|(_, port)| port.parse().unwrap()))
        };
        let (metrics, health, e2b) = (port("metrics", 8080), port("health", 8081), e2b_port(&values));
        let objects = rendered(&values);
        let container = manager(&objects);
        let named = |name: &str| {
            let ports = container["ports"].as_array().into_iter().flatten();
            let mut found = ports.filter(|port| port["name"] == name);
            found.next().map(|port| u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap())
        };
        let found = (named("metrics"), named("health"), named("e2b"));
        assert_eq!(found, (metrics, health, e2b), "{description}");
        for (probe, path) in
            [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
        {
            let get = container.pointer(&format!("/{probe}/httpGet"));
            let expected = health.map(|_| json!({ "path": path, "port": "health" }));
            assert_eq!(get.cloned(), expected, "{description}");
        }
        let services = objects.iter().filter(|object| object["kind"] == "Service");
        let expected = usize::from(metrics.is_some()) + usize::from(e2b.is_some());
        assert_eq!(services.count(), expected, "{description}");
        for policy in objects.iter().filter(|object| object["kind"] == "NetworkPolicy") {
            let ingress = policy["spec"]["ingress"].as_array().map_or(0, Vec::len);
            assert_eq!(ingress, expected + usize::from(health.is_some()), "{description}");
        }
    }
}

/// The object of a kind that the E2B API is reached by.
fn of_e2b<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let mut found = objects.iter().filter(|object| identity(object) == (kind, "release-sandbox-manager-e2b"));
    found.next().unwrap_or_else(|| panic!("no {kind}"))
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_e2b_api_is_reached_by_its_service_and_by_an_ingress_or_a_gateway_if_the_values_ask_for_one() {
    let (host, tls) = ("api.example.com", json!([{ "hosts": ["api.example.com"], "secretName": "api-tls" }]));
    let mut values = json!({
        "config": { "systemNamespace": "system", "e2b": { "enabled": true } },
        "networkPolicy": { "e2bFrom": [{ "namespaceSelector": {} }] },
    });
    let objects = rendered(&values);
    assert!(!objects.iter().any(|object| ["Ingress", "HTTPRoute"].contains(&identity(object).0)));
    let port =
        json!({ "name": "e2b", "port": 80, "targetPort": "e2b", "protocol": "TCP", "appProtocol": "http" });
    let service = of_e2b(&objects, "Service");
    assert_eq!(service["spec"]["ports"], json!([port]));
    assert_eq!(service["spec"]["selector"], the(&objects, "Deployment")["spec"]["selector"]["matchLabels"]);
    let rule =
        json!({ "ports": [{ "port": "e2b", "protocol": "TCP" }], "from": [{ "namespaceSelector": {} }] });
    assert_eq!(the(&objects, "NetworkPolicy")["spec"]["ingress"][2], rule);

    merge(
        &mut values,
        &json!({
            "config": { "e2b": { "tls": { "certFile": "/tls/tls.crt", "keyFile": "/tls/tls.key" } } },
            "e2b": {
                "service": { "port": 443 },
                "ingress": { "enabled": true, "className": "public", "hosts": [host], "tls": tls },
                "httpRoute": { "enabled": true, "parentRefs": [{ "name": "public" }], "hostnames": [host] },
            },
        }),
    );
    let objects = rendered(&values);
    let port = &of_e2b(&objects, "Service")["spec"]["ports"][0];
    assert_eq!((&port["port"], &port["appProtocol"]), (&json!(443), &json!("https")));
    let service = json!({ "name": "release-sandbox-manager-e2b", "port": { "name": "e2b" } });
    let paths = json!([{ "path": "/", "pathType": "Prefix", "backend": { "service": service } }]);
    let rules = json!([{ "host": host, "http": { "paths": paths } }]);
    let spec = json!({ "ingressClassName": "public", "tls": tls, "rules": rules });
    assert_eq!(of_e2b(&objects, "Ingress")["spec"], spec);
    let rule = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
        "backendRefs": [{ "name": "release-sandbox-manager-e2b", "port": 443 }],
        "timeouts": { "request": "60s" },
    });
    let spec = json!({ "parentRefs": [{ "name": "public" }], "hostnames": [host], "rules": [rule] });
    assert_eq!(of_e2b(&objects, "HTTPRoute")["spec"], spec);
}

/// Nobody but the process itself reaches a loopback address.
#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn an_e2b_api_on_loopback_has_no_service() {
    for address in ["127.0.0.1:8082", "localhost:8082", "[::1]:8082"] {
        let e2b = json!({ "enabled": true, "auth": "none", "bindAddress": address });
        let objects = rendered(&json!({ "config": { "e2b": e2b } }));
        let services = objects.iter().filter(|object| object["kind"] == "Service");
        assert_eq!(services.count(), 1, "{address}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn requests_to_runtimes_may_leave_the_pod_if_claims_or_resumes_send_them() {
    let to_runtimes = |config: Value| {
        let mut values = json!({ "networkPolicy": { "egress": { "enabled": true } } });
        merge(&mut values, &json!({ "config": config }));
        let objects = rendered(&values);
        let rules = the(&objects, "NetworkPolicy")["spec"]["egress"].as_array().unwrap().clone();
        rules.into_iter().find(|rule| rule["ports"][0]["port"] == 49983).map(|rule| rule["to"].clone())
    };
    let enabled = json!({ "systemNamespace": "system", "e2b": { "enabled": true } });
    assert_eq!(to_runtimes(json!({})), None);
    assert_eq!(to_runtimes(enabled.clone()), Some(json!([{ "namespaceSelector": {} }])));
    let mut one = enabled.clone();
    merge(&mut one, &json!({ "sandboxNamespace": "team-a" }));
    let labels = json!({ "kubernetes.io/metadata.name": "team-a" });
    assert_eq!(to_runtimes(one), Some(json!([{ "namespaceSelector": { "matchLabels": labels } }])));
    let mut off = enabled;
    merge(&mut off, &json!({ "e2b": { "initRuntime": false } }));
    assert!(to_runtimes(off).is_some(), "for a resume of what others have claimed");
    let mut of_claims = json!({ "lifecycle": { "enabled": true }, "leaderElection": { "enabled": true } });
    assert!(to_runtimes(of_claims.clone()).is_some());
    merge(&mut of_claims, &json!({ "lifecycle": { "initRuntime": false } }));
    assert_eq!(to_runtimes(of_claims), None);
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_binary_reads_from_the_config_map_what_the_values_say() {
    for (description, values) in matrix() {
        let objects = rendered(&values);
        let configs = objects.iter().filter(|object| identity(object).1.ends_with("-config"));
        let [config] = <[&Value; 1]>::try_from(configs.collect::<Vec<_>>()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command.args(["config", "--config", "/dev/stdin"]).env_clear();
        let output = run(&mut command, config["data"]["config.yaml"].as_str().unwrap());
        let mut read: Value = serde_yaml::from_str(&printed(&output).unwrap()).unwrap();
        read.as_object_mut().unwrap().retain(|field, _| field != "apiVersion" && field != "kind");
        let mut expected = SandboxManagerOptions::default().to_json();
        merge(&mut expected, &values["config"]);
        assert_eq!(read, expected, "{description}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_pod_restarts_when_the_configuration_changes_and_only_then() {
    let checksum = |values: Value| {
        let objects = rendered(&values);
        let annotations = the(&objects, "Deployment").pointer("/spec/template/metadata/annotations").unwrap();
        annotations["checksum/config"].as_str().unwrap().to_owned()
    };
    let first = checksum(json!({}));
    assert_eq!(checksum(json!({ "replicas": 2, "serviceMonitor": { "enabled": true } })), first);
    for changed in [
        json!({ "sandboxNamespace": "a" }),
        json!({ "log": { "level": "debug" } }),
        json!({ "cache": { "pageSize": 501 } }),
    ] {
        assert_ne!(checksum(json!({ "config": changed })), first);
    }
    // Nobody's annotation takes its place.
    let foreign = json!({ "podAnnotations": { "checksum/config": "fixed", "example.com/a": "b" } });
    assert_eq!(checksum(foreign), first);
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_pod_may_take_ten_seconds_more_than_its_handlers() {
    for (period, seconds) in [
        ("30s", 40),
        ("0s", 10),
        ("0", 10),
        ("500ms", 11),
        ("1.5s", 12),
        ("1h30m", 5410),
        ("1m.5s", 71),
        ("1us", 11),
    ] {
        let objects = rendered(&json!({ "config": { "shutdown": { "gracePeriod": period } } }));
        let given = the(&objects, "Deployment").pointer("/spec/template/spec/terminationGracePeriodSeconds");
        assert_eq!(given, Some(&json!(seconds)), "{period}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn the_pod_is_confined() {
    for (description, values) in matrix() {
        let objects = rendered(&values);
        let pod = the(&objects, "Deployment").pointer("/spec/template/spec").unwrap();
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{description}");
        assert_eq!(
            pod["securityContext"]["seccompProfile"],
            json!({ "type": "RuntimeDefault" }),
            "{description}"
        );
        assert_eq!(
            pod["containers"][0]["securityContext"],
            json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "privileged": false,
                    "readOnlyRootFilesystem": true }),
            "{description}"
        );
        for (part, quantity) in
            [("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory")]
        {
            assert!(
                pod["containers"][0]["resources"][part][quantity].is_string(),
                "{part} {quantity}: {description}"
            );
        }
        for account in objects.iter().filter(|object| object["kind"] == "ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{description}");
        }
        let volumes = pod["volumes"].as_array().unwrap();
        let names: Vec<_> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        assert_eq!(names[0], "config", "{description}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn releases_of_one_name_in_two_namespaces_share_no_object_of_the_cluster() {
    let of_cluster = |namespace: &str| {
        let objects = Helm::offline(namespace).template("sandbox-manager", &json!({})).unwrap();
        let roles = objects.iter().filter(|object| identity(object).0.starts_with("ClusterRole"));
        roles.map(|role| identity(role).1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of_cluster("sandbox-manager"), ["sandbox-manager", "sandbox-manager"]);
    assert_eq!(of_cluster("other"), ["other-sandbox-manager", "other-sandbox-manager"]);
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn y5_a_release_for_one_namespace_needs_no_permission_in_the_cluster() {
    let mut values = json!({ "config": { "sandboxNamespace": "team-a", "systemNamespace": "team-a" } });
    let objects = rendered(&values);
    assert!(!objects.iter().any(|object| identity(object).0.starts_with("ClusterRole")), "{objects:?}");
    merge(&mut values, &json!({ "config": { "e2b": { "enabled": true } } }));
    let objects = rendered(&values);
    assert!(!objects.iter().any(|object| identity(object).0.starts_with("ClusterRole")), "{objects:?}");
    let volumes =
        json!({ "config": { "sandboxNamespace": "team-a", "cache": { "persistentVolumes": true } } });
    let objects = rendered(&volumes);
    assert!(objects.iter().any(|object| identity(object).0 == "ClusterRole"), "volumes have no namespace");
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn images_are_named_by_registry_tag_and_digest() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    for (image, expected) in [
        (json!({}), format!("{REGISTRY}/sandbox-manager:{}", env!("CARGO_PKG_VERSION"))),
        (
            json!({ "registry": "registry.example.com:5000", "repository": "team/manager", "tag": "v1" }),
            "registry.example.com:5000/team/manager:v1".to_owned(),
        ),
        (json!({ "tag": "v1", "digest": digest }), format!("{REGISTRY}/sandbox-manager:v1@{digest}")),
        (json!({ "registry": "", "repository": "library/a", "tag": "v1" }), "library/a:v1".to_owned()),
    ] {
        let objects = rendered(&json!({ "image": image }));
        assert_eq!(manager(&objects)["image"], json!(expected));
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_names_that_look_like_numbers_stay_texts() {
    let values = json!({
        "nameOverride": "7", "fullnameOverride": "123", "priorityClassName": "9", "commonLabels": { "a": "1" },
        "podLabels": { "b": "2" }, "serviceAccount": { "create": true, "name": "8" },
        "config": { "sandboxNamespace": "5", "systemNamespace": "6", "leaderElection": { "enabled": true },
                    "e2b": { "enabled": true } },
        "e2b": { "ingress": { "enabled": true, "className": "4", "hosts": ["3"] },
                 "httpRoute": { "enabled": true, "parentRefs": [{ "name": "2", "namespace": "1" }], "hostnames": ["0"] } },
        "serviceMonitor": { "enabled": true }, "podDisruptionBudget": { "enabled": true },
        "prometheusRule": { "enabled": true }, "grafanaDashboard": { "enabled": true },
    });
    let helm = Helm::offline("456");
    let objects = helm.template("123", &values).unwrap();
    for object in &objects {
        let metadata = object["metadata"].as_object().unwrap();
        for field in ["name", "namespace"] {
            assert!(metadata.get(field).is_none_or(Value::is_string), "{object}");
        }
        let labels = metadata["labels"].as_object().unwrap();
        assert!(labels.values().all(Value::is_string), "{labels:?}");
        assert_eq!((&labels["app.kubernetes.io/instance"], &labels["a"]), (&json!("123"), &json!("1")));
    }
    let pod = the(&objects, "Deployment").pointer("/spec/template").unwrap();
    assert_eq!(pod["metadata"]["labels"]["b"], "2");
    assert_eq!(pod["metadata"]["labels"]["a"], "1");
    assert_eq!(
        (&pod["spec"]["serviceAccountName"], &pod["spec"]["priorityClassName"]),
        (&json!("8"), &json!("9"))
    );
    let ingress = &the(&objects, "Ingress")["spec"];
    assert_eq!((&ingress["ingressClassName"], &ingress["rules"][0]["host"]), (&json!("4"), &json!("3")));
    let route = &the(&objects, "HTTPRoute")["spec"];
    assert_eq!(route["parentRefs"], json!([{ "name": "2", "namespace": "1" }]));
    assert_eq!(route["hostnames"], json!(["0"]));
}

/// Every section of the values, and sections of the options.
const SECTIONS: [&str; 27] = [
    "config",
    "config.metrics",
    "config.health",
    "config.controllers",
    "config.controllers.sandbox",
    "config.leaderElection",
    "config.lifecycle",
    "config.e2b",
    "e2b",
    "e2b.service",
    "e2b.ingress",
    "e2b.httpRoute",
    "config.shutdown",
    "config.shutdown.gracePeriod",
    "serviceAccount",
    "rbac",
    "resources",
    "podSecurityContext",
    "probes",
    "service",
    "serviceMonitor",
    "prometheusRule",
    "grafanaDashboard",
    "podDisruptionBudget",
    "networkPolicy",
    "strategy",
    "replicas",
];

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_an_empty_section_stands_for_its_defaults() {
    let kinds =
        |objects: &[Value]| objects.iter().map(|object| identity(object).0.to_owned()).collect::<Vec<_>>();
    let default = rendered(&json!({}));
    for section in SECTIONS {
        let values = section.rsplit('.').fold(Value::Null, |inner, name| json!({ name: inner }));
        let objects = rendered(&values);
        assert_eq!(kinds(&objects), kinds(&default), "{section}");
        let (deployment, expected) = (the(&objects, "Deployment"), the(&default, "Deployment"));
        for field in [
            "/spec/replicas",
            "/spec/template/spec/terminationGracePeriodSeconds",
            "/spec/template/spec/containers/0/ports",
            "/spec/template/spec/serviceAccountName",
        ] {
            assert_eq!(deployment.pointer(field), expected.pointer(field), "{section} {field}");
        }
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_a_parent_chart_can_turn_the_chart_on_and_off() {
    let parent = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(parent.path().join(path), text).unwrap();
    write(
        "Chart.yaml",
        "apiVersion: v2\nname: parent\nversion: 1.0.0\ndependencies:\n  - name: sandbox-manager\n    version: 0.x\n    \
         condition: sandbox-manager.enabled\n",
    );
    std::fs::create_dir(parent.path().join("charts")).unwrap();
    std::os::unix::fs::symlink(Helm::chart(), parent.path().join("charts/sandbox-manager")).unwrap();
    let helm = Helm::offline("operators");
    for (enabled, expected) in [(true, true), (false, false)] {
        let values = json!({ "sandbox-manager": {
            "enabled": enabled, "image": { "registry": REGISTRY }, "config": { "metrics": null } } });
        let arguments = ["template", "release", parent.path().to_str().unwrap(), "--values", "-"];
        let text = helm.run(&arguments, &values).unwrap();
        let deployments =
            super::documents(&text).iter().filter(|object| object["kind"] == "Deployment").count();
        assert_eq!(deployments == 1, expected, "{text}");
    }
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_everything_that_a_pod_may_need_can_be_added() {
    let objects = rendered(&read_yaml("tests/chart/values/everything.yaml"));
    let deployment = the(&objects, "Deployment");
    let pod = deployment.pointer("/spec/template/spec").unwrap();
    let container = manager(&objects);
    assert_eq!(container["args"], json!(["--config=/etc/sandbox-manager/config.yaml", "--log-level=debug"]));
    assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "extra");
    assert_eq!(container["lifecycle"], json!({ "preStop": { "sleep": { "seconds": 1 } } }));
    assert_eq!(container["volumeMounts"][1], json!({ "name": "scratch", "mountPath": "/scratch" }));
    assert_eq!(pod["volumes"][1], json!({ "name": "scratch", "emptyDir": {} }));
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "50%", "maxUnavailable": 1 } })
    );
    let recreate = rendered(&json!({ "strategy": { "type": "Recreate" } }));
    assert_eq!(the(&recreate, "Deployment")["spec"]["strategy"], json!({ "type": "Recreate" }));
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_a_spread_without_a_selector_is_for_the_pods_of_the_release() {
    let spread = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" });
    let values = json!({ "topologySpreadConstraints": [spread], "podLabels": { "team": "a" } });
    let objects = rendered(&values);
    let deployment = the(&objects, "Deployment");
    let selector =
        deployment.pointer("/spec/template/spec/topologySpreadConstraints/0/labelSelector").unwrap();
    assert_eq!(*selector, deployment["spec"]["selector"]);
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn z2_helm_test_reads_the_metrics_through_the_service_and_no_selector_takes_its_pod_for_a_manager() {
    let values = json!({ "service": { "port": 80 }, "networkPolicy": {
        "metricsFrom": [{ "podSelector": { "matchLabels": { "a": "b" } } }] } });
    let objects = rendered(&values);
    let pod = the(&objects, "Pod");
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let args = &pod["spec"]["containers"][0]["args"];
    assert_eq!(*args, json!(["probe", "http://release-sandbox-manager.operators:80/metrics"]));
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let selector = the(&objects, "Deployment")["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(selector.iter().any(|(key, value)| labels[key] != *value), "{labels:?}");
    let peers = the(&objects, "NetworkPolicy").pointer("/spec/ingress/0/from").unwrap().as_array().unwrap();
    let lets_in = |peer: &Value| {
        let wanted = peer.pointer("/podSelector/matchLabels").and_then(Value::as_object);
        wanted.is_some_and(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    };
    assert!(peers.iter().any(lets_in), "{peers:?}");
    let silent = rendered(&json!({ "config": { "metrics": { "bindAddress": "0" } } }));
    assert!(!silent.iter().any(|object| object["kind"] == "Pod"), "there is nothing to read");
}
