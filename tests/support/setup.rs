//! What tests need on any API server before they begin: a namespace of their own, and our kinds.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, ObjectMeta};
use kube::runtime::{conditions, wait::Condition};
use kube::{Api, Client};

use super::{SOON, eventually};

/// Creates a namespace that no other test has and returns its name, which starts with `prefix`.
pub(crate) async fn create_namespace(client: Client, prefix: &str) -> String {
    let namespace = Namespace {
        metadata: ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() },
        ..Namespace::default()
    };
    let api: Api<Namespace> = Api::all(client);
    let created = api.create(&PostParams::default(), &namespace).await.expect("creating a namespace");
    created.metadata.name.expect("the name of a created namespace")
}

/// Applies CRDs and returns once the API server serves every version of each. Tests may do so concurrently.
pub(crate) async fn install_crds(client: Client, crds: impl IntoIterator<Item = CustomResourceDefinition>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("integration-tests").force();
    for crd in crds {
        let name = crd.metadata.name.clone().expect("the name of a CRD");
        api.patch(&name, &apply, &Patch::Apply(&crd)).await.expect("applying a CRD");
        eventually(&format!("{name} is served"), SOON, async || {
            let seen = api.get(&name).await?;
            ensure!(conditions::is_crd_established().matches_object(Some(&seen)), "not established");
            for version in seen.spec.versions.iter().filter(|version| version.served) {
                list_once(client.clone(), &seen, &version.name).await?;
            }
            Ok(())
        })
        .await;
    }
}

/// A version of a CRD is served when it can be listed without a limit: kube-apiserver answers a limited list before it
/// has filled the watch cache of a new kind, and until then all other lists and watches with 429.
async fn list_once(client: Client, crd: &CustomResourceDefinition, version: &str) -> Result<()> {
    let gvk = GroupVersionKind::gvk(&crd.spec.group, version, &crd.spec.names.kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, &crd.spec.names.plural);
    let api: Api<DynamicObject> = Api::all_with(client, &resource);
    api.list(&ListParams::default()).await.with_context(|| format!("listing {version}"))?;
    Ok(())
}
