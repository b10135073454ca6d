//! Sandboxes that exist: get, kill, timeout, pause, connect, resume, refresh (e2b 5.1, rows 2, 3 and 5 to 9).

use anyhow::ensure;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Rig;
use super::client::Request;
use crate::support::{SOON, eventually};

#[tokio::test]
async fn e2b_3_a_second_kill_is_404_and_a_killed_sandbox_is_gone() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    let path = format!("/sandboxes/{id}");
    assert_eq!(rig.delete(&path).await.ok(204), Value::Null);
    rig.delete(&path).await.error(404);
    rig.get(&path).await.error(404);
    assert_eq!(rig.get("/v2/sandboxes").await.ok(200), json!([]));
}

#[tokio::test]
async fn e2b_3_failed_and_unready_ones_are_really_deleted() {
    let rig = Rig::with_pool(2).await;
    for status in [
        json!({"phase": "Failed"}),
        json!({"phase": "Running", "conditions": [{
            "type": "Ready", "status": "False", "reason": "PodReady", "message": "",
            "lastTransitionTime": "2030-01-01T00:00:00Z",
        }]}),
    ] {
        let id = rig.create(json!({})).await;
        let name = id.split_once("--").unwrap().1;
        let change = Patch::Merge(json!({"status": status}));
        rig.sandboxes().patch_status(name, &PatchParams::default(), &change).await.unwrap();
        let path = format!("/sandboxes/{id}");
        eventually("it is killed", SOON, async || {
            let answer = rig.delete(&path).await;
            ensure!(answer.status == 204, "{answer:?}");
            Ok(())
        })
        .await;
        eventually("it is gone", SOON, async || {
            ensure!(rig.sandboxes().get_opt(name).await?.is_none(), "it is there");
            Ok(())
        })
        .await;
    }
}

#[tokio::test]
async fn e2b_5_0_a_sandbox_of_another_key_is_not_there() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    for key in [&rig.other, &rig.foreign, &rig.admin] {
        for (method, path, body) in [
            ("GET", format!("/sandboxes/{id}"), ""),
            ("DELETE", format!("/sandboxes/{id}"), ""),
            ("POST", format!("/sandboxes/{id}/timeout"), r#"{"timeout":60}"#),
            ("POST", format!("/sandboxes/{id}/pause"), ""),
            ("POST", format!("/v2/sandboxes/{id}/connect"), ""),
        ] {
            Request::new(method, &path).body(body).key(key).send(rig.address).await.error(404);
        }
        let list = Request::new("GET", "/v2/sandboxes").key(key).send(rig.address).await;
        assert_eq!(list.ok(200), json!([]));
    }
    assert_eq!(rig.detail(&id).await["state"], "running");
}

#[tokio::test]
async fn e2b_5_a_timeout_is_set_longer_and_shorter() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 60})).await;
    let path = format!("/sandboxes/{id}/timeout");
    for seconds in [600, 30] {
        rig.post(&path, json!({"timeout": seconds})).await.ok(204);
        Rig::assert_near(rig.seconds_left(&id).await, seconds);
    }
    for body in
        [json!({}), json!({"timeout": -1}), json!({"timeout": null}), json!({"timeout": 1_000_000_000})]
    {
        rig.post(&path, body).await.error(400);
    }
}

#[tokio::test]
async fn e2b_5_both_times_of_a_sandbox_that_pauses_at_its_end_move() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 60, "autoPause": true, "autoResume": {"enabled": true}})).await;
    assert_eq!(rig.detail(&id).await["lifecycle"], json!({"autoResume": true, "onTimeout": "pause"}));
    let times = |sandbox: sandbox_manager::api::v1alpha1::Sandbox| {
        let spec = sandbox.spec;
        (spec.pause_time.unwrap().timestamp(), spec.shutdown_time.unwrap().timestamp())
    };
    let before = times(rig.sandbox(&id).await);
    rig.post(&format!("/sandboxes/{id}/timeout"), json!({"timeout": 600})).await.ok(204);
    let after = times(rig.sandbox(&id).await);
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    Rig::assert_near(rig.seconds_left(&id).await, 600);
}

