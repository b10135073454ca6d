//! `ApiServer::builder`, and what a test can see of a server afterwards.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::KubeConfigOptions;
use kube::{Api, CustomResource, ResourceExt as _};
use memory_apiserver::{ApiServer, BuildError, FaultPlan, On, RequestFault, Times, Verb};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A kind that only these tests use.
#[derive(CustomResource, Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[kube(group = "builder.test", version = "v1", kind = "Robot", namespaced, status = "RobotStatus")]
struct RobotSpec {
    arms: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct RobotStatus {
    busy: bool,
}

fn config_map(name: &str) -> ConfigMap {
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.to_owned());
    config_map
}

fn robot(namespace: &str, name: &str) -> Robot {
    let mut robot = Robot::new(name, RobotSpec { arms: 2 });
    robot.metadata.namespace = Some(namespace.to_owned());
    robot
}

#[tokio::test]
async fn objects_are_there_from_the_start_with_their_status_and_namespace() {
    let mut busy = robot("factory", "r");
    busy.status = Some(RobotStatus { busy: true });
    // The definition need not come first.
    let server = ApiServer::builder()
        .objects([busy])
        .objects([config_map("a"), config_map("b")])
        .crd::<Robot>()
        .start()
        .unwrap();
    let robots: Api<Robot> = Api::namespaced(server.client(), "factory");
    assert!(robots.get("r").await.unwrap().status.unwrap().busy);
    let config_maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    assert_eq!(config_maps.list(&ListParams::default()).await.unwrap().items.len(), 2);
    assert!(Api::<Namespace>::all(server.client()).get("factory").await.is_ok());
}

#[tokio::test]
async fn a_kind_that_is_not_built_in_is_served_by_its_type() {
    let server = ApiServer::builder().kind::<EndpointSlice>().kind::<ConfigMap>().start().unwrap();
    let slices: Api<EndpointSlice> = Api::default_namespaced(server.client());
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "unknown": 1,
    });
    let created =
        slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
    assert_eq!(created.endpoints.unwrap().len(), 1);
    let applied = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s"},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.2"]}],
    });
    let apply = PatchParams::apply("test").force();
    let applied = slices.patch("s", &apply, &Patch::Apply(applied)).await.unwrap();
    assert_eq!(applied.endpoints.unwrap()[0].addresses, ["10.0.0.2"]);
    let wrong = Patch::Merge(json!({"endpoints": "none"}));
    let refused = slices.patch("s", &PatchParams::default(), &wrong).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if (400..500).contains(&status.code)), "{refused}");
    let resources = server.client().list_api_group_resources("discovery.k8s.io/v1").await.unwrap();
    assert_eq!(resources.resources[0].name, "endpointslices");
    slices.delete("s", &DeleteParams::default()).await.unwrap();
    assert!(slices.get_opt("s").await.unwrap().is_none());
}

