//! Tests `sandbox-manager crd apply`. Each test has an API server of its own, because definitions belong to the cluster.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::ensure;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{Kubeconfig, NamedCluster};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::{conditions, wait::Condition as _};
use kube::{Api, Client, ResourceExt};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxClaim, crds};
use serde_json::{Value, json};

use crate::support::{ADMIN, Cluster, SOON, eventually};

const SANDBOXES: &str = "sandboxes.agents.kruise.io";

/// The command, with the kubeconfig of one user.
struct Command {
    folder: tempfile::TempDir,
}

/// What the command did.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    printed: String,
    errors: String,
}

impl Command {
    async fn of(cluster: &Cluster, user: &str) -> Self {
        Self::with(&cluster.kubeconfig(user).await)
    }

    fn with(kubeconfig: &Kubeconfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("kubeconfig"), serde_yaml::to_string(kubeconfig).unwrap()).unwrap();
        Self { folder }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command.args(["crd", "apply"]).args(arguments).stdin(Stdio::null()).env_clear();
        command.env("SANDBOX_MANAGER_KUBECONFIG", self.kubeconfig());
        Ended::from(command.output().await.unwrap())
    }

    /// Runs the command and returns the lines that it printed.
    async fn succeed(&self, arguments: &[&str]) -> Vec<String> {
        let ended = self.run(arguments).await;
        assert_eq!((ended.code, ended.errors.as_str()), (Some(0), ""), "{ended:?}");
        ended.printed.lines().map(str::to_owned).collect()
    }

    /// Runs the command, which must fail and print nothing, and returns its errors.
    async fn fail(&self, arguments: &[&str], code: i32) -> String {
        let ended = self.run(arguments).await;
        assert_eq!((ended.code, ended.printed.as_str()), (Some(code), ""), "{ended:?}");
        ended.errors
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), printed: text(output.stdout), errors: text(output.stderr) }
    }
}

fn definitions(client: &Client) -> Api<CustomResourceDefinition> {
    Api::all(client.clone())
}

/// Returns the names and the resource versions of all definitions.
async fn versions(client: &Client) -> Vec<(String, Option<String>)> {
    let list = definitions(client).list(&ListParams::default()).await.unwrap();
    list.into_iter().map(|definition| (definition.name_any(), definition.resource_version())).collect()
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    conditions::is_crd_established().matches_object(Some(definition))
}

/// Returns our definition of this name, changed by `edit`.
fn edited(name: &str, edit: impl Fn(&mut Value)) -> CustomResourceDefinition {
    let ours = crds().into_iter().find(|definition| definition.name_any() == name).unwrap();
    let mut value = serde_json::to_value(ours).unwrap();
    edit(&mut value["spec"]);
    serde_json::from_value(value).unwrap()
}

