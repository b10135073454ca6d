//! [`Release`]: the chart installed on a real API server, and the binary run as its pod would be.
//!
//! There is no node: the process gets the arguments and variables of the container, the files of the ConfigMap and
//! a token of the ServiceAccount, all as the API server has them. Only what a pod gets from its node is made up:
//! where the API server is, and free ports on loopback; variables that speak of the pod are left out.

use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec, ServiceAccount};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::helm::{Helm, printed, run, with_registry};
use crate::support::{ADMIN, ControlPlane, Process, SOON, eventually};

/// The name of every release here.
pub(super) const NAME: &str = "sandbox-manager";

/// A release in a namespace of its own.
pub(super) struct Release<'cp> {
    cp: &'cp ControlPlane,
    client: Client,
    pub(super) namespace: String,
    pub(super) helm: Helm,
}

/// A resource that one rule of a role grants, or everything that it does.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) role: Role,
    pub(super) rule: usize,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) verbs: Vec<String>,
}

/// A Role or ClusterRole.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) name: String,
    /// `None`: a ClusterRole.
    pub(super) namespace: Option<String>,
}

impl<'cp> Release<'cp> {
    /// Installs the chart with this configuration.
    pub(super) async fn install(cp: &'cp ControlPlane, config: &Value) -> Self {
        let namespace = cp.namespace("release").await;
        let helm = Helm::new(&namespace, &cp.kubeconfig(ADMIN));
        let arguments = ["install", NAME, &Helm::chart(), "--values", "-"];
        helm.run(&arguments, &with_registry(&json!({ "config": config })))
            .unwrap_or_else(|error| panic!("{config}: {error}"));
        Self::adopt(cp, namespace, helm).await
    }

    /// What is installed in this namespace already.
    pub(super) async fn adopt(cp: &'cp ControlPlane, namespace: String, helm: Helm) -> Self {
        Self { cp, client: cp.client().await, namespace, helm }
    }

    /// The one Deployment of its namespace.
    pub(super) async fn deployment(&self) -> Deployment {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut all = api.list(&ListParams::default()).await.unwrap().items;
        assert_eq!(all.len(), 1, "Deployments");
        all.remove(0)
    }

    async fn pod(&self) -> PodSpec {
        self.deployment().await.spec.template.spec.unwrap()
    }

    /// The user that the pod is to the API server.
    pub(super) async fn user(&self) -> String {
        let account = self.pod().await.service_account_name.unwrap();
        format!("system:serviceaccount:{}:{account}", self.namespace)
    }

    /// Runs the binary as the pod.
    pub(super) async fn start(&self) -> Process {
        let pod = self.pod().await;
        let folder = tempfile::tempdir().unwrap();
        let [container] = <[Container; 1]>::try_from(pod.containers.clone()).unwrap();
        let mut arguments = container.args.clone().unwrap_or_default();
        for mount in container.volume_mounts.iter().flatten() {
            let place = folder.path().join(&mount.name);
            self.fill(&pod, &mount.name, &place).await;
            for argument in &mut arguments {
                *argument = argument.replace(&mount.mount_path, place.to_str().unwrap());
            }
        }
        let set = container.env.iter().flatten();
        let mut variables: Vec<_> =
            set.filter_map(|set| Some((set.name.clone(), set.value.clone()?))).collect();
        let kubeconfig = self.kubeconfig(&pod, folder.path()).await;
        for (name, value) in [
            ("KUBECONFIG", kubeconfig.as_str()),
            // Which a pod reads from the files of its service account.
            ("POD_NAMESPACE", self.namespace.as_str()),
            ("SANDBOX_MANAGER_METRICS_BIND_ADDRESS", "127.0.0.1:0"),
            ("SANDBOX_MANAGER_HEALTH_PROBE_BIND_ADDRESS", "127.0.0.1:0"),
            ("SANDBOX_MANAGER_E2B_BIND_ADDRESS", "127.0.0.1:0"),
            // In which the addresses are told.
            ("SANDBOX_MANAGER_LOG_FORMAT", "json"),
        ] {
            variables.push((name.to_owned(), value.to_owned()));
        }
        Process::start_with(&arguments, &variables, folder).await
    }

