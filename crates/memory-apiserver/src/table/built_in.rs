//! The columns and cells of the built-in kinds, as in kube-apiserver.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::cells::{Rows, created, list, or, text, text_or};
use super::column::Column;
use super::{events, pods};
use crate::object::{self, meta_text};

/// The columns and rows of a kind. Kinds without a printer here have name and time of creation.
pub(super) fn printer(group: &str, kind: &str) -> (Vec<Column>, Rows) {
    let plain = |cells| Rows { cells, conditions: |_| None };
    match (group, kind) {
        ("", "Namespace") => (columns(&[status("The status of the namespace.")]), plain(namespace)),
        ("", "ConfigMap") => (columns(&[data()]), plain(config_map)),
        ("", "Secret") => {
            (columns(&[Column::text("Type", "What the data are meant for."), data()]), plain(secret))
        }
        ("", "ServiceAccount") => (columns(&[]), plain(service_account)),
        ("coordination.k8s.io", "Lease") => (columns(&[Column::text("Holder", "Who has it.")]), plain(lease)),
        ("", "Node") => (node_columns(), plain(node)),
        ("", "Service") => (service_columns(), plain(service)),
        ("", "Pod") => (pods::columns(), Rows { cells: pods::cells, conditions: pods::row_conditions }),
        ("" | "events.k8s.io", "Event") => (events::columns(), plain(events::cells)),
        _ => (default_columns(), plain(default_cells)),
    }
}

/// The name, then these, then the age.
fn columns(between: &[Column]) -> Vec<Column> {
    [&[Column::name()], between, &[Column::age()]].concat()
}

fn status(description: &'static str) -> Column {
    Column::text("Status", description)
}

fn data() -> Column {
    Column::text("Data", "How many entries it has.")
}

/// The name, then these, then the age.
fn row<const N: usize>(object: &Value, now: Timestamp, between: [Value; N]) -> Vec<Value> {
    let mut cells = vec![json!(object::name(object))];
    cells.extend(between);
    cells.push(created(object, now));
    cells
}

fn size(object: &Value, field: &str) -> usize {
    object[field].as_object().map_or(0, Map::len)
}

fn default_columns() -> Vec<Column> {
    let created = Column::text("Created At", "When the object was created.");
    vec![Column::name(), Column { kind: "date".into(), ..created }]
}

fn default_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    let created = or(meta_text(object, "creationTimestamp"), "0001-01-01T00:00:00Z");
    vec![json!(object::name(object)), json!(created)]
}

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    row(object, now, [json!(text(object, "/status/phase"))])
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    row(object, now, [json!(size(object, "data") + size(object, "binaryData"))])
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    row(object, now, [json!(text(object, "/type")), json!(size(object, "data"))])
}

fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    row(object, now, [])
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    row(object, now, [json!(text(object, "/spec/holderIdentity"))])
}

fn node_columns() -> Vec<Column> {
    let mut columns = columns(&[
        status("Whether the node is ready, and whether pods may be scheduled to it."),
        Column::text("Roles", "The roles that the node's labels say."),
    ]);
    columns.extend([
        Column::text("Version", "The version of the kubelet."),
        Column::wide("Internal-IP", "The address inside the cluster."),
        Column::wide("External-IP", "The address from outside."),
        Column::wide("OS-Image", "The operating system."),
        Column::wide("Kernel-Version", "The version of the kernel."),
        Column::wide("Container-Runtime", "The version of what runs the containers."),
    ]);
    columns
}

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(node, "/status/conditions").iter().rfind(|condition| condition["type"] == "Ready");
    let mut status = match ready {
        None => "Unknown",
        Some(condition) if condition["status"] == "True" => "Ready",
        Some(_) => "NotReady",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status += ",SchedulingDisabled";
    }
    let roles = roles(node).join(",");
    let mut cells = row(node, now, [json!(status), json!(or(&roles, "<none>"))]);
    let address = |kind| {
        let found = list(node, "/status/addresses").iter().find(|address| address["type"] == kind);
        json!(found.map_or("<none>", |address| text(address, "/address")))
    };
    let info = |field: &str| json!(text_or(node, &format!("/status/nodeInfo/{field}"), "<unknown>"));
    cells.extend([json!(text(node, "/status/nodeInfo/kubeletVersion")), address("InternalIP")]);
    cells.extend([
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]);
    cells
}

fn roles(node: &Value) -> Vec<&str> {
    let labels = node["metadata"]["labels"].as_object();
    let mut roles: Vec<_> = labels
        .into_iter()
        .flatten()
        .filter_map(|(label, value)| match label.strip_prefix("node-role.kubernetes.io/") {
            None if label == "kubernetes.io/role" => value.as_str(),
            role => role,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn service_columns() -> Vec<Column> {
    let mut columns = columns(&[
        Column::text("Type", "How the service is reached."),
        Column::text("Cluster-IP", "The address inside the cluster."),
        Column::text("External-IP", "The addresses from outside."),
        Column::text("Port(s)", "The ports, with those of the nodes."),
    ]);
    columns.push(Column::wide("Selector", "The labels of the pods behind the service."));
    columns
}

fn service(service: &Value, now: Timestamp) -> Vec<Value> {
    let address = match list(service, "/spec/clusterIPs") {
        [first, ..] => first.as_str().unwrap_or_default(),
        [] => text_or(service, "/spec/clusterIP", "<none>"),
    };
    let ports: Vec<_> = list(service, "/spec/ports").iter().map(port).collect();
    let between = [
        json!(text(service, "/spec/type")),
        json!(address),
        json!(external_addresses(service)),
        json!(or(&ports.join(","), "<none>")),
    ];
    let mut cells = row(service, now, between);
    let selector: Vec<_> = service["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
        .collect();
    cells.push(json!(or(&selector.join(","), "<none>")));
    cells
}

fn port(port: &Value) -> String {
    let protocol = text_or(port, "/protocol", "TCP");
    match port["nodePort"].as_i64().filter(|node_port| *node_port > 0) {
        Some(node_port) => format!("{}:{node_port}/{protocol}", port["port"]),
        None => format!("{}/{protocol}", port["port"]),
    }
}

fn external_addresses(service: &Value) -> String {
    let own = list(service, "/spec/externalIPs").iter().filter_map(Value::as_str);
    let (mut addresses, none) = match text(service, "/spec/type") {
        "ClusterIP" | "NodePort" => (Vec::new(), "<none>"),
        "LoadBalancer" => (load_balancer_addresses(service), "<pending>"),
        "ExternalName" => return text(service, "/spec/externalName").to_owned(),
        _ => return "<unknown>".to_owned(),
    };
    addresses.extend(own);
    if addresses.is_empty() { none.to_owned() } else { addresses.join(",") }
}

fn load_balancer_addresses(service: &Value) -> Vec<&str> {
    let ingress = list(service, "/status/loadBalancer/ingress").iter();
    let address = |ingress| match text(ingress, "/ip") {
        "" => text(ingress, "/hostname"),
        ip => ip,
    };
    let mut addresses: Vec<_> = ingress.map(address).filter(|address| !address.is_empty()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
