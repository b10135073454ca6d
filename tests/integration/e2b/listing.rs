//! Lists (e2b 2.5 and 5.1, row 4).

use serde_json::{Value, json};

use super::Rig;

fn ids(list: &Value) -> Vec<String> {
    let ids =
        list.as_array().unwrap().iter().map(|sandbox| sandbox["sandboxID"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn e2b_4_filters_pages_and_orders_agree() {
    let rig = Rig::with_pool(3).await;
    let mut made = Vec::new();
    for number in 0..3 {
        let metadata = json!({"run": "1", "user id": "a b@c/d=e&f", "n": number.to_string()});
        made.push(rig.create(json!({"metadata": metadata})).await);
    }
    made.sort();
    let all = ids(&rig.get("/v2/sandboxes?metadata=run%3D1").await.ok(200));
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(sorted, made);
    let odd = "metadata=run%3D1%26user%252520id%3Da%252520b%252540c%25252Fd%25253De%252526f";
    assert_eq!(ids(&rig.get(&format!("/v2/sandboxes?{odd}")).await.ok(200)), all);
    let none = "/v2/sandboxes?metadata=run%3D1%26user%252520id%3Da%252520b";
    assert_eq!(rig.get(none).await.ok(200), json!([]));

    for order in ["desc", "asc"] {
        let (mut paged, mut token) = (Vec::new(), String::new());
        for page in 1..=3 {
            let path = format!("/v2/sandboxes?order={order}&limit=1&metadata=run%3D1{token}");
            let answer = rig.get(&path).await;
            paged.extend(ids(&answer.ok(200)));
            match answer.header("x-next-token") {
                Some(next) => token = format!("&nextToken={next}"),
                None => assert_eq!(page, 3, "the last page is full, and has no token"),
            }
            if page == 1 {
                let other = if order == "asc" { "desc" } else { "asc" };
                rig.get(&format!("/v2/sandboxes?order={other}&metadata=run%3D1{token}")).await.error(400);
                rig.get(&format!("/v2/sandboxes?order={order}{token}")).await.error(400);
            }
        }
        let mut expected = all.clone();
        if order == "asc" {
            expected.reverse();
        }
        assert_eq!(paged, expected, "{order}");
    }

    rig.post(&format!("/sandboxes/{}/pause", made[0]), json!({})).await.ok(204);
    let states = async |query: &str| ids(&rig.get(&format!("/v2/sandboxes?{query}")).await.ok(200)).len();
    assert_eq!(states("state=paused").await, 1);
    assert_eq!(states("state=running").await, 2);
    assert_eq!(states("state=running%2Cpaused").await, 3);
    assert_eq!(states("state=").await, 3);
    assert_eq!(states("template=code-interpreter").await, 3);
    assert_eq!(states("template=none").await, 0);
    assert_eq!(states("startedAfter=2026-01-01T00%3A00%3A00%2B00%3A00").await, 3);
    assert_eq!(states("startedAfter=2999-01-01T00%3A00%3A00%2B00%3A00").await, 0);
    let running = rig.get("/sandboxes").await;
    assert_eq!((ids(&running.ok(200)).len(), running.header("x-total-running")), (2, Some("2")));
    let listed = &running.json()[0];
    for member in ["envdAccessToken", "domain", "network", "lifecycle", "allowInternetAccess"] {
        assert!(listed.get(member).is_none(), "{listed}");
    }
}
