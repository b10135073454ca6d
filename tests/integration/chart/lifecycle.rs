//! The life of a release on a real API server: installed, upgraded, rolled back, uninstalled.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Discovery, Scope, pinned_kind, verbs};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::helm::Helm;
use super::release::{NAME, Release};
use super::rendered::merge;
use super::{documents, read_yaml, server};
use crate::support::fixtures::{create, sandbox};
use crate::support::{ADMIN, ControlPlane, Process};

/// Namespace of the release. Its pods must be as restricted as Kubernetes' own standards know to.
const NAMESPACE: &str = "operators";

async fn make_namespaces(client: &Client) {
    let api: Api<Namespace> = Api::all(client.clone());
    for name in [NAMESPACE, "sandboxes", "system"] {
        let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        api.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
    }
}

/// An installed release and the values that it was given last.
struct Life<'cp> {
    release: Release<'cp>,
    client: Client,
    values: Value,
}

impl Life<'_> {
    fn helm(&self) -> &Helm {
        &self.release.helm
    }

    fn upgrade(&mut self, change: &Value) -> Result<String, String> {
        let mut values = self.values.clone();
        merge(&mut values, change);
        let said = self.helm().run(&["upgrade", NAME, &Helm::chart(), "--values", "-"], &values)?;
        self.values = values;
        Ok(said)
    }

    /// The objects of the release, as helm has them.
    fn manifest(&self) -> Vec<Value> {
        documents(&self.helm().run(&["get", "manifest", NAME], &json!({})).unwrap())
    }

    /// What the API server has of an object, without what it says of the object's life.
    async fn served(&self, object: &Value) -> Value {
        let text = |field: &str| object[field].as_str().unwrap();
        let (group, version) = text("apiVersion").split_once('/').unwrap_or(("", text("apiVersion")));
        let gvk = GroupVersionKind::gvk(group, version, text("kind"));
        let (resource, capabilities) = pinned_kind(&self.client, &gvk).await.unwrap();
        let api: Api<DynamicObject> = if capabilities.scope == Scope::Namespaced {
            let namespace =
                object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(NAMESPACE);
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap();
        let found = api.get(name).await.unwrap_or_else(|error| panic!("{gvk:?} {name}: {error}"));
        let mut data = found.data;
        data.as_object_mut().unwrap().remove("status");
        // Given by the server, which may give them anew.
        if let Some(spec) = data["spec"].as_object_mut().filter(|_| text("kind") == "Service") {
            spec.retain(|field, _| !field.starts_with("clusterIP"));
        }
        json!({ "kind": text("kind"), "name": name, "labels": found.metadata.labels, "data": data })
    }

    /// Everything of the release that the API server has.
    async fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        for object in self.manifest() {
            state.push(self.served(&object).await);
        }
        state
    }

    async fn generation(&self) -> i64 {
        self.release.deployment().await.metadata.generation.unwrap()
    }
}

/// Every object in the cluster that carries the release's label, by kind and name.
async fn labelled(client: &Client) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mine = ListParams::default().labels(&format!("app.kubernetes.io/instance={NAME}"));
    for group in Discovery::new(client.clone()).run().await.unwrap().groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            let listed = api.list(&mine).await.unwrap();
            found.extend(listed.into_iter().map(|object| (resource.kind.clone(), object.name_any())));
        }
    }
    found
}

/// Kinds and names in a manifest.
fn identities(objects: &[Value]) -> BTreeSet<(String, String)> {
    let own = |object: &Value| {
        let (kind, name) = super::identity(object);
        (kind.to_owned(), name.to_owned())
    };
    objects.iter().map(own).collect()
}

async fn install(cp: &ControlPlane) -> Life<'_> {
    let client = cp.client().await;
    make_namespaces(&client).await;
    let helm = Helm::new(NAMESPACE, &cp.kubeconfig(ADMIN));
    let values = read_yaml("tests/chart/values/everything.yaml");
    let said = helm.run(&["install", NAME, &Helm::chart(), "--values", "-"], &values).unwrap();
    for next in
        ["kubectl --namespace operators rollout status deployment/manager", "/readyz?verbose", "/metrics"]
    {
        assert!(said.contains(next), "{next} is not in the notes: {said}");
    }
    Life { release: Release::adopt(cp, NAMESPACE.to_owned(), helm).await, client, values }
}

