//! Services: their ports and addresses.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::rules::{items, one_of, port_number, text};
use super::{default_in, items_mut};
use crate::error::{FieldError, Problem};
use crate::names::{NameRule, invalid};
use crate::object::child_mut;

/// The network of the addresses of Services.
const CLUSTER_ADDRESSES: &str = "10.96";

/// The address of the Service of the API server.
pub(crate) const FIRST_ADDRESS: &str = "10.96.0.1";

/// The fields that keep their values if an update leaves them out.
const KEPT: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

const EXTERNAL_NAME: &str = "ExternalName";

fn kind(service: &Value) -> &str {
    text(&service["spec"], "type")
}

fn is_headless(service: &Value) -> bool {
    service["spec"]["clusterIP"] == "None"
}

pub(super) fn default(service: &mut Value) {
    default_in(service, "spec", "type", json!("ClusterIP"));
    default_in(service, "spec", "sessionAffinity", json!("None"));
    for port in items_mut(service, "/spec/ports").filter_map(Value::as_object_mut) {
        let number = port.get("port").cloned().unwrap_or_default();
        port.entry("protocol").or_insert_with(|| json!("TCP"));
        port.entry("targetPort").or_insert(number);
    }
    match kind(service) {
        EXTERNAL_NAME => return,
        "LoadBalancer" => {
            default_in(service, "spec", "allocateLoadBalancerNodePorts", json!(true));
            default_in(service, "spec", "externalTrafficPolicy", json!("Cluster"));
        }
        "NodePort" => default_in(service, "spec", "externalTrafficPolicy", json!("Cluster")),
        _ => {}
    }
    default_in(service, "spec", "internalTrafficPolicy", json!("Cluster"));
}

/// Assigns addresses and ports, or keeps those of the live Service.
pub(super) fn prepare(service: &mut Value, live: Option<&Value>, _: Timestamp) {
    default_in(service, "status", "loadBalancer", json!({}));
    if kind(service) == EXTERNAL_NAME {
        return;
    }
    let live = live.filter(|live| kind(live) != EXTERNAL_NAME);
    let spec = child_mut(service, "spec");
    if spec.get("clusterIP").is_some_and(|address| address == "") {
        spec.remove("clusterIP");
    }
    if let Some(live) = live {
        keep(child_mut(service, "spec"), &live["spec"]);
    }
    default_in(service, "spec", "clusterIP", json!(cluster_address()));
    let address = service["spec"]["clusterIP"].clone();
    default_in(service, "spec", "clusterIPs", json!([address]));
    default_in(service, "spec", "ipFamilies", json!(["IPv4"]));
    default_in(service, "spec", "ipFamilyPolicy", json!("SingleStack"));
    if matches!(kind(service), "NodePort" | "LoadBalancer") {
        give_node_ports(service, live);
    }
}

fn keep(spec: &mut Map<String, Value>, live: &Value) {
    for field in KEPT {
        let is_empty = spec.get(field).is_none_or(|value| value.is_null() || value == "");
        if is_empty && !live[field].is_null() {
            spec.insert(field.to_owned(), live[field].clone());
        }
    }
}

fn give_node_ports(service: &mut Value, live: Option<&Value>) {
    let known = live.map(|live| live["spec"]["ports"].clone()).unwrap_or_default();
    for port in items_mut(service, "/spec/ports").filter_map(Value::as_object_mut) {
        let is_same = |known: &&Value| {
            Some(&known["port"]) == port.get("port") && Some(&known["protocol"]) == port.get("protocol")
        };
        let before = items(&known).iter().find(is_same).map(|known| known["nodePort"].clone());
        let number = before.filter(|port| !port.is_null());
        // Nothing listens there, as with addresses.
        port.entry("nodePort")
            .or_insert_with(|| number.unwrap_or_else(|| json!(rand::random_range(30000..32768))));
    }
}

/// A random address. Nothing listens there, so two Services may get the same.
fn cluster_address() -> String {
    let [a, b] = rand::random::<[u8; 2]>();
    format!("{CLUSTER_ADDRESSES}.{}.{}", a.max(1), b.clamp(1, 254))
}

pub(super) fn validate(service: &Value, live: Option<&Value>) -> Vec<FieldError> {
    let spec = &service["spec"];
    let mut errors = Vec::new();
    let kinds = ["ClusterIP", EXTERNAL_NAME, "LoadBalancer", "NodePort"];
    one_of("spec.type", &spec["type"], &kinds, &mut errors);
    one_of("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"], &mut errors);
    if kind(service) == EXTERNAL_NAME {
        validate_external(spec, &mut errors);
    } else {
        validate_addresses(spec, live.map(|live| &live["spec"]), &mut errors);
    }
    let ports = items(&spec["ports"]);
    if ports.is_empty() && !is_headless(service) && kind(service) != EXTERNAL_NAME {
        errors.push(FieldError::required("spec.ports", ""));
    }
    validate_ports(ports, &mut errors);
    errors
}

fn validate_external(spec: &Value, errors: &mut Vec<FieldError>) {
    let name = text(spec, "externalName");
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else {
        let bare = name.strip_suffix('.').unwrap_or(name);
        errors.extend(invalid("spec.externalName", name, NameRule::Subdomain.problems(bare)));
    }
    if !text(spec, "clusterIP").is_empty() {
        let why = "may not be set when `type` is 'ExternalName'";
        errors.push(FieldError::forbidden("spec.clusterIP", why));
    }
}

fn validate_addresses(spec: &Value, live: Option<&Value>, errors: &mut Vec<FieldError>) {
    for (position, address) in items(&spec["clusterIPs"]).iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        if address != "None" && address.parse::<std::net::IpAddr>().is_err() {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            errors.extend(invalid(format!("spec.clusterIPs[{position}]"), address, [why]));
        }
    }
    let first = &spec["clusterIPs"][0];
    if *first != spec["clusterIP"] {
        let why = "first value must match `clusterIP`";
        errors.push(FieldError::invalid("spec.clusterIPs", spec["clusterIPs"].clone(), why));
    }
    let before = live.map(|live| &live["clusterIPs"][0]).filter(|before| before.is_string());
    if before.is_some_and(|before| before != first) {
        let why = "may not change once set";
        errors.push(FieldError::invalid("spec.clusterIPs[0]", spec["clusterIPs"].clone(), why));
    }
}

fn validate_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let (mut names, mut numbers) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for (position, port) in ports.iter().enumerate() {
        let path = format!("spec.ports[{position}]");
        let (name, of_name) = (text(port, "name"), format!("{path}.name"));
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(of_name, ""));
        } else if !name.is_empty() {
            errors.extend(invalid(&of_name, name, NameRule::Label.problems(name)));
            if !names.insert(name) {
                errors.push(FieldError::new(of_name, Problem::Duplicate(json!(name))));
            }
        }
        port_number(&format!("{path}.port"), &port["port"], errors);
        one_of(&format!("{path}.protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"], errors);
        if port["targetPort"].is_number() {
            port_number(&format!("{path}.targetPort"), &port["targetPort"], errors);
        }
        if !numbers.insert((port["port"].to_string(), text(port, "protocol"))) {
            let same = json!({"port": port["port"], "protocol": port["protocol"]});
            errors.push(FieldError::new(path, Problem::Duplicate(same)));
        }
    }
}