fn schema(spec: &mut Value) -> &mut Value {
    &mut spec["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
}

/// Returns the definition of an older release: without the pause strategy and the count of recyclings.
fn older() -> CustomResourceDefinition {
    edited(SANDBOXES, |spec| {
        for (part, field) in [("spec", "pauseStrategy"), ("status", "recycledCount")] {
            schema(spec)[part]["properties"].as_object_mut().unwrap().remove(field).unwrap();
        }
        let columns = spec["versions"][0]["additionalPrinterColumns"].as_array_mut().unwrap();
        columns.retain(|column| column["name"] != "RecycledCount");
    })
}

/// Returns the definition of a newer release, which has more of everything.
fn newer() -> CustomResourceDefinition {
    edited(SANDBOXES, |spec| {
        let probe = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        schema(spec)["spec"]["properties"]["probes"] = json!({"type": "array", "items": probe});
        schema(spec)["status"]["properties"]["podInfo"]["properties"]["hostIP"] = json!({"type": "string"});
        let version = &mut spec["versions"][0];
        version["additionalPrinterColumns"].as_array_mut().unwrap().push(json!({
            "name": "Host", "type": "string", "jsonPath": ".status.podInfo.hostIP"
        }));
        let mut beta = version.clone();
        beta["name"] = "v1beta1".into();
        beta["storage"] = false.into();
        spec["versions"].as_array_mut().unwrap().push(beta);
        spec["names"]["shortNames"].as_array_mut().unwrap().push("box".into());
    })
}

#[tokio::test]
async fn z1_definitions_are_created_and_a_second_apply_changes_nothing() {
    let cluster = Cluster::start().await;
    let (client, command) = (cluster.client().await, Command::of(&cluster, ADMIN).await);
    let lines = command.succeed(&[]).await;
    let names: Vec<_> = crds().iter().map(ResourceExt::name_any).collect();
    let expected = |what: &str| names.iter().map(|name| format!("{name}: {what}")).collect::<Vec<_>>();
    assert_eq!(lines, expected("created"));
    for definition in definitions(&client).list(&ListParams::default()).await.unwrap() {
        assert!(is_established(&definition), "{}", definition.name_any());
        let managers = definition.metadata.managed_fields.unwrap();
        let is_ours = |manager: &str, operation: &str| manager == "sandbox-manager" && operation == "Apply";
        let ours = managers
            .iter()
            .find(|entry| is_ours(entry.manager.as_deref().unwrap(), entry.operation.as_deref().unwrap()));
        assert!(ours.is_some(), "{managers:?}");
    }
    let before = versions(&client).await;
    assert_eq!(command.succeed(&["--dry-run"]).await, expected("unchanged"));
    assert_eq!(command.succeed(&[]).await, expected("unchanged"));
    assert_eq!(versions(&client).await, before);
}

#[tokio::test]
async fn z1_a_newer_definition_is_refused_by_name_of_each_part_and_nothing_is_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.install_crds([newer()]).await;
    let namespace = cluster.namespace("newer").await;
    let resource = ApiResource::erase::<Sandbox>(&());
    let sandboxes: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let probes = json!({ "spec": { "probes": [{ "name": "p" }] } });
    sandboxes
        .create(&PostParams::default(), &DynamicObject::new("a", &resource).data(probes.clone()))
        .await
        .unwrap();
    let (command, before) = (Command::of(&cluster, ADMIN).await, versions(&client).await);
    let expected = [
        "error: the installed definitions have parts or accept values that those of this version do not:",
        "error: sandboxes.agents.kruise.io: short name box",
        "error: sandboxes.agents.kruise.io: column Host (v1alpha1)",
        "error: sandboxes.agents.kruise.io: field spec.probes (v1alpha1)",
        "error: sandboxes.agents.kruise.io: field spec.probes[] (v1alpha1)",
        "error: sandboxes.agents.kruise.io: field spec.probes[].name (v1alpha1)",
        "error: sandboxes.agents.kruise.io: field status.podInfo.hostIP (v1alpha1)",
        "error: sandboxes.agents.kruise.io: version v1beta1",
        "error: Nothing was written: the API server would remove the values of these parts from all objects, and reject the \
         objects with such values. Keep the installed definitions, or use a version of sandbox-manager that has them",
    ];
    for arguments in [&[][..], &["--dry-run"]] {
        let errors = command.fail(arguments, 1).await;
        assert_eq!(errors.lines().collect::<Vec<_>>(), expected, "{arguments:?}");
        assert_eq!(versions(&client).await, before, "{arguments:?}");
    }
    assert_eq!(before.len(), 1, "the other definitions were not created either");
    assert_eq!(sandboxes.get("a").await.unwrap().data["spec"], probes["spec"]);
}

