//! Several replicas, of which each sees the writes of the others a little later.

use std::time::Duration;

use anyhow::ensure;
use memory_apiserver::{FaultPlan, On, Times, Verb, WatchFault};
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
    let looks = || {
        let requests = rig.server.requests().into_iter();
        requests.filter(|request| request.resource == "sandboxes" && request.verb == Verb::Get).count()
    };
    ask("GET", &path, &rig.foreign).await.error(404);
    ask("GET", &path, &rig.other).await.error(404);
    assert_eq!(ask("GET", &path, &rig.key).await.ok(200)["sandboxID"], json!(id));
    let before = looks();
    assert_eq!(ask("GET", &path, &rig.key).await.ok(200)["sandboxID"], json!(id));
    assert_eq!(looks(), before, "it is known now");
    let body = json!({"timeout": 60});
    Request::new("POST", &format!("{path}/timeout")).json(&body).key(&rig.key).send(other).await.ok(204);
    ask("DELETE", &path, &rig.key).await.ok(204);
    ask("DELETE", &path, &rig.key).await.error(404);
    manager.abort();
}
