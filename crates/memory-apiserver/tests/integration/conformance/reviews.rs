//! Reviews of a user's own name and rights. The module `access` has the reviews of single actions.

use serde_json::{Value, json};

use super::answer::{Answer, text};
use super::server::{Server, User};

on_every_server![
    users_are_told_who_they_are,
    administrators_may_do_everything_everywhere,
    known_users_may_look_around,
    roles_are_listed_where_they_hold,
    a_rules_review_has_a_namespace,
    reviews_are_only_created,
];

const SUBJECT: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const RULES: &str = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
const RBAC: &str = "rbac.authorization.k8s.io/v1";
const ASKER: &str = "asker-of-conformance";

async fn review_rules(server: &Server, namespace: &str) -> Answer {
    let reviews = server.at(RULES, "authorization.k8s.io/v1", "SelfSubjectRulesReview");
    reviews.create(json!({ "spec": { "namespace": namespace } })).await
}

/// The rules of a review. They and their items are sorted, because servers list them in any order.
fn sorted(review: &Value, which: &str) -> Vec<String> {
    let rules = review["status"][which].as_array().unwrap_or_else(|| panic!("no {which} in {review}"));
    let sorted = rules.iter().map(|rule| {
        let mut rule = rule.clone();
        for items in rule.as_object_mut().unwrap().values_mut() {
            items.as_array_mut().unwrap().sort_by_key(ToString::to_string);
        }
        rule.to_string()
    });
    let mut sorted: Vec<_> = sorted.collect();
    sorted.sort();
    sorted
}

async fn users_are_told_who_they_are(server: &Server) {
    let asker = server.asked_by(User::Named(ASKER)).await;
    let reviews = asker.at(SUBJECT, "authentication.k8s.io/v1", "SelfSubjectReview");
    let review = reviews.create(json!({})).await.created();
    assert_eq!(text(&review, "/kind"), "SelfSubjectReview");
    let info = &review["status"]["userInfo"];
    assert_eq!(text(info, "/username"), ASKER);
    assert_eq!(info["groups"], json!(["system:authenticated"]));
    assert!(!text(&review, "/metadata/creationTimestamp").is_empty());
}

async fn administrators_may_do_everything_everywhere(server: &Server) {
    let review = review_rules(server, "default").await.created();
    let all = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] });
    assert!(sorted(&review, "resourceRules").contains(&all.to_string()), "{review}");
    let all = json!({ "nonResourceURLs": ["*"], "verbs": ["*"] });
    assert!(sorted(&review, "nonResourceRules").contains(&all.to_string()), "{review}");
    assert_eq!((&review["spec"], &review["status"]["incomplete"]), (&json!({}), &json!(false)));
}

async fn known_users_may_look_around(server: &Server) {
    let asker = server.asked_by(User::Named(ASKER)).await;
    let review = review_rules(&asker, "default").await.created();
    let paths = sorted(&review, "nonResourceRules");
    assert_eq!(paths.len(), 2, "{review}");
    assert!(paths[0].contains(r#""/api","/api/*","/apis","/apis/*""#), "{review}");
    let rules = sorted(&review, "resourceRules").concat();
    for plural in ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"] {
        assert!(rules.contains(plural), "{review}");
    }
}

async fn roles_are_listed_where_they_hold(server: &Server) {
    let (here, elsewhere) = (server.namespace().await, server.namespace().await);
    let rule =
        json!({ "apiGroups": [""], "resourceNames": ["a"], "resources": ["secrets"], "verbs": ["get"] });
    let roles = server.in_namespace(&here, RBAC, "roles", "Role");
    roles.made("reader", json!({ "rules": [rule] })).await;
    let bindings = server.in_namespace(&here, RBAC, "rolebindings", "RoleBinding");
    let group = "rbac.authorization.k8s.io";
    let reference = json!({ "apiGroup": group, "kind": "Role", "name": "reader" });
    let user = json!({ "apiGroup": group, "kind": "User", "name": ASKER });
    bindings.made("reader", json!({ "roleRef": reference, "subjects": [user] })).await;

    let asker = server.asked_by(User::Named(ASKER)).await;
    let is_listed = async |namespace: &str| {
        let review = review_rules(&asker, namespace).await.created();
        sorted(&review, "resourceRules").contains(&rule.to_string())
    };
    crate::support::eventually("the binding is in force", crate::support::SOON, async || {
        anyhow::ensure!(is_listed(&here).await, "not listed");
        Ok(())
    })
    .await;
    assert!(!is_listed(&elsewhere).await);
}

async fn a_rules_review_has_a_namespace(server: &Server) {
    let status = review_rules(server, "").await.refused(400, "BadRequest");
    assert_eq!(text(&status, "/message"), "no namespace on request");
}

async fn reviews_are_only_created(server: &Server) {
    for path in [SUBJECT, RULES] {
        server.get(path).await.refused(405, "MethodNotAllowed");
    }
}
