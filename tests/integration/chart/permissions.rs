//! The permissions of the chart are exactly those that the process uses: with them it becomes ready, without any one
//! of them it says which is missing, and it sends nothing that they would not allow.

use std::collections::BTreeSet;

use anyhow::ensure;
use serde_json::{Value, json};

use super::release::{Grant, Release};
use super::server;
use crate::support::fixtures::{SandboxFixture, create, sandbox, sandbox_set};
use crate::support::{AuditedRequest, ControlPlane, Process, SOON, eventually};

/// A release, where its sandboxes are, and the namespaces of its roles.
struct Installed<'cp> {
    release: Release<'cp>,
    sandboxes: String,
    roles_in: Vec<String>,
    /// Number of kinds that the process watches.
    kinds: usize,
}

/// Watches every namespace, the volumes of the cluster, and the Secrets of one namespace.
async fn in_every_namespace(cp: &ControlPlane) -> Installed<'_> {
    let (sandboxes, system) = (cp.namespace("sandboxes").await, cp.namespace("system").await);
    let release =
        Release::install(cp, &json!({ "systemNamespace": system, "cache": { "persistentVolumes": true } }))
            .await;
    Installed { release, sandboxes, roles_in: vec![system], kinds: 8 }
}

/// Watches one namespace, and the Secrets of another, without any permission in the cluster (Y5).
async fn in_one_namespace(cp: &ControlPlane) -> Installed<'_> {
    let (sandboxes, system) = (cp.namespace("sandboxes").await, cp.namespace("system").await);
    let config = json!({ "sandboxNamespace": sandboxes, "systemNamespace": system });
    let release = Release::install(cp, &config).await;
    Installed { release, sandboxes: sandboxes.clone(), roles_in: vec![sandboxes, system], kinds: 7 }
}

impl Installed<'_> {
    async fn grants(&self) -> Vec<Grant> {
        let namespaces: Vec<_> = self.roles_in.iter().map(String::as_str).collect();
        let grants = self.release.grants(&namespaces).await;
        assert_eq!(grants.len(), self.kinds, "one a kind: {grants:?}");
        grants
    }
}

/// What the process says when it may not do this.
fn complaint(grant: &Grant, verb: &str) -> String {
    let Grant { group, resource, role, .. } = grant;
    let group = if group.is_empty() { String::new() } else { format!(".{group}") };
    let place = role.namespace.as_ref().map_or_else(String::new, |name| format!(" in namespace \"{name}\""));
    format!(
        "[-]informer/{resource} failed: not synced: forbidden: no permission to {verb} {resource}{group}{place}: "
    )
}

/// Waits until exactly these lines of `/readyz?verbose` are complaints.
async fn complains_of(process: &Process, complaints: &[String]) {
    eventually(&format!("complains of {complaints:?}"), SOON, async || {
        let body = process.get("/readyz?verbose").await?.body;
        let failed: Vec<_> = body.lines().filter(|line| line.starts_with("[-]")).collect();
        for complaint in complaints {
            ensure!(failed.iter().any(|line| line.starts_with(complaint.as_str())), "{failed:?}");
        }
        ensure!(failed.len() == complaints.len() && !body.contains("not synced yet"), "{failed:?}");
        Ok(())
    })
    .await;
}

/// Ready, and at work: it counts a sandbox. Ends in order.
async fn works(cp: &ControlPlane, installed: &Installed<'_>) {
    let mut process = installed.release.start().await;
    process.becomes_ready().await;
    let client = cp.client().await;
    let set = create(&client, &installed.sandboxes, &sandbox_set("pool", 1)).await;
    let mut member = sandbox("a").of_set("pool").ready();
    // The garbage collector deletes a member whose set does not exist.
    member.metadata.owner_references.as_mut().unwrap()[0].uid = set.metadata.uid.unwrap();
    create(&client, &installed.sandboxes, &member).await;
    eventually("it counts", SOON, async || {
        let labels = [("namespace", installed.sandboxes.as_str()), ("pool", "pool"), ("state", "available")];
        let count = process.samples().await?.value("sandbox_manager_sandboxes", &labels)?;
        ensure!(count.to_string() == "1", "{count}");
        Ok(())
    })
    .await;
    assert_eq!(process.terminate().await.code(), Some(0), "{}", process.log());
}