    /// Runs a subcommand of the binary with the account of the pod, as `kubectl exec` does. Returns what it prints.
    pub(super) async fn exec(&self, arguments: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = self.kubeconfig(&self.pod().await, folder.path()).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command.args(arguments).env_clear().env("KUBECONFIG", kubeconfig);
        printed(&run(&mut command, "")).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// Writes the files of a volume.
    async fn fill(&self, pod: &PodSpec, volume: &str, place: &std::path::Path) {
        let mut volumes = pod.volumes.iter().flatten();
        let known = volumes.find(|known| known.name == volume);
        let known = known.unwrap_or_else(|| panic!("{volume} is no volume of the pod"));
        std::fs::create_dir(place).unwrap();
        let Some(source) = &known.config_map else {
            assert!(known.empty_dir.is_some(), "{volume} is neither a ConfigMap nor empty");
            return;
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        for (name, text) in api.get(&source.name).await.unwrap().data.unwrap() {
            std::fs::write(place.join(name), text).unwrap();
        }
    }

    /// A kubeconfig with a token of the pod's ServiceAccount, if the pod gets one.
    async fn kubeconfig(&self, pod: &PodSpec, folder: &std::path::Path) -> String {
        assert_eq!(pod.automount_service_account_token, Some(true), "the pod gets a token");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &self.namespace);
        let account = pod.service_account_name.as_ref().unwrap();
        let request: TokenRequest =
            serde_json::from_value(json!({ "metadata": {}, "spec": { "audiences": [] } })).unwrap();
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await.unwrap();
        let token = folder.join("token");
        std::fs::write(&token, answer.status.unwrap().token.unwrap()).unwrap();

        let mut kubeconfig = self.cp.kubeconfig(ADMIN);
        let user = kubeconfig.auth_infos[0].auth_info.insert(kube::config::AuthInfo::default());
        user.token_file = Some(token.to_str().unwrap().to_owned());
        let path = folder.join("kubeconfig");
        std::fs::write(&path, serde_yaml::to_string(&kubeconfig).unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn roles(&self, namespace: Option<&str>) -> Api<DynamicObject> {
        let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
        let gvk = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
        let resource = ApiResource::from_gvk(&gvk);
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Every resource that the roles of the release grant, in these namespaces and in the cluster.
    pub(super) async fn grants(&self, namespaces: &[&str]) -> Vec<Grant> {
        let mut grants = Vec::new();
        for namespace in namespaces.iter().copied().map(Some).chain([None]) {
            let mine = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
            for role in self.roles(namespace).list(&mine).await.unwrap() {
                if !role.name_any().starts_with(&self.namespace) {
                    continue;
                }
                let place = Role { name: role.name_any(), namespace: namespace.map(str::to_owned) };
                for (number, rule) in role.data["rules"].as_array().unwrap().iter().enumerate() {
                    let texts = |field: &str| -> Vec<String> {
                        rule[field]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|text| text.as_str().unwrap().to_owned())
                            .collect()
                    };
                    for resource in texts("resources") {
                        grants.push(Grant {
                            role: place.clone(),
                            rule: number,
                            group: texts("apiGroups").remove(0),
                            resource,
                            verbs: texts("verbs"),
                        });
                    }
                }
            }
        }
        grants
    }

    /// Changes the rules of a role and returns what they were.
    pub(super) async fn change_rules(&self, role: &Role, change: impl FnOnce(&mut Value)) -> Value {
        let api = self.roles(role.namespace.as_deref());
        let before = api.get(&role.name).await.unwrap().data["rules"].clone();
        let mut rules = before.clone();
        change(&mut rules);
        let patch = Patch::Merge(json!({ "rules": rules }));
        api.patch(&role.name, &PatchParams::default(), &patch).await.unwrap();
        before
    }

    /// Waits until the API server lets the pod do this, or no longer does.
    pub(super) async fn until_allowed(&self, grant: &Grant, verb: &str, expected: bool) {
        let user = self.user().await;
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let namespace = grant.role.namespace.clone().unwrap_or_default();
        let review: SubjectAccessReview =
            serde_json::from_value(json!({ "spec": { "user": user, "resourceAttributes": {
            "group": grant.group, "resource": grant.resource, "verb": verb, "namespace": namespace,
        } } }))
            .unwrap();
        eventually(&format!("{verb} {} allowed: {expected}", grant.resource), SOON, async || {
            let allowed =
                api.create(&PostParams::default(), &review).await?.status.map(|status| status.allowed);
            anyhow::ensure!(allowed == Some(expected), "{allowed:?}");
            Ok(())
        })
        .await;
    }
}
