//! Discovery: version, health, groups, resources, and documents of `OpenAPI`.

use anyhow::{Context, ensure};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde_json::{Value, json};

use super::answer::text;
use super::kinds::{any_object, definition};
use super::server::Server;
use crate::support::{SOON, eventually};

on_every_server![
    the_version_is_told,
    health_is_told,
    the_core_group_has_one_version,
    groups_are_listed,
    a_group_tells_its_versions,
    whoever_asks_for_more_gets_what_they_can_read,
    core_kinds_are_listed,
    kinds_of_other_groups_are_listed,
    custom_kinds_are_listed_with_all_their_names,
    verbs_are_listed_in_the_order_of_the_sort_of_kind,
    subresources_are_listed,
    kinds_of_a_group_are_listed_together,
    a_client_finds_a_kind,
    the_index_of_openapi_names_every_group,
    documents_tell_how_objects_are_patched,
    documents_tell_what_custom_kinds_look_like,
    documents_follow_the_definitions,
];

async fn the_version_is_told(server: &Server) {
    let version = server.get("/version").await.ok();
    assert_eq!(version["major"], "1");
    assert!(text(&version, "/gitVersion").starts_with("v1."), "{version}");
    for field in ["minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
        assert!(version[field].is_string(), "{field} in {version}");
    }
    assert_eq!(server.client().apiserver_version().await.unwrap().major, "1");
}

async fn health_is_told(server: &Server) {
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = server.get(path).await;
        assert_eq!((answer.code, answer.text().as_str()), (200, "ok"), "{path}");
        assert!(answer.header("content-type").starts_with("text/plain"));
    }
}

async fn the_core_group_has_one_version(server: &Server) {
    let versions = server.get("/api").await.ok();
    assert_eq!((text(&versions, "/kind"), &versions["versions"]), ("APIVersions", &json!(["v1"])));
}

async fn groups_are_listed(server: &Server) {
    let list = server.get("/apis").await.ok();
    assert_eq!((text(&list, "/kind"), text(&list, "/apiVersion")), ("APIGroupList", "v1"));
    for (name, version) in [
        ("apiextensions.k8s.io", "v1"),
        ("authorization.k8s.io", "v1"),
        ("coordination.k8s.io", "v1"),
        ("events.k8s.io", "v1"),
    ] {
        let group = list["groups"].as_array().unwrap().iter().find(|group| group["name"] == name);
        let version = json!({ "groupVersion": format!("{name}/{version}"), "version": version });
        let group = group.unwrap_or_else(|| panic!("no {name} in {list}"));
        assert!(group["versions"].as_array().unwrap().contains(&version), "{group}");
        assert_eq!(group["preferredVersion"], version);
    }
}

async fn a_group_tells_its_versions(server: &Server) {
    let group = "ordered.discovery.conformance.test";
    let mut definition = definition(group, "Thing", &json!({ "schema": any_object() }));
    let version = |name: &str, served: bool, stored: bool| {
        let schema = any_object();
        json!({ "name": name, "served": served, "storage": stored, "schema": schema })
    };
    definition["spec"]["versions"] = json!([
        version("v1alpha1", true, true),
        version("v1beta2", true, false),
        version("v1", true, false),
        version("v2", false, false),
        version("v10", true, false),
    ]);
    server.install(definition).await;
    let seen = eventually("the group is found", SOON, async || {
        let answer = server.get(&format!("/apis/{group}")).await;
        ensure!(answer.code == 200, "{answer:?}");
        Ok(answer.json())
    })
    .await;
    assert_eq!((text(&seen, "/kind"), text(&seen, "/name")), ("APIGroup", group));
    let versions: Vec<_> = seen["versions"].as_array().unwrap().iter().map(|v| text(v, "/version")).collect();
    assert_eq!(versions, ["v10", "v1", "v1beta2", "v1alpha1"], "the most mature and newest first");
    assert_eq!(seen["preferredVersion"]["groupVersion"], format!("{group}/v10"));
}

/// Clients such as kubectl ask for all resources at once, and accept the older form as an answer.
async fn whoever_asks_for_more_gets_what_they_can_read(server: &Server) {
    let form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for (path, old) in [("/api", "APIVersions"), ("/apis", "APIGroupList")] {
        let answer = server.http(http::Method::GET, path, &[("accept", form)], "").await;
        let aggregated = answer.header("content-type").contains("as=APIGroupDiscoveryList");
        let expected = if aggregated { "APIGroupDiscoveryList" } else { old };
        assert_eq!(text(&answer.ok(), "/kind"), expected, "{answer:?}");
    }
}