/// Takes each resource out of its rule, one at a time, and puts it back.
async fn every_rule_is_needed(installed: &Installed<'_>) {
    for grant in installed.grants().await {
        let release = &installed.release;
        let without = |rules: &mut Value| {
            let resources = rules[grant.rule]["resources"].as_array_mut().unwrap();
            resources.retain(|resource| resource != &json!(grant.resource));
            // A rule must name something.
            if resources.is_empty() {
                rules.as_array_mut().unwrap().remove(grant.rule);
            }
        };
        let before = release.change_rules(&grant.role, without).await;
        release.until_allowed(&grant, "watch", false).await;
        let mut process = release.start().await;
        complains_of(&process, &[complaint(&grant, "watch")]).await;
        release.change_rules(&grant.role, |rules| *rules = before).await;
        process.becomes_ready().await;
        process.assert_running();
    }
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn the_binary_is_ready_with_the_account_of_the_chart_and_names_any_rule_taken_away() {
    let cp = server::shared().await;
    let installed = in_every_namespace(cp).await;
    works(cp, &installed).await;
    every_rule_is_needed(&installed).await;
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn c1_the_same_holds_for_one_namespace() {
    let cp = server::shared().await;
    let installed = in_one_namespace(cp).await;
    works(cp, &installed).await;
    every_rule_is_needed(&installed).await;
}

#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn c3_without_a_system_namespace_nothing_of_it_can_be_read() {
    let cp = server::shared().await;
    let release = Release::install(cp, &json!({})).await;
    let mut process = release.start().await;
    process.becomes_ready().await;
    let body = process.get("/readyz?verbose").await.unwrap().body;
    assert!(!body.contains("secrets") && !body.contains("configmaps"), "{body}");
    let mut grants = release.grants(&[]).await;
    assert_eq!(grants.len(), 5, "{grants:?}");
    let grant = grants.remove(0);
    for resource in ["secrets", "configmaps", "pods"] {
        for verb in ["get", "list", "watch"] {
            let grant = Grant { group: String::new(), resource: resource.to_owned(), ..grant.clone() };
            release.until_allowed(&grant, verb, false).await;
        }
    }
    assert_eq!(process.terminate().await.code(), Some(0));
}

/// A request as the rules see it: verb, group, resource, namespace.
pub(super) type Access = (String, String, String, String);

pub(super) fn granted(grants: &[Grant]) -> BTreeSet<Access> {
    let of = |grant: &Grant| -> Vec<Access> {
        let namespace = grant.role.namespace.clone().unwrap_or_default();
        let access =
            |verb: &String| (verb.clone(), grant.group.clone(), grant.resource.clone(), namespace.clone());
        grant.verbs.iter().map(access).collect()
    };
    grants.iter().flat_map(of).collect()
}

/// What a user has asked for, by the API server's audit log. A request that was forbidden is an error.
pub(super) fn sent(cp: &ControlPlane, user: &str) -> BTreeSet<Access> {
    let access = |request: AuditedRequest| {
        assert!(!matches!(request.code, Some(401 | 403)), "{request:?}");
        (request.verb, request.group, request.resource, request.namespace)
    };
    cp.requests(user).into_iter().map(access).collect()
}

/// Takes a verb out of all rules of a release, and puts it back.
async fn every_rule_needs(installed: &Installed<'_>, verb: &str) {
    let grants = installed.grants().await;
    let mut before = Vec::new();
    for grant in &grants {
        let without = |rules: &mut Value| {
            for rule in rules.as_array_mut().unwrap() {
                rule["verbs"].as_array_mut().unwrap().retain(|known| known != &json!(verb));
            }
        };
        before.push((grant.role.clone(), installed.release.change_rules(&grant.role, without).await));
        installed.release.until_allowed(grant, verb, false).await;
    }
    let process = installed.release.start().await;
    let complaints: Vec<_> = grants.iter().map(|grant| complaint(grant, verb)).collect();
    complains_of(&process, &complaints).await;
    // Backwards: the first change of a role saw it whole.
    for (role, rules) in before.into_iter().rev() {
        installed.release.change_rules(&role, |now| *now = rules).await;
    }
    process.becomes_ready().await;
}

/// On a server without streaming lists, where `list` is used, too.
#[tokio::test]
#[ignore = "needs helm and the control plane: tests/chart/run.sh"]
async fn the_process_sends_exactly_what_its_rules_allow() {
    let cp = server::audited().await;
    for installed in [in_every_namespace(cp).await, in_one_namespace(cp).await] {
        works(cp, &installed).await;
        let user = installed.release.user().await;
        let refused = cp.requests(&user).into_iter().find(|request| !matches!(request.code, Some(200 | 422)));
        assert_eq!(refused, None);
        assert_eq!(sent(cp, &user), granted(&installed.grants().await));
        for verb in ["list", "watch"] {
            every_rule_needs(&installed, verb).await;
        }
    }
}