#[tokio::test]
async fn z1_an_older_definition_that_helm_has_installed_is_upgraded() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let by_helm = PostParams { field_manager: Some("helm".to_owned()), ..PostParams::default() };
    for definition in crds() {
        let definition = if definition.name_any() == SANDBOXES { older() } else { definition };
        definitions(&client).create(&by_helm, &definition).await.unwrap();
    }
    // The API server writes the status of new definitions.
    eventually("all definitions are established", SOON, async || {
        let list = definitions(&client).list(&ListParams::default()).await?;
        ensure!(list.iter().all(is_established), "not all are");
        Ok(())
    })
    .await;
    // Without taking over the fields of helm, an upgrade is a conflict.
    let ours = edited(SANDBOXES, |_| ());
    let apply = PatchParams::apply("somebody");
    let conflict = definitions(&client).patch(SANDBOXES, &apply, &Patch::Apply(&ours)).await.unwrap_err();
    assert!(conflict.to_string().contains("helm"), "{conflict}");

    let (command, before) = (Command::of(&cluster, ADMIN).await, versions(&client).await);
    let fields = ["hibernateStrategy", "hibernateStrategy.type", "type"];
    let fields = fields.map(|field| format!("  + field spec.pauseStrategy.{field} (v1alpha1)"));
    let report = |what: &str| {
        let mut report = vec![
            format!("{SANDBOXES}: {what}"),
            "  + column RecycledCount (v1alpha1)".to_owned(),
            "  + field spec.pauseStrategy (v1alpha1)".to_owned(),
        ];
        report.extend(fields.clone());
        report.push("  + field status.recycledCount (v1alpha1)".to_owned());
        let others = crds().into_iter().map(|definition| definition.name_any()).skip(1);
        report.extend(others.map(|name| format!("{name}: unchanged")));
        report
    };
    assert_eq!(command.succeed(&["--dry-run"]).await, report("would be changed"));
    assert_eq!(versions(&client).await, before, "a dry run writes nothing");
    assert_eq!(command.succeed(&[]).await, report("changed"));

    let namespace = cluster.namespace("upgraded").await;
    let resource = ApiResource::erase::<Sandbox>(&());
    let sandboxes: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let spec = json!({ "spec": { "pauseStrategy": { "type": "Stop" } } });
    let mut attempt = 0;
    eventually("the new field is kept", SOON, async || {
        attempt += 1;
        let object = DynamicObject::new(&format!("a-{attempt}"), &resource).data(spec.clone());
        let created = sandboxes.create(&PostParams::default(), &object).await?;
        ensure!(created.data["spec"] == spec["spec"], "{:?}", created.data);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn z1_a_definition_that_accepts_more_is_refused_and_one_that_accepts_less_is_replaced() {
    const CLAIMS: &str = "sandboxclaims.agents.kruise.io";
    let other = |limits: Value, required: Value| {
        edited(CLAIMS, move |spec| {
            let spec = &mut schema(spec)["spec"];
            let replicas = spec["properties"]["replicas"].as_object_mut().unwrap();
            replicas.extend(limits.as_object().unwrap().clone());
            replicas.retain(|_, value| !value.is_null());
            spec["required"] = required.clone();
            spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        })
    };
    let more = json!({"minimum": 0, "nullable": true, "default": null, "x-kubernetes-validations": null});
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    cluster.install_crds([other(more, Value::Null)]).await;
    let (command, before) = (Command::of(&cluster, ADMIN).await, versions(&client).await);
    let errors = command.fail(&[], 1).await;
    let expected = [
        r#"field spec (v1alpha1): stricter required none -> ["templateName"]"#,
        "field spec.replicas (v1alpha1): stricter minimum 0.0 -> 1.0",
        "field spec.replicas (v1alpha1): stricter nullable true -> none",
        r#"field spec.replicas (v1alpha1): stricter x-kubernetes-validations none -> ["self == oldSelf"]"#,
    ];
    let mut named: Vec<_> = errors.lines().filter(|line| line.contains("stricter")).collect();
    named.sort_unstable();
    assert_eq!(named, expected.map(|line| format!("error: {CLAIMS}: {line}")));
    assert_eq!(versions(&client).await, before);

    let less = json!({"minimum": 2, "maximum": 9, "default": 2});
    let cluster = Cluster::start().await;
    cluster.install_crds([other(less, json!(["replicas", "templateName"]))]).await;
    let lines = Command::of(&cluster, ADMIN).await.succeed(&["--dry-run"]).await;
    let changed = [
        r#"field spec (v1alpha1): required ["replicas","templateName"] -> ["templateName"]"#,
        "field spec.replicas (v1alpha1): default 2 -> 1",
        "field spec.replicas (v1alpha1): maximum 9.0 -> none",
        "field spec.replicas (v1alpha1): minimum 2.0 -> 1.0",
    ];
    let mut named: Vec<_> = lines.iter().filter(|line| line.starts_with("  ~")).collect();
    named.sort_unstable();
    assert_eq!(named, changed.map(|line| format!("  ~ {line}")).iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn z1_a_dry_run_creates_nothing() {
    let cluster = Cluster::start().await;
    let command = Command::of(&cluster, ADMIN).await;
    let lines = command.succeed(&["--dry-run"]).await;
    let expected =
        crds().into_iter().map(|definition| format!("{}: would be created", definition.name_any()));
    assert_eq!(lines, expected.collect::<Vec<_>>());
    assert_eq!(versions(&cluster.client().await).await, []);
}

#[tokio::test]
async fn z1_a_definition_that_the_api_server_rejects_keeps_all_others_from_being_written() {
    let cluster = Cluster::start().await;
    let client = cluster.client().await;
    let checkpoints = "checkpoints.agents.kruise.io";
    cluster.install_crds([edited(checkpoints, |spec| spec["scope"] = "Cluster".into())]).await;
    let (command, before) = (Command::of(&cluster, ADMIN).await, versions(&client).await);
    let errors = command.fail(&[], 1).await;
    assert!(errors.starts_with(&format!("error: cannot apply {checkpoints} at ")), "{errors}");
    assert!(errors.contains("spec.scope"), "{errors}");
    assert_eq!(versions(&client).await, before, "nothing was created, although the others are valid");
}

#[tokio::test]
async fn z1_a_definition_without_its_names_is_reported_and_not_called_established() {
    let cluster = Cluster::start().await;
    let other = edited(SANDBOXES, |spec| {
        spec["names"] = json!({
            "kind": "Box", "listKind": "BoxList", "plural": "boxes", "singular": "box", "shortNames": ["sbc"]
        });
    });
    let mut other = other;
    other.metadata.name = Some("boxes.agents.kruise.io".to_owned());
    cluster.install_crds([other]).await;
    let ended = Command::of(&cluster, ADMIN).await.run(&["--timeout", "10s"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let expected = "error: sandboxclaims.agents.kruise.io is not established within the time of --timeout: \
                    NamesAccepted is False: \"sbc\" is already in use\n";
    assert_eq!(ended.errors, expected);
}

#[tokio::test]
async fn z1_missing_permissions_are_named() {
    let cluster = Cluster::start().await;
    let errors = Command::of(&cluster, "someone-without-permissions").await.fail(&[], 1).await;
    let lines: Vec<_> = errors.lines().collect();
    assert!(lines[0].starts_with(&format!("error: cannot read {SANDBOXES}: ")), "{errors}");
    assert!(lines[0].contains("forbidden"), "{errors}");
    assert!(lines[1].contains("the verbs get, create and patch for customresourcedefinitions"), "{errors}");
}

#[tokio::test]
async fn z1_an_api_server_that_does_not_answer_is_named() {
    let cluster = Cluster::start().await;
    let mut kubeconfig = cluster.kubeconfig(ADMIN).await;
    let clusters = kubeconfig.clusters.iter_mut();
    for cluster in clusters.filter_map(|NamedCluster { cluster, .. }| cluster.as_mut()) {
        cluster.server = Some("https://127.0.0.1:1".to_owned());
    }
    let command = Command::with(&kubeconfig);
    let errors = command.fail(&[], 1).await;
    let begin = format!("error: cannot read {SANDBOXES} at https://127.0.0.1:1/: ");
    assert!(errors.starts_with(&begin) && errors.contains("Connection refused"), "{errors}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("https://{}", listener.local_addr().unwrap());
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some(silent.clone());
    }
    let errors = Command::with(&kubeconfig).fail(&["--timeout", "1s"], 1).await;
    let expected =
        format!("error: cannot read {SANDBOXES}: no answer from {silent}/ within the time of --timeout\n");
    assert_eq!(errors, expected);
}

#[tokio::test]
async fn z1_a_wrong_command_line_is_rejected_before_anything_is_sent() {
    let cluster = Cluster::start().await;
    let command = Command::of(&cluster, ADMIN).await;
    for (arguments, expected) in [
        (&["--force"][..], "unexpected argument '--force'"),
        (&["--timeout", "0s"], "expected a duration, such as 30s or 2m"),
        (&["--timeout", "5"], "expected a duration, such as 30s or 2m"),
        (&["more"], "unexpected argument 'more'"),
        (&["--kubeconfig", "/none/config"], "no usable kubeconfig: /none/config"),
        (&["--context", "none"], "it has no context \"none\""),
    ] {
        let errors = command.fail(arguments, 2).await;
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
    assert_eq!(versions(&cluster.client().await).await, []);
}

#[tokio::test]
async fn z1_a_claim_is_defaulted_and_its_rules_hold() {
    let cluster = Cluster::start().await;
    Command::of(&cluster, ADMIN).await.succeed(&[]).await;
    let (client, namespace) = (cluster.client().await, cluster.namespace("claims").await);
    let resource = ApiResource::erase::<SandboxClaim>(&());
    let claims: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &resource);
    let claim = |spec: Value| DynamicObject::new("a", &resource).data(json!({ "spec": spec }));
    let parameters = PostParams::default();
    for (spec, expected) in [
        (json!({}), "spec.templateName: Required value"),
        (json!({ "templateName": "p", "replicas": 0 }), "should be greater than or equal to 1"),
        (json!({ "templateName": "p", "claimTimeout": "999ms" }), "claimTimeout must be at least 1 second"),
        (
            json!({ "templateName": "p", "waitReadyTimeout": "0s" }),
            "waitReadyTimeout must be at least 1 second",
        ),
        (
            json!({ "templateName": "p", "inplaceUpdate": { "resources": { "limits": { "cpu": "much" } } } }),
            "spec.inplaceUpdate.resources.limits.cpu",
        ),
        (
            json!({ "templateName": "p", "dynamicVolumesMount": [
                { "mountPath": "/a", "pvName": "x" }, { "mountPath": "/a", "pvName": "y" }
            ] }),
            "spec.dynamicVolumesMount[1]: Duplicate value",
        ),
    ] {
        // The kind may be served a moment after its definition is established.
        let refused = eventually("the kind is served", SOON, async || {
            let error = claims.create(&parameters, &claim(spec.clone())).await.unwrap_err();
            ensure!(!matches!(&error, kube::Error::Api(status) if status.is_not_found()), "{error}");
            Ok(error.to_string())
        })
        .await;
        assert!(refused.contains(expected), "{expected} is not in {refused}");
    }
    let created = claims.create(&parameters, &claim(json!({ "templateName": "p" }))).await.unwrap();
    let defaulted = json!({
        "claimTimeout": "1m", "createOnNoStock": true, "replicas": 1, "skipInitRuntime": false, "templateName": "p",
        "ttlAfterCompleted": "60m", "waitReadyTimeout": "30s"
    });
    assert_eq!(created.data["spec"], defaulted);
    let change = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let more = claims.patch("a", &PatchParams::default(), &change(json!({ "replicas": 2 }))).await;
    assert!(more.unwrap_err().to_string().contains("replicas is immutable"));
    claims.patch("a", &PatchParams::default(), &change(json!({ "claimTimeout": "2h" }))).await.unwrap();
    claims.delete("a", &DeleteParams::default()).await.unwrap();
}
