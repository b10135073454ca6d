//! `config/`, for those without Helm: equal to what the chart renders, and enough for a manager that becomes ready.

use serde_json::{Value, json};

use super::helm::{Helm, REGISTRY};
use super::release::{NAME, Release};
use super::{documents, identity, repository, server};
use crate::support::generated::assert_file;
use crate::support::{ADMIN, Kubectl};

/// Labels that only Helm needs, and the annotation that kustomize's names of ConfigMaps stand in for.
const HELM_ONLY: [&str; 4] =
    ["helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version", "checksum/config"];

fn without_helm(mut object: Value) -> Value {
    for place in ["/metadata", "/spec/template/metadata"] {
        let Some(metadata) = object.pointer_mut(place).and_then(Value::as_object_mut) else { continue };
        for field in ["labels", "annotations"] {
            let Some(entries) = metadata.get_mut(field).and_then(Value::as_object_mut) else { continue };
            entries.retain(|name, _| !HELM_ONLY.contains(&name.as_str()));
            if entries.is_empty() {
                metadata.remove(field);
            }
        }
    }
    object
}

fn yaml(objects: &[Value], kinds: &[&str]) -> String {
    let mut text = String::from("# Generated from charts/sandbox-manager by `just generate`. Do not edit.\n");
    for kind in kinds {
        let object = objects.iter().find(|object| object["kind"] == *kind).unwrap();
        text += "---\n";
        text += &serde_yaml::to_string(&without_helm(object.clone())).unwrap();
    }
    text
}

#[test]
#[ignore = "needs helm: tests/chart/run.sh"]
fn config_holds_what_the_chart_renders() {
    let mut objects = Helm::offline(NAME).template(NAME, &json!({})).unwrap();
    // `helm test` needs helm.
    objects.retain(|object| object["kind"] != "Pod");
    for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
        // kustomize sets the registry.
        let image = object.pointer_mut("/spec/template/spec/containers/0/image").unwrap();
        *image = json!(image.as_str().unwrap().trim_start_matches(REGISTRY).trim_start_matches('/'));
    }
    let rbac = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding"];
    let manager = ["Deployment", "Service", "NetworkPolicy"];
    assert_eq!(objects.len(), rbac.len() + manager.len() + 1, "and the ConfigMap, which kustomize makes");
    assert_file("config/rbac/rbac.yaml", &yaml(&objects, &rbac));
    assert_file("config/manager/manager.yaml", &yaml(&objects, &manager));
}

#[tokio::test]
#[ignore = "needs the control plane: tests/chart/run.sh"]
async fn kubectl_apply_k_is_enough_for_a_manager_that_becomes_ready() {
    let cp = server::without_our_kinds().await;
    let Some(kubectl) = Kubectl::configured(cp.kubeconfig(ADMIN), "default") else { return };
    let folder = |name: &str| repository(&format!("config/{name}")).to_str().unwrap().to_owned();
    kubectl.succeed(&["apply", "--kustomize", &folder("default")], "").await;
    kubectl.succeed(&["apply", "--filename", &folder("samples")], "").await;

    let helm = Helm::new(NAME, &cp.kubeconfig(ADMIN));
    let release = Release::adopt(&cp, NAME.to_owned(), helm).await;
    let mut process = release.start().await;
    process.becomes_ready().await;
    let sandboxes = process.samples().await.unwrap();
    assert!(!sandboxes.all("sandbox_manager_cache_objects").is_empty());
    assert_eq!(process.terminate().await.code(), Some(0));

    // Applied again, it changes nothing.
    let again = kubectl.succeed(&["apply", "--kustomize", &folder("default")], "").await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
}

#[tokio::test]
#[ignore = "needs the control plane: tests/chart/run.sh"]
async fn the_kustomization_holds_every_crd_and_a_config_map_named_by_its_content() {
    let cp = server::shared().await;
    let Some(kubectl) = Kubectl::configured(cp.kubeconfig(ADMIN), "default") else { return };
    let built = kubectl.succeed(&["kustomize", repository("config/default").to_str().unwrap()], "").await;
    let objects = documents(&built);
    let crds = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition").count();
    assert_eq!(crds, sandbox_manager::api::v1alpha1::crds().len());
    let config = super::the(&objects, "ConfigMap");
    let (_, name) = identity(config);
    assert!(name.starts_with("sandbox-manager-config-"), "{name}");
    let volume = super::the(&objects, "Deployment").pointer("/spec/template/spec/volumes/0/configMap/name");
    assert_eq!(volume, Some(&json!(name)));
    let namespaced = objects.iter().filter(|object| !object["metadata"]["namespace"].is_null());
    for object in namespaced {
        assert_eq!(object["metadata"]["namespace"], NAME, "{:?}", identity(object));
    }
}