/// The resources of a group and version, once they are served.
async fn resources(server: &Server, path: &str) -> Value {
    let list = eventually(&format!("{path} is found"), SOON, async || {
        let answer = server.get(path).await;
        ensure!(answer.code == 200, "{answer:?}");
        Ok(answer.json())
    })
    .await;
    assert_eq!(text(&list, "/kind"), "APIResourceList");
    let group_version = path.trim_start_matches("/apis/").trim_start_matches("/api/");
    assert_eq!(text(&list, "/groupVersion"), group_version);
    list
}

/// A resource in short: kind, singular, namespaced, short names, verbs in order.
#[track_caller]
fn resource<'a>(list: &'a Value, name: &str) -> (&'a str, &'a str, bool, Vec<&'a str>, Vec<&'a str>) {
    let mut resources = list["resources"].as_array().unwrap().iter();
    let resource = resources.find(|resource| resource["name"] == name);
    let resource = resource.unwrap_or_else(|| panic!("no {name} in {list}"));
    let texts = |field: &str| {
        let mut texts: Vec<_> =
            resource[field].as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect();
        texts.sort_unstable();
        texts
    };
    let namespaced = resource["namespaced"].as_bool().unwrap();
    (
        text(resource, "/kind"),
        text(resource, "/singularName"),
        namespaced,
        texts("shortNames"),
        texts("verbs"),
    )
}

const ALL: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SUBRESOURCE: [&str; 3] = ["get", "patch", "update"];

async fn core_kinds_are_listed(server: &Server) {
    let list = resources(server, "/api/v1").await;
    for (name, kind, namespaced, short) in [
        ("configmaps", "ConfigMap", true, &["cm"][..]),
        ("secrets", "Secret", true, &[]),
        ("events", "Event", true, &["ev"]),
        ("serviceaccounts", "ServiceAccount", true, &["sa"]),
        ("pods", "Pod", true, &["po"]),
        ("services", "Service", true, &["svc"]),
        ("persistentvolumeclaims", "PersistentVolumeClaim", true, &["pvc"]),
        ("persistentvolumes", "PersistentVolume", false, &["pv"]),
        ("nodes", "Node", false, &["no"]),
    ] {
        let expected = (kind, name.trim_end_matches('s'), namespaced, short.to_vec(), ALL.to_vec());
        assert_eq!(resource(&list, name), expected);
    }
    let (kind, singular, namespaced, short, verbs) = resource(&list, "namespaces");
    assert_eq!((kind, singular, namespaced, short), ("Namespace", "namespace", false, vec!["ns"]));
    assert_eq!(verbs, ["create", "delete", "get", "list", "patch", "update", "watch"]);
    for name in ["namespaces", "pods", "services", "nodes", "persistentvolumes", "persistentvolumeclaims"] {
        assert_eq!(resource(&list, &format!("{name}/status")).4, SUBRESOURCE);
    }
}

async fn kinds_of_other_groups_are_listed(server: &Server) {
    for (path, name, kind, namespaced, short) in [
        ("/apis/coordination.k8s.io/v1", "leases", "Lease", true, &[][..]),
        ("/apis/events.k8s.io/v1", "events", "Event", true, &["ev"]),
    ] {
        let expected = (kind, name.trim_end_matches('s'), namespaced, short.to_vec(), ALL.to_vec());
        assert_eq!(resource(&resources(server, path).await, name), expected);
    }
    let list = resources(server, "/apis/apiextensions.k8s.io/v1").await;
    let (kind, singular, namespaced, short, verbs) = resource(&list, "customresourcedefinitions");
    assert_eq!((kind, singular, namespaced), ("CustomResourceDefinition", "customresourcedefinition", false));
    assert_eq!((short, verbs), (vec!["crd", "crds"], ALL.to_vec()));
    let list = resources(server, "/apis/authorization.k8s.io/v1").await;
    let (kind, _, namespaced, _, verbs) = resource(&list, "selfsubjectaccessreviews");
    assert_eq!((kind, namespaced, verbs), ("SelfSubjectAccessReview", false, vec!["create"]));
}