#[tokio::test]
async fn a_kind_with_a_status_has_it_as_a_subresource() {
    let server = ApiServer::builder().kind::<Deployment>().start().unwrap();
    let deployments: Api<Deployment> = Api::default_namespaced(server.client());
    let deployment = json!({
        "metadata": {"name": "d"}, "status": {"replicas": 7},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    });
    let deployment = serde_json::from_value(deployment).unwrap();
    let created = deployments.create(&PostParams::default(), &deployment).await.unwrap();
    assert_eq!((created.status, created.metadata.generation), (None, Some(1)));
    let status = Patch::Merge(json!({"status": {"replicas": 1}, "spec": {"replicas": 5}}));
    let patched = deployments.patch_status("d", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(patched.status.unwrap().replicas, Some(1));
    assert_eq!((patched.spec.replicas, patched.metadata.generation), (Some(1), Some(1)));
}

#[test]
fn what_cannot_be_served_or_created_is_an_error_that_names_it() {
    let error = ApiServer::builder().kind::<Scale>().start().unwrap_err();
    assert!(matches!(error, BuildError::Subresource { kind: "Scale" }), "{error}");
    let error = ApiServer::builder().objects([robot("default", "r")]).start().unwrap_err();
    assert_eq!(error.to_string(), "Robot default/r: its kind is not served; is its CRD loaded?");
    let invalid = json!({
        "apiVersion": "builder.test/v1", "kind": "Robot", "metadata": {"name": "r"}, "spec": {"arms": "two"},
    });
    let error = ApiServer::builder().crd::<Robot>().objects([invalid]).start().unwrap_err();
    assert!(error.to_string().contains("spec.arms"), "{error}");
    let error = ApiServer::builder().objects([std::collections::HashMap::from([((1, 2), 3)])]).start();
    assert!(matches!(error.unwrap_err(), BuildError::Json(_)));
}

#[tokio::test]
async fn the_clock_gives_every_time_in_objects() {
    let then = "2001-02-03T04:05:06.7Z";
    let server = ApiServer::builder()
        .clock(move || then.parse().unwrap())
        .crd::<Robot>()
        .objects([config_map("loaded")])
        .start()
        .unwrap();
    let config_maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut held = config_map("held");
    held.metadata.finalizers = Some(vec!["example.com/hold".to_owned()]);
    config_maps.create(&PostParams::default(), &held).await.unwrap();
    config_maps.delete("held", &DeleteParams::default()).await.unwrap();
    let mut times = 0;
    for path in [
        "/api/v1/configmaps",
        "/api/v1/namespaces",
        "/api/v1/services",
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    ] {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        let list: Value = server.client().request(request).await.unwrap();
        times += times_in(&list, "2001-02-03T04:05:06Z");
    }
    // 2 config maps with 3 times and owners, 4 namespaces, a service, a definition with 2 conditions.
    assert!(times >= 11, "{times}");
}

/// How many times are in a value, all of which must be this one.
fn times_in(value: &Value, expected: &str) -> usize {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| match field.as_str() {
                Some(text) if name == "time" || name.ends_with("Time") || name.ends_with("Timestamp") => {
                    assert_eq!(text, expected, "{name}");
                    1
                }
                _ => times_in(field, expected),
            })
            .sum(),
        Value::Array(items) => items.iter().map(|item| times_in(item, expected)).sum(),
        _ => 0,
    }
}

#[tokio::test]
async fn history_bounds_what_can_be_resumed() {
    let server = ApiServer::builder().history(2).start().unwrap();
    let config_maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let first = config_maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    for name in ["b", "c", "d"] {
        config_maps.create(&PostParams::default(), &config_map(name)).await.unwrap();
    }
    let version = first.resource_version().unwrap();
    let old = ListParams::default().at(&version).matching(kube::api::VersionMatch::Exact);
    let expired = config_maps.list(&old).await.unwrap_err();
    assert!(matches!(&expired, kube::Error::Api(status) if status.code == 410), "{expired}");
}

#[tokio::test]
async fn requests_tell_what_clients_sent_and_how_it_was_answered() {
    let dropped =
        FaultPlan::request(On::request(Verb::Delete, "configmaps"), Times::Always, RequestFault::DropAnswer);
    let server = ApiServer::builder().objects([config_map("a")]).faults(dropped).start().unwrap();
    assert_eq!(server.requests(), []);
    let config_maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    config_maps.get("a").await.unwrap();
    config_maps.get("none").await.unwrap_err();
    config_maps.delete("a", &DeleteParams::default()).await.unwrap_err();
    let own: Api<ConfigMap> = Api::default_namespaced(server.client_without_faults());
    own.get("a").await.unwrap_err();
    let denied: Api<Namespace> = Api::all(server.client_as("jane"));
    denied.list(&ListParams::default()).await.unwrap_err();
    server.client().apiserver_version().await.unwrap();

    let seen: Vec<_> = server
        .requests()
        .into_iter()
        .map(|request| {
            (request.verb, request.resource, request.namespace, request.name, request.user, request.status)
        })
        .collect();
    let of_map = |verb, name: &str, status| {
        let namespace = Some("default".to_owned());
        (verb, "configmaps".to_owned(), namespace, Some(name.to_owned()), "admin".to_owned(), status)
    };
    assert_eq!(
        seen,
        [
            of_map(Verb::Get, "a", Some(200)),
            of_map(Verb::Get, "none", Some(404)),
            of_map(Verb::Delete, "a", None),
            (Verb::List, "namespaces".to_owned(), None, None, "jane".to_owned(), Some(403)),
        ]
    );
}

#[tokio::test]
async fn a_server_listens_for_other_programs() {
    let server = ApiServer::builder().objects([config_map("a")]).start().unwrap();
    let serving = server.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(serving.kubeconfig(), &options).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let config_maps: Api<ConfigMap> = Api::default_namespaced(client);
    assert!(config_maps.get("a").await.is_ok());
    assert_eq!(server.requests().len(), 1);
    serving.stop().await;
    assert!(config_maps.get("a").await.is_err());
}
