//! [`Kubelet`]: the settings of a kubelet, and the rules that a test gives it while it runs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use super::nodes::Nodes;
use super::outcome::PodOutcome;
use super::pods::Pods;

/// Runs the Pods of a server: see [`ApiServerBuilder::kubelet`](crate::ApiServerBuilder::kubelet).
///
/// A Pod gets a node and an IP address of its own, and becomes Running and Ready. A Pod that is deleted ends within its
/// grace period: its containers end, then it is removed. Cheap to clone: rules that are given to one clone hold for
/// all.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use k8s_openapi::api::core::v1::Pod;
/// use kube::Api;
/// use kube::api::PostParams;
/// use kube::runtime::wait::{await_condition, conditions::is_pod_running};
/// use memory_apiserver::{ApiServer, Kubelet, PodOutcome, Pods};
/// use serde_json::json;
///
/// let kubelet = Kubelet::ready_after(Duration::from_secs(2));
/// let server = ApiServer::builder().kubelet(&kubelet).start()?;
/// kubelet.rule(Pods::labelled("app", "broken"), PodOutcome::failed("out of luck"));
///
/// let pods: Api<Pod> = Api::default_namespaced(server.client());
/// for (name, app) in [("a", "web"), ("b", "broken")] {
///     let pod = json!({
///         "metadata": {"name": name, "labels": {"app": app}},
///         "spec": {"containers": [{"name": "c", "image": "i"}]},
///     });
///     pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
/// }
/// await_condition(pods.clone(), "a", is_pod_running()).await?;
///
/// let failed = pods.get("b").await?.status.expect("a status");
/// assert_eq!(failed.phase.as_deref(), Some("Failed"));
/// assert_eq!(failed.message.as_deref(), Some("out of luck"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Kubelet {
    pub(super) settings: Settings,
    control: Arc<Control>,
}

/// The settings that do not change while the kubelet runs.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// How long after its creation a Pod reaches its outcome.
    pub(super) delay: Duration,
    /// How long the containers of a deleted Pod take to end.
    pub(super) ending: Duration,
    pub(super) nodes: Vec<String>,
    /// The address of all Pods, instead of one for each.
    pub(super) pod_address: Option<IpAddr>,
}

#[derive(Debug)]
struct Control {
    orders: Mutex<Orders>,
    /// Changes with each order.
    changed: watch::Sender<u64>,
}

/// What a test told the kubelet so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    rules: Vec<(Pods, PodOutcome)>,
    pub(super) stopped: BTreeSet<String>,
    /// The restarts so far, in their order.
    pub(super) restarts: Vec<Pods>,
}

impl Orders {
    /// The outcome of a Pod by the latest rule for it.
    pub(super) fn outcome(&self, pod: &Value) -> Option<&PodOutcome> {
        self.rules.iter().rev().find(|(pods, _)| pods.selects(pod)).map(|(_, outcome)| outcome)
    }
}

impl Kubelet {
    /// A kubelet on one node, `node-1`, with which a Pod is ready this long after it was created.
    #[must_use]
    pub fn ready_after(delay: Duration) -> Self {
        let nodes = vec!["node-1".to_owned()];
        let settings = Settings { delay, ending: Duration::ZERO, nodes, pod_address: None };
        let control = Control { orders: Mutex::default(), changed: watch::Sender::new(0) };
        Self { settings, control: Arc::new(control) }
    }

    /// Runs nodes of these names instead, which take Pods in turn. Without a node, no Pod is scheduled.
    #[must_use]
    pub fn nodes<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.settings.nodes = names.into_iter().map(Into::into).collect();
        self
    }

    /// Lets the containers of a deleted Pod take this long to end, but no longer than the grace period of the Pod.
    /// Without this they end at once.
    #[must_use]
    pub fn ending_after(mut self, ending: Duration) -> Self {
        self.settings.ending = ending;
        self
    }

    /// Gives all Pods this address, instead of one for each: that of a program which stands in for theirs.
    #[must_use]
    pub fn pod_address(mut self, address: IpAddr) -> Self {
        self.settings.pod_address = Some(address);
        self
    }

    /// Gives these Pods an outcome: those that exist, and those that are created later. Of several rules for a Pod, the
    /// latest holds. A Pod that has existed for longer than the kubelet's delay changes at once.
    pub fn rule(&self, pods: Pods, outcome: PodOutcome) {
        self.order(|orders| orders.rules.push((pods, outcome)));
    }

    /// Removes all rules. Pods that have not ended become ready.
    pub fn clear_rules(&self) {
        self.order(|orders| orders.rules.clear());
    }

    /// Restarts the containers of these Pods once, if they run now. They are ready again after the kubelet's delay.
    pub fn restart(&self, pods: Pods) {
        self.order(|orders| orders.restarts.push(pods));
    }

    /// Lets a node become silent. The node and its Pods are no longer ready, deleted Pods stay, and new Pods get
    /// another node, or none. The server does not evict the Pods.
    pub fn stop_node(&self, name: &str) {
        self.order(|orders| {
            orders.stopped.insert(name.to_owned());
        });
    }

    /// Lets a node work again that [`Self::stop_node`] stopped.
    pub fn start_node(&self, name: &str) {
        self.order(|orders| {
            orders.stopped.remove(name);
        });
    }

    /// The objects of its nodes.
    pub(crate) fn node_objects(&self, now: Timestamp) -> Vec<Value> {
        let stopped = self.orders().stopped;
        Nodes { names: &self.settings.nodes, stopped: &stopped }.objects(now).collect()
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.control.orders.lock());
        self.control.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn orders(&self) -> Orders {
        self.control.orders.lock().clone()
    }

    /// Changes with each order.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.control.changed.subscribe()
    }
}