#[tokio::test]
async fn e2b_5_one_that_never_ends_becomes_timed() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"metadata": {"e2b.agents.kruise.io/never-timeout": "true"}})).await;
    assert_eq!(rig.detail(&id).await["endAt"], "9999-12-31T23:59:59Z");
    rig.post(&format!("/sandboxes/{id}/timeout"), json!({"timeout": 60})).await.ok(204);
    Rig::assert_near(rig.seconds_left(&id).await, 60);
}

#[tokio::test]
async fn e2b_6_a_pause_takes_any_body_and_a_second_one_is_409() {
    let rig = Rig::with_pool(3).await;
    for body in ["", "{}", r#"{"memory":false,"requireHealthyGuest":true}"#] {
        let id = rig.create(json!({"timeout": 60})).await;
        let path = format!("/sandboxes/{id}/pause");
        rig.send(Request::new("POST", &path).body(body)).await.ok(204);
        assert_eq!(rig.detail(&id).await["state"], "paused");
        rig.send(Request::new("POST", &path).body(body)).await.error(409);
        rig.post(&format!("/sandboxes/{id}/timeout"), json!({"timeout": 60})).await.error(409);
        let end = rig.sandbox(&id).await.shutdown_at().unwrap();
        assert!(end.as_second() - Timestamp::now().as_second() > 3600, "its time does not run: {end}");
        rig.delete(&format!("/sandboxes/{id}")).await.ok(204);
    }
}

#[tokio::test]
async fn e2b_6_two_pauses_at_once_pause_once() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    let path = format!("/sandboxes/{id}/pause");
    let (one, two) = tokio::join!(rig.post(&path, json!({})), rig.post(&path, json!({})));
    let statuses = [one.status, two.status];
    assert!(statuses.contains(&204), "{statuses:?}");
    // The second one has waited for the first, or came after it.
    assert!(statuses.iter().all(|status| [204, 409].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn e2b_7_connect_extends_a_running_one_and_resumes_a_paused_one() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 60})).await;
    for (prefix, body, seconds) in [
        ("/v2", r#"{"timeout":30}"#, 60),
        ("", r#"{"timeout":120}"#, 120),
        ("/v2", "", 300),
        ("/v2", "{}", 300),
    ] {
        let request = Request::new("POST", &format!("{prefix}/sandboxes/{id}/connect")).body(body);
        let answer = rig.send(request).await.ok(200);
        assert_eq!(answer["sandboxID"], id);
        Rig::assert_near(rig.seconds_left(&id).await, seconds);
    }
    rig.post(&format!("/sandboxes/{id}/pause"), json!({})).await.ok(204);
    let path = format!("/v2/sandboxes/{id}/connect");
    rig.post(&path, json!({"timeout": 0})).await.error(400);
    let answer = rig.post(&path, json!({"timeout": 400, "memory": false})).await.ok(201);
    assert_eq!(answer["sandboxID"], id);
    let detail = rig.detail(&id).await;
    assert_eq!((&detail["state"], &detail["lifecycle"]["onTimeout"]), (&json!("running"), &json!("kill")));
    Rig::assert_near(rig.seconds_left(&id).await, 400);
}

#[tokio::test]
async fn e2b_7_two_connects_at_once_both_succeed_and_the_longer_end_wins() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    rig.post(&format!("/sandboxes/{id}/pause"), json!({})).await.ok(204);
    let path = format!("/v2/sandboxes/{id}/connect");
    let (one, two) =
        tokio::join!(rig.post(&path, json!({"timeout": 300})), rig.post(&path, json!({"timeout": 900})));
    for answer in [one, two] {
        assert!([200, 201].contains(&answer.status), "{answer:?}");
    }
    Rig::assert_near(rig.seconds_left(&id).await, 900);
}