async fn custom_kinds_are_listed_with_all_their_names(server: &Server) {
    server.widgets().await;
    let list = resources(server, "/apis/conformance.test/v1").await;
    assert_eq!(resource(&list, "widgets"), ("Widget", "widget", true, vec!["wg"], ALL.to_vec()));
    let widgets = list["resources"].as_array().unwrap().iter().find(|r| r["name"] == "widgets").unwrap();
    assert_eq!(widgets["categories"], json!(["conformance"]));
    server.machines().await;
    let list = resources(server, "/apis/fleet.test/v1alpha1").await;
    assert_eq!(resource(&list, "machines"), ("Machine", "machine", true, vec!["mc"], ALL.to_vec()));
}

/// The verbs of a resource, in the order they are listed in.
fn listed_verbs<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    let resource = list["resources"].as_array().unwrap().iter().find(|resource| resource["name"] == name);
    resource.unwrap()["verbs"].as_array().unwrap().iter().map(|verb| verb.as_str().unwrap()).collect()
}

async fn verbs_are_listed_in_the_order_of_the_sort_of_kind(server: &Server) {
    let list = resources(server, "/api/v1").await;
    assert_eq!(listed_verbs(&list, "configmaps"), ALL);
    server.machines().await;
    let list = resources(server, "/apis/fleet.test/v1alpha1").await;
    let custom = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
    assert_eq!(listed_verbs(&list, "machines"), custom);
    assert_eq!(listed_verbs(&list, "machines/status"), SUBRESOURCE);
}

async fn subresources_are_listed(server: &Server) {
    server.widgets().await;
    let list = resources(server, "/apis/conformance.test/v1").await;
    assert_eq!(resource(&list, "widgets/status"), ("Widget", "", true, vec![], SUBRESOURCE.to_vec()));
    assert_eq!(resource(&list, "widgets/scale"), ("Scale", "", true, vec![], SUBRESOURCE.to_vec()));
    let scale = list["resources"].as_array().unwrap().iter().find(|r| r["name"] == "widgets/scale").unwrap();
    assert_eq!((text(scale, "/group"), text(scale, "/version")), ("autoscaling", "v1"));
}

async fn kinds_of_a_group_are_listed_together(server: &Server) {
    let group = "together.discovery.conformance.test";
    for (kind, scope) in [("Apple", "Namespaced"), ("Pear", "Cluster")] {
        let mut definition = definition(group, kind, &json!({ "schema": any_object() }));
        definition["spec"]["scope"] = json!(scope);
        server.install(definition).await;
    }
    let names = eventually("both are listed", SOON, async || {
        let list = resources(server, &format!("/apis/{group}/v1")).await;
        let resources = list["resources"].as_array().unwrap();
        ensure!(resources.len() == 2, "{list}");
        let mut names: Vec<_> =
            resources.iter().map(|r| (text(r, "/name").to_owned(), r["namespaced"] == true)).collect();
        names.sort();
        Ok(names)
    })
    .await;
    assert_eq!(names, [("apples".to_owned(), true), ("pears".to_owned(), false)]);
}

async fn a_client_finds_a_kind(server: &Server) {
    server.widgets().await;
    let kind = GroupVersionKind::gvk("conformance.test", "v1", "Widget");
    let (resource, capabilities) =
        eventually("the kind is found", SOON, async || Ok(pinned_kind(&server.client(), &kind).await?)).await;
    assert_eq!((resource.plural.as_str(), resource.api_version.as_str()), ("widgets", "conformance.test/v1"));
    assert_eq!(capabilities.scope, Scope::Namespaced);
    let mut subresources: Vec<_> =
        capabilities.subresources.iter().map(|(of, _)| of.plural.as_str()).collect();
    subresources.sort_unstable();
    assert_eq!(subresources, ["scale", "status"]);
}

/// The document of a group and version, once the index has it.
async fn document(server: &Server, key: &str) -> anyhow::Result<Value> {
    let index = server.get("/openapi/v3").await.ok();
    let url =
        index["paths"][key]["serverRelativeURL"].as_str().with_context(|| format!("no {key} in {index}"))?;
    let answer = server.get(url).await;
    ensure!(answer.code == 200, "{answer:?}");
    Ok(answer.json())
}