/// The API server's own admission lets the pod of the Deployment into a restricted namespace.
async fn pod_is_admitted(life: &Life<'_>) {
    let template = life.release.deployment().await.spec.template;
    let pod = json!({ "metadata": { "name": "pod" }, "spec": template.spec });
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    let api: Api<Pod> = Api::namespaced(life.client.clone(), NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &pod).await.unwrap();
    pod.spec.as_mut().unwrap().containers[0].security_context = None;
    let refused = api.create(&dry, &pod).await.unwrap_err().to_string();
    assert!(refused.contains("PodSecurity \"restricted"), "{refused}");
}

async fn becomes_ready(release: &Release<'_>) {
    let mut process: Process = release.start().await;
    process.becomes_ready().await;
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled() {
    let cp = server::without_our_kinds().await;
    let mut life = install(&cp).await;
    let kinds: BTreeMap<_, _> = identities(&life.manifest()).into_iter().collect();
    for kind in ["Deployment", "ServiceMonitor", "PrometheusRule", "PodDisruptionBudget", "NetworkPolicy"] {
        assert!(kinds.contains_key(kind), "{kinds:?}");
    }
    let first = life.state().await;
    assert_eq!(labelled(&life.client).await, identities(&life.manifest()));
    pod_is_admitted(&life).await;
    // Ours are served, too: helm has installed them. The command takes them over.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
    command.args(["crd", "apply"]).env("SANDBOX_MANAGER_KUBECONFIG", cp.write_kubeconfig(ADMIN));
    let applied = command.output().unwrap();
    assert!(applied.status.success(), "{applied:?}");
    let printed = String::from_utf8(applied.stdout).unwrap();
    assert!(printed.lines().all(|line| line.ends_with(": unchanged")), "{printed}");
    create(&life.client, "sandboxes", &sandbox("kept")).await;
    becomes_ready(&life.release).await;

    let generation = life.generation().await;
    life.upgrade(&json!({ "service": { "annotations": { "example.com/more": "a" } } })).unwrap();
    assert_eq!(life.generation().await, generation, "the pod stays as it is");
    life.upgrade(&json!({ "config": { "log": { "level": "info" } } })).unwrap();
    assert!(life.generation().await > generation, "another configuration makes another pod");

    let (before, generation) = (life.state().await, life.generation().await);
    let refused = life.upgrade(&json!({ "config": { "log": { "levels": "info" } } })).unwrap_err();
    assert!(refused.contains("at '/config/log': additional properties 'levels' not allowed"), "{refused}");
    assert_eq!((life.state().await, life.generation().await), (before, generation), "nothing has changed");

    let said =
        life.upgrade(&json!({ "config": { "sandboxNamespace": "sandboxes", "systemNamespace": "system" } }));
    assert!(said.unwrap().contains("sandbox-manager crd apply"), "the notes tell of CRDs");
    let roles = identities(&life.manifest());
    let role = |name: &str| ("Role".to_owned(), format!("operators-manager{name}"));
    assert!(roles.contains(&role("")) && roles.contains(&role("-system")), "{roles:?}");
    assert_eq!(labelled(&life.client).await, roles);
    becomes_ready(&life.release).await;

    life.helm().run(&["rollback", NAME, "1"], &json!({})).unwrap();
    assert_eq!(life.state().await, first, "all is as it was at first");
    assert_eq!(labelled(&life.client).await, identities(&life.manifest()), "and the roles are gone");
    becomes_ready(&life.release).await;

    life.helm().run(&["uninstall", NAME], &json!({})).unwrap();
    assert_eq!(labelled(&life.client).await, BTreeSet::new());
    let secrets: Api<Secret> = Api::namespaced(life.client.clone(), NAMESPACE);
    assert_eq!(secrets.list(&ListParams::default()).await.unwrap().items, []);
    // Nobody's sandboxes go with a release.
    let crds: Api<CustomResourceDefinition> = Api::all(life.client.clone());
    crds.get("sandboxes.agents.kruise.io").await.unwrap();
    let kept: Api<sandbox_manager::api::v1alpha1::Sandbox> =
        Api::namespaced(life.client.clone(), "sandboxes");
    kept.get("kept").await.unwrap();
}

/// CRDs that are there, from OpenKruise Agents or an earlier release, are left as they are.
#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn an_install_takes_over_no_crd_that_is_there() {
    let cp = server::shared().await;
    let client = cp.client().await;
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mark = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/owner": "somebody" } } }));
    let name = "checkpoints.agents.kruise.io";
    let before = api.patch(name, &PatchParams::default(), &mark).await.unwrap();
    Release::install(cp, &json!({})).await;
    assert_eq!(api.get(name).await.unwrap().metadata.resource_version, before.metadata.resource_version);
}
