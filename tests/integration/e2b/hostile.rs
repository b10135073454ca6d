//! Input that somebody has made to do harm: bodies, paths and queries of clients; statuses and labels of objects.

use anyhow::ensure;
use kube::Api;
use sandbox_manager::api::v1alpha1::Sandbox;
use serde_json::{Value, json};

use super::client::Request;
use super::{POOL, Rig, TEAM};
use crate::support::{SOON, eventually};

#[tokio::test]
async fn numbers_depths_and_doubles_that_no_client_means_are_400() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 600})).await;
    let deep = format!(r#"{{"templateID":"x","network":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let numbers = [
        "1e400",
        "NaN",
        "Infinity",
        "-1",
        "-0.5",
        "1e3",
        "60.0",
        "0x3c",
        "9223372036854775808",
        "true",
        "\"60\"",
        "[60]",
    ];
    let of_number = |member: &str| numbers.map(|number| format!(r#"{{"{member}":{number}}}"#));
    let mut requests = Vec::new();
    for number in numbers {
        let body = format!(r#"{{"templateID":"{POOL}","timeout":{number}}}"#);
        requests.push(Request::new("POST", "/v2/sandboxes").body(body));
    }
    for (path, member) in
        [("timeout", "timeout"), ("connect", "timeout"), ("resume", "timeout"), ("refreshes", "duration")]
    {
        requests.extend(
            of_number(member).map(|body| Request::new("POST", &format!("/sandboxes/{id}/{path}")).body(body)),
        );
    }
    for body in [
        deep.as_str(),
        &format!(r#"{{"templateID":"{POOL}","templateID":"other"}}"#),
        &format!(r#"{{"templateID":"{POOL}","timeout":60,"timeout":61}}"#),
        &format!(r#"{{"templateID":"{POOL}","metadata":{{"a":{{}}}}}}"#),
        &format!(r#"{{"templateID":"{POOL}","metadata":{{"a":"\ud800"}}}}"#),
        &format!(r#"{{"templateID":"{POOL}","envVars":{{"A\u0000":"x"}}}}"#),
        &format!(r#"{{"templateID":"{POOL}","envVars":{{"A":"x\u0000"}}}}"#),
        &format!(
            r#"{{"templateID":"{POOL}","metadata":{{"e2b.agents.kruise.io/wait-ready-timeout-seconds":"1e9"}}}}"#
        ),
        &format!(
            r#"{{"templateID":"{POOL}","metadata":{{"e2b.agents.kruise.io/wait-ready-timeout-seconds":"99999999999999999999"}}}}"#
        ),
        &format!("\u{feff}{{\"templateID\":\"{POOL}\"}}"),
        "{\"templateID\":",
    ] {
        requests.push(Request::new("POST", "/v2/sandboxes").body(body));
    }
    for query in [
        "limit=99999999999999999999",
        "limit=NaN",
        "limit=-1",
        "order=up",
        "nextToken=%00",
        "nextToken=AAAA",
        "startedAfter=999999999-01-01T00:00:00Z",
        "startedAfter=now",
        "state=dead",
        "metadata=%25",
        "metadata=a",
    ] {
        requests.push(Request::new("GET", &format!("/v2/sandboxes?{query}")));
    }
    for body in [
        r#"{"name":"a","name":"b"}"#,
        r#"{"name":"a","quota":{"all":{"sandbox.count":1e99}}}"#,
        r#"{"name":{}}"#,
    ] {
        requests.push(Request::new("POST", "/api-keys").body(body));
    }
    for request in requests {
        let answer = rig.send(request.clone()).await;
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
        let message = answer.error(400)["message"].as_str().unwrap().to_owned();
        assert!(message.len() < 1000, "{message}");
    }
    assert_eq!(rig.detail(&id).await["state"], "running");
    Rig::assert_near(rig.seconds_left(&id).await, 600);
}

#[tokio::test]
async fn ids_with_slashes_and_control_characters_are_unknown_and_reach_no_header() {
    let rig = Rig::start(|_| {}).await;
    for id in [
        "%2f",
        "..%2f..%2fapi",
        "%0d%0aX-Evil:%201",
        "%00",
        "%e2%80%ae",
        "a%2fb",
        "%25%32%66",
        "{id}",
        "*",
        "-",
        "--",
        "%c3%28",
    ] {
        for path in
            [format!("/sandboxes/{id}"), format!("/templates/{id}"), format!("/templates/aliases/{id}")]
        {
            let answer = rig.get(&path).await;
            answer.error(404);
            assert_eq!(answer.header("x-evil"), None, "{path}");
        }
        rig.delete(&format!("/api-keys/{id}")).await.error(404);
        rig.post("/v2/sandboxes", json!({"templateID": id})).await.error(404);
    }
}

#[tokio::test]
async fn metadata_and_names_of_any_characters_come_back_as_they_were() {
    let rig = Rig::with_pool(1).await;
    let odd = "a\u{0}\r\nX: y\u{202e}\u{1b}[31m\"\\</script>";
    let metadata = json!({odd: odd, "$(id)": "`id`", "{{": "${jndi:ldap://x}"});
    let id = rig.create(json!({"metadata": metadata})).await;
    assert_eq!(rig.detail(&id).await["metadata"], metadata);
    let made = rig.post("/api-keys", json!({"name": odd})).await.ok(201);
    assert_eq!(made["name"], odd);
}

/// A member of a pool that no controller touches, with an address that its status claims.
fn member(name: &str, address: &str) -> Value {
    let labels = json!({
        "agents.kruise.io/sandbox-pool": "forged", "agents.kruise.io/sandbox-template": "forged",
        "agents.kruise.io/sandbox-claimed": "false", "agents.kruise.io/template-hash": "new",
    });
    let owner = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": "forged", "uid": "forged-uid",
        "controller": true, "blockOwnerDeletion": true,
    });
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "PodReady", "message": "x".repeat(100_000),
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox",
        "metadata": {
            "namespace": TEAM, "name": name, "uid": format!("uid-{name}"), "generation": 1, "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {"template": {"metadata": {"labels": labels}, "spec": pod()}},
        "status": {
            "phase": "Running", "observedGeneration": 1, "sandboxIp": address, "podInfo": {"podIP": address},
            "conditions": [ready],
        },
    })
}

fn pod() -> Value {
    json!({"containers": [{"name": "a", "image": "busybox", "ports": [{"containerPort": 49983}]}]})
}

#[tokio::test]
async fn a_status_with_an_address_of_no_pod_gets_no_request_and_fails_the_claim() {
    let rig = Rig::start(|options| options.lifecycle.enabled = false).await;
    let set = json!({
        "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet",
        "metadata": {"namespace": TEAM, "name": "forged", "uid": "forged-uid", "generation": 1},
        "spec": {"replicas": 0, "template": {"spec": pod()}},
        "status": {"updateRevision": "new", "availableReplicas": 1, "replicas": 1},
    });
    rig.server.force("sandboxsets.agents.kruise.io", set);
    // Whoever listens here would get the request, if the process sent one.
    let trap = tokio::net::TcpListener::bind("127.0.0.1:49983").await;
    let metadata = json!({"e2b.agents.kruise.io/create-on-no-stock": "false"});
    let body = json!({"templateID": "forged", "envVars": {"A": "top-secret"}, "metadata": metadata});
    for (number, address) in
        ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "localhost"]
            .into_iter()
            .enumerate()
    {
        rig.server.force("sandboxes.agents.kruise.io", member(&format!("forged-{number}"), address));
        let refused = eventually("the member is seen", SOON, async || {
            let answer = rig.post("/v2/sandboxes", body.clone()).await;
            ensure!(answer.status != 503 && answer.status != 404, "{answer:?}");
            Ok(answer)
        })
        .await;
        let error = refused.error(500);
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("is not"), "{address}: {text}");
        assert!(!refused.text.contains("top-secret"), "{}", refused.text);
        assert_eq!(refused.header("should-retry"), Some("false"));
        eventually("what was claimed is removed", SOON, async || {
            let left = rig.claimed().await.len();
            ensure!(left == 0, "{left}");
            Ok(())
        })
        .await;
    }
    // Another test of this machine may have the port.
    if let Ok(trap) = trap {
        let connection = tokio::time::timeout(std::time::Duration::from_millis(200), trap.accept()).await;
        assert!(connection.is_err(), "nobody has connected");
    }
}

/// Creates an object as somebody who may write Sandboxes.
async fn forge(rig: &Rig, namespace: &str, name: &str, id: &str, owner: &str) {
    let sandbox = json!({
        "metadata": {
            "name": name,
            "labels": {"agents.kruise.io/sandbox-claimed": "true", "agents.kruise.io/sandbox-id": id},
            "annotations": {
                "agents.kruise.io/owner": owner, "agents.kruise.io/lock": "l",
                "agents.kruise.io/claim-timestamp": "never", "e2b.agents.kruise.io/metadata": "{broken",
                "agents.kruise.io/runtime-access-token": "theirs",
            },
        },
        "spec": {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
    });
    let sandboxes: Api<Sandbox> = Api::namespaced(rig.server.client_without_faults(), namespace);
    let sandbox = serde_json::from_value(sandbox).unwrap();
    sandboxes.create(&kube::api::PostParams::default(), &sandbox).await.unwrap();
}

#[tokio::test]
async fn a_forged_owner_in_another_namespace_reaches_no_caller() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    let owner = rig.sandbox(&id).await.owner().unwrap().to_owned();
    forge(&rig, "team-b", "forged", &id, &owner).await;
    forge(&rig, TEAM, "seen", "seen-id", &owner).await;
    // In the namespace of the team the annotation is the owner, so this one shows that both were seen.
    eventually("the forged ones are seen", SOON, async || {
        let answer = rig.get("/sandboxes/seen-id").await;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await;
    let listed = rig.get("/v2/sandboxes").await.ok(200);
    let mut ids: Vec<_> =
        listed.as_array().unwrap().iter().map(|one| one["sandboxID"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let mut expected = vec!["seen-id", id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let detail = rig.detail(&id).await;
    assert_eq!((&detail["envdAccessToken"], &detail["metadata"]), (&Value::Null, &json!({})));
    // An administrator does not get it either: it has another owner.
    Request::new("GET", "/sandboxes/forged").key(&rig.admin).send(rig.address).await.error(404);
    rig.delete(&format!("/sandboxes/{id}")).await.ok(204);
    let theirs: Api<Sandbox> = Api::namespaced(rig.server.client_without_faults(), "team-b");
    assert!(theirs.get("forged").await.unwrap().metadata.deletion_timestamp.is_none(), "it was not deleted");
}