#[tokio::test]
async fn e2b_8_resume_is_for_paused_ones_only() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    let path = format!("/sandboxes/{id}/resume");
    rig.post(&path, json!({"timeout": 60})).await.error(409);
    rig.post(&format!("/sandboxes/{id}/pause"), json!({})).await.ok(204);
    let answer = rig.post(&path, json!({"timeout": 60, "autoPause": false})).await.ok(201);
    assert_eq!(answer["sandboxID"], id);
}

#[tokio::test]
async fn e2b_9_a_refresh_only_extends() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 300})).await;
    let path = format!("/sandboxes/{id}/refreshes");
    rig.post(&path, json!({"duration": 60})).await.ok(204);
    Rig::assert_near(rig.seconds_left(&id).await, 300);
    rig.post(&path, json!({"duration": 1800})).await.ok(204);
    Rig::assert_near(rig.seconds_left(&id).await, 1800);
    for body in [json!({"duration": 3601}), json!({"duration": 0}), json!({"duration": "x"})] {
        rig.post(&path, body).await.error(400);
    }
}

#[tokio::test]
async fn e2b_12_metrics_and_logs_of_an_own_sandbox_are_never_404() {
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({})).await;
    assert_eq!(rig.get(&format!("/sandboxes/{id}/metrics?start=1&end=2")).await.ok(200), json!([]));
    let logs = rig.get(&format!("/sandboxes/{id}/logs")).await.ok(200);
    assert_eq!(logs, json!({"logs": [], "logEntries": []}));
}

#[tokio::test]
async fn e2b_2_one_whose_time_is_over_is_404() {
    // No controller deletes it.
    let rig = Rig::with_pool(1).await;
    let id = rig.create(json!({"timeout": 1})).await;
    eventually("its time is over", SOON, async || {
        let answer = rig.get(&format!("/sandboxes/{id}")).await;
        ensure!(answer.status == 404, "{answer:?}");
        Ok(())
    })
    .await;
    rig.post(&format!("/v2/sandboxes/{id}/connect"), json!({})).await.error(404);
    assert_eq!(rig.get("/v2/sandboxes").await.ok(200), json!([]));
}

#[tokio::test]
async fn e2b_10_templates_are_the_sets_of_the_team() {
    let rig = Rig::with_pool(1).await;
    let pod = json!({"containers": [{"name": "a", "image": "b", "resources": {
        "limits": {"cpu": "1500m", "memory": "1Gi"},
    }}]});
    rig.pool_of("big", 0, pod).await;
    let list = rig.get("/templates").await.ok(200);
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|template| &template["templateID"]).collect();
    assert_eq!(ids, ["big", "code-interpreter"]);
    let required = [
        "templateID",
        "buildID",
        "cpuCount",
        "memoryMB",
        "diskSizeMB",
        "public",
        "aliases",
        "names",
        "createdAt",
        "updatedAt",
        "createdBy",
        "lastSpawnedAt",
        "spawnCount",
        "buildCount",
        "envdVersion",
        "buildStatus",
    ];
    let big = rig.get("/templates/big").await.ok(200);
    assert!(required.iter().all(|member| big.get(member).is_some()), "{big}");
    assert_eq!((&big["cpuCount"], &big["memoryMB"]), (&json!(2), &json!(1024)));
    let alias = rig.get("/templates/aliases/default%2Fbig%3Adefault").await.ok(200);
    assert_eq!(alias, json!({"templateID": "big", "public": false}));
    for path in ["/templates/none", "/templates/aliases/none", "/templates/aliases/team-b%2Fbig"] {
        rig.get(path).await.error(404);
    }
    let foreign = Request::new("GET", "/templates").key(&rig.foreign).send(rig.address).await;
    assert_eq!(foreign.ok(200), json!([]));
}
