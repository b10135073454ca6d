//! Several replicas, of which each sees the writes of the others a little later.

use std::time::Duration;

use anyhow::ensure;
use memory_apiserver::{FaultPlan, On, RequestFault, SeenRequest, Times, Verb, WatchFault};
use serde_json::json;

use super::client::Request;
use super::{Rig, options, serve};
use crate::support::{SOON, eventually};

#[tokio::test]
async fn e2b_5_1_a_sandbox_that_one_replica_has_given_is_found_on_all_at_once() {
    let rig = Rig::with_pool(3).await;
    let (other, _stop, manager) = serve(&rig.server, options()).await;
    let ask =
        async |method: &str, path: &str, key: &str| Request::new(method, path).key(key).send(other).await;
    eventually("the other replica answers", SOON, async || {
        let answer = ask("GET", "/v2/sandboxes", &rig.key).await;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await;
    let late = WatchFault::Hold(Duration::from_mins(5));
    rig.server.inject(&FaultPlan::event(On::kind("sandboxes"), Times::Always, late));
    let id = rig.create(json!({})).await;
    let path = format!("/sandboxes/{id}");
    let looks = |id: &str| {
        let name = id.split_once("--").map(|(_, name)| name.to_owned());
        let is_look = |request: &SeenRequest| request.verb == Verb::Get && request.name == name;
        rig.server.requests().iter().filter(|request| is_look(request)).count()
    };
    assert_eq!(ask("GET", &path, &rig.key).await.ok(200)["sandboxID"], json!(id));
    let before = looks(&id);
    assert_eq!(ask("GET", &path, &rig.key).await.ok(200)["sandboxID"], json!(id));
    assert_eq!(looks(&id), before, "it is known now");
    ask("GET", &path, &rig.foreign).await.error(404);
    assert_eq!(looks(&id), before, "nobody looks into the namespace of another team");
    ask("GET", &path, &rig.other).await.error(404);
    let body = json!({"timeout": 60});
    Request::new("POST", &format!("{path}/timeout")).json(&body).key(&rig.key).send(other).await.ok(204);
    ask("DELETE", &path, &rig.key).await.ok(204);
    ask("DELETE", &path, &rig.key).await.error(404);

    let id = rig.create(json!({})).await;
    let path = format!("/sandboxes/{id}");
    let broken = FaultPlan::request(On::request(Verb::Get, "sandboxes"), Times::Always, RequestFault::Drop);
    rig.server.inject(&broken);
    let unknown = ask("DELETE", &path, &rig.key).await;
    unknown.error(503);
    assert_eq!(unknown.header("should-retry"), Some("true"), "nobody knows that it is gone");
    rig.server.clear_faults();
    ask("DELETE", &path, &rig.key).await.ok(204);
    manager.abort();
}