async fn the_index_of_openapi_names_every_group(server: &Server) {
    server.widgets().await;
    for key in [
        "api/v1",
        "apis/apiextensions.k8s.io/v1",
        "apis/coordination.k8s.io/v1",
        "apis/events.k8s.io/v1",
        "apis/conformance.test/v1",
    ] {
        let document = eventually(&format!("{key} is in the index"), SOON, || document(server, key)).await;
        assert!(text(&document, "/openapi").starts_with("3."), "{key}");
        assert!(document["paths"].is_object());
    }
}

async fn documents_tell_how_objects_are_patched(server: &Server) {
    server.widgets().await;
    for (key, path, kind, strategic) in [
        ("api/v1", "/api/v1/namespaces/{namespace}/configmaps/{name}", ("", "v1", "ConfigMap"), true),
        ("api/v1", "/api/v1/namespaces/{name}", ("", "v1", "Namespace"), true),
        (
            "apis/conformance.test/v1",
            "/apis/conformance.test/v1/namespaces/{namespace}/widgets/{name}",
            ("conformance.test", "v1", "Widget"),
            false,
        ),
    ] {
        let document = eventually(&format!("{key} is in the index"), SOON, || document(server, key)).await;
        let patch = &document["paths"][path]["patch"];
        let of = json!({ "group": kind.0, "version": kind.1, "kind": kind.2 });
        assert_eq!(patch["x-kubernetes-group-version-kind"], of, "{path}");
        let parameters: Vec<_> =
            patch["parameters"].as_array().unwrap().iter().map(|p| text(p, "/name")).collect();
        for parameter in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(parameters.contains(&parameter), "{parameter} of {path} in {parameters:?}");
        }
        let types = patch["requestBody"]["content"].as_object().unwrap();
        assert!(types.contains_key("application/merge-patch+json"), "{types:?}");
        assert_eq!(types.contains_key("application/strategic-merge-patch+json"), strategic, "{types:?}");
    }
}

/// The schema of a kind in a document.
fn schema_of<'a>(document: &'a Value, group: &str, kind: &str) -> anyhow::Result<&'a Value> {
    let of = json!({ "group": group, "version": "v1", "kind": kind });
    let schemas = document["components"]["schemas"].as_object().context("no schemas")?;
    let is = |schema: &&Value| {
        schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&of))
    };
    schemas.values().find(is).with_context(|| format!("no {of} in {:?}", schemas.keys()))
}

async fn documents_tell_what_custom_kinds_look_like(server: &Server) {
    server.widgets().await;
    let document = eventually("the document", SOON, || document(server, "apis/conformance.test/v1")).await;
    let schema = schema_of(&document, "conformance.test", "Widget").unwrap();
    let spec = &schema["properties"]["spec"]["properties"];
    assert_eq!(spec["mode"]["enum"], json!(["On", "Off"]));
    assert_eq!(spec["number"]["type"], "integer");
    assert_eq!(spec["tags"]["x-kubernetes-list-type"], "set");
    assert_eq!(spec["parts"]["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec["free"]["x-kubernetes-preserve-unknown-fields"], true);
    assert!(schema["properties"].get("metadata").is_some(), "{schema}");
}

async fn documents_follow_the_definitions(server: &Server) {
    let group = "followed.discovery.conformance.test";
    let name = format!("things.{group}");
    let with = |field: &str| {
        let spec = json!({ "type": "object", "properties": { field: { "type": "string" } } });
        let schema = json!({ "type": "object", "properties": { "spec": spec } });
        json!({ "schema": { "openAPIV3Schema": schema } })
    };
    server.install(definition(group, "Thing", &with("first"))).await;
    let has = async |field: &str| {
        eventually(&format!("{field} is documented"), SOON, async || {
            let document = document(server, &format!("apis/{group}/v1")).await?;
            let schema = schema_of(&document, group, "Thing")?;
            ensure!(schema["properties"]["spec"]["properties"].get(field).is_some(), "{schema}");
            Ok(())
        })
        .await;
    };
    has("first").await;
    let mut changed = server.crds().get(&name).await.ok();
    changed["spec"]["versions"] = definition(group, "Thing", &with("second"))["spec"]["versions"].clone();
    server.crds().put(&name, changed).await.ok();
    has("second").await;
    server.crds().delete(&name).await.ok();
    eventually("nothing is documented", SOON, async || {
        let index = server.get("/openapi/v3").await.ok();
        ensure!(index["paths"].get(format!("apis/{group}/v1")).is_none(), "{index}");
        Ok(())
    })
    .await;
}
