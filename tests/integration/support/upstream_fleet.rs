//! [`UpstreamFleet`]: many sets of OpenKruise Agents with everything that belongs to them, made from
//! `tests/data/upstream-objects.jsonl`.
//!
//! Each object is a copy of a recorded one under its own name, with its own UIDs, addresses and locks. References between
//! the objects are right: owners, claims, the pod of a sandbox. Hashes are the recorded ones.
//!
//! Two things are not recorded, and made as the source of OpenKruise Agents says: the SandboxTemplate in which the revision
//! of a set is stored, and a set that refers to a SandboxTemplate.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

const RECORDED: &str = include_str!("../../data/upstream-objects.jsonl");

/// The name of the recorded set. The names of its members begin with it.
const SET: &str = "code-interpreter";

/// The name of the recorded claim.
const CLAIM: &str = "two";

/// Every set with this number modulo [`VARIANTS`] refers to a SandboxTemplate.
const REFERRING: usize = 4;
const VARIANTS: usize = 5;

/// The shares of the members in tenths; the rest is free.
const PLAN: [(&str, usize); 5] =
    [("available", 5), ("claimed", 1), ("claimed by SandboxClaim", 2), ("paused", 1), ("resumed", 1)];

/// A fleet, owners before what they own.
pub(crate) struct UpstreamFleet {
    pub(crate) objects: Vec<Value>,
    sets: usize,
    members: usize,
}

/// A recorded sandbox with its pod and its events.
struct Recorded {
    sandbox: Value,
    others: Vec<Value>,
}

impl UpstreamFleet {
    /// Makes `sets` sets in a namespace, with `members` sandboxes each, a multiple of 10. A part of them is claimed, paused
    /// and resumed.
    pub(crate) fn new(namespace: &str, sets: usize, members: usize) -> Self {
        assert!(members.is_multiple_of(10), "the shares are tenths");
        let mut maker = Maker::new(namespace);
        for number in 0..sets {
            maker.set(number, members);
        }
        maker.keys();
        Self { objects: maker.objects, sets, members }
    }

    /// The name of a set.
    pub(crate) fn set_name(number: usize) -> String {
        format!("pool-{number:02}")
    }

    /// The name under which the free members of a set are found.
    pub(crate) fn pool_name(number: usize) -> String {
        if is_referring(number) { template_name(number) } else { Self::set_name(number) }
    }

    pub(crate) fn sets(&self) -> usize {
        self.sets
    }

    /// The number of sandboxes of each kind in a set, such as `available`.
    pub(crate) fn count(&self, what: &str) -> usize {
        let share = PLAN.iter().find(|(kind, _)| *kind == what).expect("a kind of the plan").1;
        share * self.members / 10
    }

    /// The objects of a kind.
    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The plural and the group of an object's kind, as in the name of a CRD.
    pub(crate) fn resource(object: &Value) -> String {
        let resource = api_resource(object);
        let dot = if resource.group.is_empty() { "" } else { "." };
        format!("{}{dot}{}", resource.plural, resource.group)
    }

    /// Creates the objects over the API. The API server gives UIDs and generations, which are put into what refers to
    /// them. Objects outside the namespace of the fleet are left out: others may use the same server.
    pub(crate) async fn create(&self, client: &Client, namespace: &str) {
        let mut uids: BTreeMap<String, String> = BTreeMap::new();
        for object in self.objects.iter().filter(|object| object["metadata"]["namespace"] == namespace) {
            let mut object = with_uids(object, &uids);
            let status = object.as_object_mut().expect("an object").remove("status");
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            let uid = metadata.remove("uid");
            for field in ["creationTimestamp", "generation", "resourceVersion"] {
                metadata.remove(field);
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &api_resource(&object));
            let new = serde_json::from_value(object).expect("an object");
            let created = api.create(&PostParams::default(), &new).await.expect("creating an object");
            if let (Some(Value::String(old)), Some(new)) = (uid, created.metadata.uid.clone()) {
                uids.insert(old, new);
            }
            if let Some(mut status) = status {
                if status.get("observedGeneration").is_some() {
                    status["observedGeneration"] = json!(created.metadata.generation);
                }
                write_status(&api, &created, status).await;
            }
        }
        // The status of a sandbox names its pod, which is created later.
        for object in self.of_kind("Sandbox") {
            let api: Api<DynamicObject> =
                Api::namespaced_with(client.clone(), namespace, &api_resource(object));
            let info = &object["status"]["podInfo"];
            let name = object["metadata"]["name"].as_str().expect("a name");
            let patch = Patch::Merge(json!({ "status": { "podInfo": with_uids(info, &uids) } }));
            api.patch_status(name, &PatchParams::default(), &patch).await.expect("writing the status");
        }
    }
}

