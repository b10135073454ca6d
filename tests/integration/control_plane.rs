//! Tests the test control plane itself. All other tests that need an API server rely on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use kube::{Api, Client, Config};
use serde_json::json;

use crate::support::{ADMIN, AuditedRequest, ControlPlane, LIMITED, SOON, Setup, eventually};

/// Set for the process that a test spawns from this binary and kills.
const HOLD: &str = "TEST_HOLD_CONTROL_PLANE";

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("key".into(), "value".into())])),
        ..ConfigMap::default()
    }
}

/// Returns the file names of the running programs that were started with this data directory.
fn processes_of(data_dir: &Path) -> Vec<String> {
    let needle = data_dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let arguments = command_lines.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let ours = arguments.filter(|line| line.contains(needle));
    ours.filter_map(|line| Some(Path::new(line.split('\0').next()?).file_name()?.to_str()?.to_owned()))
        .collect()
}

fn assert_all_runs(data_dir: &Path) {
    assert_runs(data_dir, &["etcd", "kube-apiserver"]);
}

fn assert_runs(data_dir: &Path, programs: &[&str]) {
    let running = processes_of(data_dir);
    for program in programs {
        assert!(running.iter().any(|name| name == program), "{program} is not among {running:?}");
    }
}

/// Allows a user to list the `ConfigMap`s of a namespace.
async fn grant_config_maps(client: Client, namespace: &str, user: &str) {
    let role: Role = serde_json::from_value(json!({
        "metadata": { "name": user },
        "rules": [{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }],
    }))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
    Api::namespaced(client, namespace).create(&PostParams::default(), &binding).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn answers_and_gives_each_test_a_namespace_of_its_own() {
    let cp = ControlPlane::shared().await;
    let client = cp.client().await;
    assert_eq!(client.apiserver_version().await.unwrap().major, "1");

    let (first, second) = (cp.namespace("same").await, cp.namespace("same").await);
    assert_ne!(first, second);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &first);
    api.create(&PostParams::default(), &config_map("only-here")).await.unwrap();
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, &second);
    assert!(elsewhere.get_opt("only-here").await.unwrap().is_none());
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn users_may_do_what_is_granted_to_them_and_no_more() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("rbac").await;
    for user in [LIMITED, "someone-of-this-test"] {
        let api: Api<ConfigMap> = Api::namespaced(cp.client_for(user).await, &namespace);
        let refused = api.list(&ListParams::default()).await.unwrap_err().to_string();
        assert!(refused.contains(user) && refused.contains("forbidden"), "{refused}");

        grant_config_maps(cp.client().await, &namespace, user).await;
        eventually("the grant is seen", SOON, async || Ok(api.list(&ListParams::default()).await?)).await;
    }
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn written_kubeconfigs_serve_other_programs() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("kubeconfig").await;
    for (user, may_list) in [(ADMIN, true), (LIMITED, false), ("someone-else", false)] {
        let written = Kubeconfig::read_from(cp.write_kubeconfig(user)).unwrap();
        let config = Config::from_custom_kubeconfig(written, &KubeConfigOptions::default()).await.unwrap();
        assert_eq!(config.cluster_url.to_string().trim_end_matches('/'), cp.url());
        let api: Api<ConfigMap> = Api::namespaced(Client::try_from(config).unwrap(), &namespace);
        assert_eq!(api.list(&ListParams::default()).await.is_ok(), may_list, "{user}");
    }
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn installed_crds_are_served_at_once() {
    let cp = ControlPlane::shared().await;
    let namespace = cp.namespace("crds").await;
    let crd: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "probes.harness.test" },
        "spec": {
            "group": "harness.test",
            "scope": "Namespaced",
            "names": { "kind": "Probe", "plural": "probes", "singular": "probe" },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } },
            }],
        },
    }))
    .unwrap();
    cp.install_crds([crd.clone()]).await;
    cp.install_crds([crd]).await;

    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("harness.test", "v1", "Probe"));
    let api: Api<DynamicObject> = Api::namespaced_with(cp.client().await, &namespace, &resource);
    api.create(&PostParams::default(), &DynamicObject::new("probe", &resource)).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn objects_outlive_the_api_server() {
    let cp = ControlPlane::start().await;
    let namespace = cp.namespace("restart").await;
    let api: Api<ConfigMap> = Api::namespaced(cp.client().await, &namespace);
    let created = api.create(&PostParams::default(), &config_map("kept")).await.unwrap();

    cp.kill_api_server().await;
    assert!(api.get("kept").await.is_err(), "a killed API server answers");
    cp.start_api_server().await;
    assert_eq!(api.get("kept").await.unwrap().metadata, created.metadata);

    cp.stop_api_server().await;
    assert!(api.get("kept").await.is_err(), "a stopped API server answers");
    cp.start_api_server().await;
    assert_eq!(api.get("kept").await.unwrap().metadata, created.metadata);
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn a_paused_api_server_answers_once_it_goes_on() {
    let cp = ControlPlane::start().await;
    let client = cp.client().await;
    client.apiserver_version().await.unwrap();

    cp.pause_api_server().await;
    let mut request = tokio::spawn(async move { client.apiserver_version().await });
    let early = tokio::time::timeout(Duration::from_millis(300), &mut request).await;
    assert!(early.is_err(), "a paused API server answers: {early:?}");

    cp.resume_api_server().await;
    let late = tokio::time::timeout(SOON, request).await;
    late.expect("an answer after it went on").unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn flags_reach_the_api_server() {
    let cp = ControlPlane::start_with(&["--anonymous-auth=false"]).await;
    let mut config = cp.config_for(ADMIN).await;
    config.auth_info.token = None;
    let refused = Client::try_from(config).unwrap().apiserver_version().await.unwrap_err().to_string();
    assert!(refused.contains("Unauthorized"), "{refused}");
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn nothing_is_left_of_a_dropped_control_plane_even_when_paused() {
    for paused in [false, true] {
        let cp = ControlPlane::start().await;
        let data_dir = cp.data_dir().to_owned();
        assert_all_runs(&data_dir);

        if paused {
            cp.pause_api_server().await;
        }
        drop(cp);
        assert_eq!(processes_of(&data_dir), Vec::<String>::new(), "paused: {paused}");
        assert!(!data_dir.exists(), "paused: {paused}");
    }
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn nothing_is_left_of_a_dropped_control_plane_with_nodes() {
    let cp = ControlPlane::start_as(Setup::default().nodes()).await;
    let data_dir = cp.data_dir().to_owned();
    assert_all_runs(&data_dir);
    assert_runs(&data_dir, &["kube-controller-manager", "kube-scheduler", "kwok"]);
    drop(cp);
    assert_eq!(processes_of(&data_dir), Vec::<String>::new());
    assert!(!data_dir.exists());
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn an_audited_control_plane_notes_who_asked_for_what() {
    let cp = ControlPlane::start_as(Setup::default().audit()).await;
    let namespace = cp.namespace("audit").await;
    let user = "someone-of-this-test";
    let api: Api<ConfigMap> = Api::namespaced(cp.client_for(user).await, &namespace);
    api.create(&PostParams::default(), &config_map("new")).await.unwrap_err();
    api.get("known").await.unwrap_err();
    let noted = eventually("both are noted", SOON, async || {
        let noted = cp.requests(user);
        ensure!(noted.len() == 2, "{noted:?}");
        Ok(noted)
    })
    .await;
    let texts = |request: &AuditedRequest| {
        let texts = [&request.verb, &request.resource, &request.namespace].map(String::clone);
        (texts.join(" "), request.code, request.is_write())
    };
    let expected = |verb: &str, is_write| (format!("{verb} configmaps {namespace}"), Some(403), is_write);
    assert_eq!(
        noted.iter().map(texts).collect::<Vec<_>>(),
        [expected("create", true), expected("get", false)]
    );
    assert_eq!(cp.requests("someone-else"), []);
}

#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn nothing_is_left_when_the_test_process_is_killed() {
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "control_plane::holds_a_control_plane", "--include-ignored", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines();
    let data_dir = lines
        .map_while(Result::ok)
        .find_map(|line| Some(PathBuf::from(line.split_once("data directory: ")?.1)))
        .expect("the data directory in the output of the spawned harness");
    assert_all_runs(&data_dir);

    harness.kill().unwrap();
    harness.wait().unwrap();
    eventually("every process and the data are gone", SOON, async || {
        let left = processes_of(&data_dir);
        ensure!(left.is_empty() && !data_dir.exists(), "left: {left:?}, data: {}", data_dir.exists());
        Ok(())
    })
    .await;
}

/// Not a test by itself: `nothing_is_left_when_the_test_process_is_killed` spawns and kills this process.
#[tokio::test]
#[ignore = "needs the control plane: tests/e2e.sh"]
async fn holds_a_control_plane() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let cp = ControlPlane::start().await;
    println!("data directory: {}", cp.data_dir().display());
    std::future::pending::<()>().await;
}
