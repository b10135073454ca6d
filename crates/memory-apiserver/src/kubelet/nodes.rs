//! The nodes of a kubelet: their objects, and the addresses of the Pods on them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::course::Node;
use super::status::Addresses;
use crate::clock::whole_seconds;
use crate::lifecycle;
use crate::object;
use crate::state::ServerState;
use crate::store::Key;

/// Where Nodes are kept.
const NODES: &str = "nodes";

/// The first address of Pods, in a range that few tests use for their own: it has four million addresses.
const FIRST_POD: u32 = u32::from_be_bytes([100, 64, 0, 1]);
const POD_ADDRESSES: u32 = (1 << 22) - 2;

/// The first address of nodes.
const FIRST_NODE: u32 = u32::from_be_bytes([192, 168, 0, 1]);

/// The nodes of a kubelet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nodes<'a> {
    pub(super) names: &'a [String],
    /// Those that are silent.
    pub(super) stopped: &'a BTreeSet<String>,
}

impl Nodes<'_> {
    /// The node that takes the Pod of this number, if one works.
    pub(super) fn free(&self, number: u32) -> Option<&str> {
        let working = || self.names.iter().filter(|name| !self.stopped.contains(*name));
        let turn = usize::try_from(number).unwrap_or_default().checked_rem(working().count())?;
        working().nth(turn).map(String::as_str)
    }

    /// The state of the node of a Pod, and its position.
    pub(super) fn of(&self, pod: &Value) -> (Node, usize) {
        let is = |name: &String| pod["spec"]["nodeName"] == name.as_str();
        match self.names.iter().position(is) {
            None => (Node::Foreign, 0),
            Some(position) if self.stopped.contains(&self.names[position]) => (Node::Silent, position),
            Some(position) => (Node::Works, position),
        }
    }

    /// Shows the state of each node in its object, if that is still there.
    pub(super) fn show(&self, state: &ServerState) {
        for name in self.names {
            let key = Key::new("", name);
            let works = !self.stopped.contains(name);
            while let Some(stored) = state.store.get(NODES, &key) {
                let mut node = stored.value();
                set_ready(&mut node, works, state.clock.now());
                if node == stored.value() || lifecycle::put(state, &NODES.into(), &stored, node) {
                    break;
                }
            }
        }
    }

    /// The objects of the nodes.
    pub(super) fn objects(&self, now: Timestamp) -> impl Iterator<Item = Value> {
        self.names.iter().enumerate().map(move |(position, name)| object(name, position, now))
    }
}

/// The addresses of the Pod of this number on the node of this position. A given address of the Pod replaces its own.
pub(super) fn addresses(node: usize, pod: u32, given: Option<IpAddr>) -> Addresses {
    let pod = given.unwrap_or_else(|| Ipv4Addr::from(FIRST_POD + pod % POD_ADDRESSES).into());
    Addresses { pod: pod.to_string(), host: host(node) }
}

fn host(node: usize) -> String {
    Ipv4Addr::from(FIRST_NODE + u32::try_from(node).unwrap_or_default()).to_string()
}

/// The Node of this name at this position.
fn object(name: &str, position: usize, now: Timestamp) -> Value {
    let resources = json!({"cpu": "1k", "memory": "1Ti", "ephemeral-storage": "1Ti", "pods": "1M"});
    let version = concat!("memory-apiserver/", env!("CARGO_PKG_VERSION"));
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        }},
        "spec": {},
        "status": {
            "capacity": resources, "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": host(position)}, {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": "amd64", "operatingSystem": "linux", "kubeletVersion": version,
                "bootID": "", "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
                "containerRuntimeVersion": "", "kubeProxyVersion": "",
            },
        },
    });
    set_ready(&mut node, true, now);
    node
}

/// Marks a Node as ready, or as silent.
fn set_ready(node: &mut Value, works: bool, now: Timestamp) {
    let (status, reason, message) = if works {
        ("True", "KubeletReady", "kubelet is posting ready status")
    } else {
        ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    };
    let conditions = &node["status"]["conditions"];
    let found = conditions.as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    if found.is_some_and(|condition| condition["status"] == status) {
        return;
    }
    let time = whole_seconds(now);
    node["status"]["conditions"] = json!([{
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": time, "lastTransitionTime": time,
    }]);
    let spec = object::child_mut(node, "spec");
    if works {
        spec.remove("taints");
    } else {
        let taint = |effect: &str| json!({"key": "node.kubernetes.io/unreachable", "effect": effect, "timeAdded": time});
        spec.insert("taints".to_owned(), json!([taint("NoSchedule"), taint("NoExecute")]));
    }
}