async fn write_status(api: &Api<DynamicObject>, created: &DynamicObject, status: Value) {
    let name = created.metadata.name.as_deref().expect("a name");
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status(name, &PatchParams::default(), &patch).await.expect("writing the status");
}

fn is_referring(number: usize) -> bool {
    number % VARIANTS == REFERRING
}

/// The name of the SandboxTemplate that a set refers to.
fn template_name(number: usize) -> String {
    format!("gold-{number:02}")
}

fn api_resource(object: &Value) -> ApiResource {
    let text = |field: &str| object[field].as_str().expect("a typed object");
    let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
    let plural = match text("kind") {
        "Sandbox" => "sandboxes".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, text("kind")), &plural)
}

/// Returns a value with other UIDs.
fn with_uids(value: &Value, uids: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => json!(uids.get(text).unwrap_or(text)),
        Value::Array(items) => items.iter().map(|item| with_uids(item, uids)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), with_uids(value, uids))).collect()
        }
        other => other.clone(),
    }
}

struct Maker {
    namespace: String,
    recorded: BTreeMap<String, Vec<Value>>,
    objects: Vec<Value>,
    /// Number of UIDs that were made.
    uids: u64,
    /// Number of sandboxes that were made.
    sandboxes: usize,
}

impl Maker {
    fn new(namespace: &str) -> Self {
        let mut recorded: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for line in RECORDED.lines() {
            let mut line: Value = serde_json::from_str(line).expect("a recorded object");
            let what = line["what"].as_str().expect("what it is").to_owned();
            recorded.entry(what).or_default().push(line["object"].take());
        }
        Self { namespace: namespace.to_owned(), recorded, objects: Vec::new(), uids: 0, sandboxes: 0 }
    }

    fn recorded(&self, what: &str, number: usize) -> Value {
        let all = &self.recorded[what];
        all[number % all.len()].clone()
    }

    fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }

    fn set(&mut self, number: usize, members: usize) {
        let name = UpstreamFleet::set_name(number);
        let mut set = self.recorded("set", 0);
        let recorded_uid = text(&set["metadata"]["uid"]);
        let uid = self.new_uid();
        let free = PLAN[0].1 * members / 10;
        set["spec"]["replicas"] = json!(free);
        for count in ["replicas", "availableReplicas", "updatedReplicas", "updatedAvailableReplicas"] {
            set["status"][count] = json!(free);
        }
        let mut set = renamed(&set, &[(&recorded_uid, &uid), (SET, &name)]);
        set["metadata"]["namespace"] = json!(self.namespace);
        let template = set["spec"]["template"].clone();
        if is_referring(number) {
            let name = template_name(number);
            set["spec"].as_object_mut().expect("a spec").remove("template");
            set["spec"]["templateRef"] = json!({ "name": name });
            set["status"]["currentRevision"] = json!(name);
            self.objects.push(set);
            self.template(&name, None, &template);
        } else {
            let revision = text(&set["status"]["currentRevision"]);
            self.objects.push(set);
            self.template(&revision, Some((&name, &uid)), &template);
        }
        let replaced = [(recorded_uid.as_str(), uid.as_str())];
        for (what, share) in PLAN {
            let count = share * members / 10;
            if what == "claimed by SandboxClaim" {
                self.claimed_by_claims(number, count);
            } else {
                for member in 0..count {
                    self.sandbox(number, what, member, &replaced);
                }
            }
        }
    }

    /// The SandboxTemplate of a revision.
    fn template(&mut self, name: &str, set: Option<(&str, &str)>, template: &Value) {
        let owner = set.map(|(name, uid)| {
            json!([{
                "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": name, "uid": uid,
                "controller": true, "blockOwnerDeletion": false,
            }])
        });
        let uid = self.new_uid();
        let mut object = json!({
            "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxTemplate",
            "metadata": {
                "name": name, "namespace": self.namespace, "uid": uid, "generation": 1,
                "creationTimestamp": "2026-11-28T20:07:34Z",
            },
            "spec": { "template": template },
        });
        if let Some(owner) = owner {
            object["metadata"]["ownerReferences"] = owner;
        }
        self.objects.push(object);
    }

    /// Claims of two sandboxes each, as recorded.
    fn claimed_by_claims(&mut self, number: usize, count: usize) {
        for claim in 0..count / 2 {
            let name = format!("{}-claim-{claim}", UpstreamFleet::set_name(number));
            let mut object = self.recorded("claim", 0);
            let recorded_uid = text(&object["metadata"]["uid"]);
            let uid = self.new_uid();
            // It is deleted an hour after it was completed.
            let now = Timestamp::from_second(Timestamp::now().as_second()).expect("now").to_string();
            for field in ["claimStartTime", "completionTime"] {
                object["status"][field] = json!(now);
            }
            let set = UpstreamFleet::set_name(number);
            let mut object = renamed(&object, &[(&recorded_uid, &uid), (SET, &set)]);
            object["metadata"]["name"] = json!(name);
            object["metadata"]["namespace"] = json!(self.namespace);
            self.objects.push(object);
            for member in 0..2 {
                let replaced = [(recorded_uid.as_str(), uid.as_str())];
                let sandbox = self.sandbox(number, "claimed by SandboxClaim", member, &replaced);
                let label = &mut self.objects[sandbox]["metadata"]["labels"]["agents.kruise.io/claim-name"];
                assert_eq!(label.as_str(), Some(CLAIM));
                *label = json!(name);
            }
        }
    }

    /// A sandbox, its pod and its events. Returns where the sandbox is.
    fn sandbox(&mut self, number: usize, what: &str, member: usize, replaced: &[(&str, &str)]) -> usize {
        let Recorded { mut sandbox, others } = self.recorded_sandbox(what, member);
        let recorded = text(&sandbox["metadata"]["name"]);
        self.sandboxes += 1;
        let (set, count) = (UpstreamFleet::set_name(number), self.sandboxes);
        let name = format!("{set}-{count:05x}");
        let address = format!("10.{}.{}.{}", 1 + count / 65_536, count / 256 % 256, count % 256);
        for timer in ["shutdownTime", "pauseTime"] {
            // The recorded ones may be over.
            if sandbox["spec"][timer].is_string() {
                sandbox["spec"][timer] = json!("2126-01-01T00:00:00Z");
            }
        }
        let recorded_address = text(&sandbox["status"]["sandboxIp"]);
        let mut names: Vec<(String, String)> = Vec::new();
        let uids = std::iter::once(&sandbox).chain(&others).map(|object| text(&object["metadata"]["uid"]));
        let locks = sandbox["metadata"]["annotations"]["agents.kruise.io/lock"].as_str().map(str::to_owned);
        let mut fresh: Vec<_> = uids.chain(locks).collect();
        fresh.push(text(&sandbox["status"]["podInfo"]["podUID"]));
        fresh.sort();
        fresh.dedup();
        for old in fresh {
            names.push((old, self.new_uid()));
        }
        names.extend([(recorded_address, address), (recorded, name), (SET.to_owned(), set)]);
        names.extend(replaced.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())));
        let names: Vec<_> = names.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        let at = self.objects.len();
        for object in std::iter::once(sandbox).chain(others) {
            let mut object = renamed(&object, &names);
            for path in ["/metadata/namespace", "/involvedObject/namespace"] {
                if let Some(namespace) = object.pointer_mut(path) {
                    *namespace = json!(self.namespace);
                }
            }
            if is_referring(number) {
                refer(&mut object, &template_name(number));
            }
            self.objects.push(object);
        }
        at
    }

    fn recorded_sandbox(&self, what: &str, number: usize) -> Recorded {
        let sandbox = self.recorded(what, number);
        let (name, uid) = (&sandbox["metadata"]["name"], &sandbox["metadata"]["uid"]);
        let pods = self.recorded["pod"].iter().filter(|pod| pod["metadata"]["name"] == *name);
        let events = self.recorded["event"].iter().filter(|event| event["involvedObject"]["uid"] == *uid);
        let others = pods.chain(events).cloned().collect();
        Recorded { sandbox, others }
    }

    /// The key store.
    fn keys(&mut self) {
        let keys = self.recorded("keys", 0);
        self.objects.push(keys);
    }
}

/// Labels an object as made from a SandboxTemplate. OpenKruise Agents copies the content into each sandbox.
fn refer(object: &mut Value, template: &str) {
    for path in ["/metadata/labels", "/spec/template/metadata/labels"] {
        let labels = object.pointer_mut(path).and_then(Value::as_object_mut);
        if let Some(label) = labels.and_then(|labels| labels.get_mut("agents.kruise.io/sandbox-template")) {
            *label = json!(template);
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Returns an object in which parts of texts are replaced, in this order.
fn renamed(object: &Value, names: &[(&str, &str)]) -> Value {
    let rename = |text: &str| names.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
    match object {
        Value::String(text) => json!(rename(text)),
        Value::Array(items) => items.iter().map(|item| renamed(item, names)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), renamed(value, names))).collect()
        }
        other => other.clone(),
    }
}
