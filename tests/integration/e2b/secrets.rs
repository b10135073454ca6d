//! What the process never says: not in its log at the most detailed level, not in metrics, not in the text of an error.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use parking_lot::Mutex;
use sandbox_manager::api::v1alpha1::Sandbox;
use serde_json::{Value, json};

use super::client::{Answer, Request};
use crate::support::{SOON, eventually, get};

/// `sandbox-manager dev` with everything in its log, and all that it says.
struct Traced {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    banner: String,
    folder: tempfile::TempDir,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Traced {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-manager"));
        command
            .args(["dev", "--metrics-bind-address=127.0.0.1:0", "--health-probe-bind-address=127.0.0.1:0"])
            .args(["--e2b-bind-address=127.0.0.1:0", "--e2b-init-runtime=true"])
            .env_clear()
            .envs([("HOME", folder.path()), ("TMPDIR", folder.path())])
            .env("RUST_LOG", "trace")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (said, banner) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(String::new())));
        let (errors, output) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
        let lines = Arc::clone(&said);
        std::thread::spawn(move || {
            BufReader::new(errors).lines().map_while(Result::ok).for_each(|line| lines.lock().push(line));
        });
        let printed = Arc::clone(&banner);
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| {
                let mut printed = printed.lock();
                *printed += &line;
                printed.push('\n');
            });
        });
        let banner = eventually("the banner", 2 * SOON, async || {
            let banner = banner.lock().clone();
            Some(banner).filter(|banner| banner.contains("readyz?verbose")).context("no banner")
        })
        .await;
        Self { child, said, banner, folder }
    }

    /// Returns what the banner tells users to export.
    fn variable(&self, name: &str) -> String {
        let value = self.banner.split(&format!("export {name}=")).nth(1);
        let value = value.and_then(|rest| rest.lines().next());
        value.unwrap_or_else(|| panic!("{name}: {}", self.banner)).trim().to_owned()
    }

    fn address(&self) -> SocketAddr {
        self.variable("E2B_API_URL").strip_prefix("http://").unwrap().parse().unwrap()
    }

    async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.variable("KUBECONFIG")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    async fn send(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        Request::new(method, path).key(key).json(&body).send(self.address()).await
    }
}

#[tokio::test]
async fn no_key_token_variable_or_metadata_is_in_the_log_the_metrics_or_an_error() {
    let dev = Traced::start().await;
    let key = dev.variable("E2B_API_KEY");
    let secret = |name: &str| format!("hidden-{name}-\u{1b}[31m");
    let create = |body: Value| dev.send(&key, "POST", "/v2/sandboxes", body);
    let template = "code-interpreter";
    let made = create(json!({
        "templateID": template, "metadata": {
            "mine": secret("metadata"), "odd key": secret("odd"), "e2b.agents.kruise.io/skip-init-runtime": "true",
        },
        "envVars": {"A": secret("variable")},
    }))
    .await
    .ok(201);
    let id = made["sandboxID"].as_str().unwrap().to_owned();
    let new = dev.send(&key, "POST", "/api-keys", json!({"name": secret("name")})).await.ok(201);
    let new_key = new["key"].as_str().unwrap().to_owned();
    for (method, path, body) in [
        ("GET", format!("/sandboxes/{id}"), Value::Null),
        ("POST", format!("/sandboxes/{id}/pause"), json!({})),
        ("POST", format!("/v2/sandboxes/{id}/connect"), json!({})),
        ("GET", "/v2/sandboxes?metadata=mine%253Dhidden-query".to_owned(), Value::Null),
        ("GET", "/api-keys".to_owned(), Value::Null),
        (
            "POST",
            "/v2/sandboxes".to_owned(),
            json!({"templateID": template, "envVars": {"A=": secret("bad-variable")}}),
        ),
        (
            "POST",
            "/v2/sandboxes".to_owned(),
            json!({"templateID": template, "metadata": {"a": {"b": secret("bad-metadata")}}}),
        ),
        ("DELETE", format!("/api-keys/{}", new["id"].as_str().unwrap()), Value::Null),
    ] {
        dev.send(&new_key, method, &path, body.clone()).await;
        dev.send(&key, method, &path, body).await;
    }
    dev.send("hidden-wrong-key", "GET", "/teams", Value::Null).await.error(401);
    let forged = "x%0aINFO%20forged%1b%5b31m";
    dev.send(&key, "GET", &format!("/sandboxes/{forged}"), Value::Null).await.error(404);

    // No program runs in the pods, so the request with token and variables is not accepted.
    let body = json!({
        "templateID": template, "envVars": {"A": secret("sent-variable")},
        "metadata": {"e2b.agents.kruise.io/reserve-failed-sandbox": "true"},
    });
    let failed = create(body).await;
    failed.error(500);
    let client = dev.client().await;
    let sandboxes: Api<Sandbox> = Api::default_namespaced(client);
    let token = eventually("the token", SOON, async || {
        let all = sandboxes.list(&kube::api::ListParams::default()).await?;
        let annotations = all.items.into_iter().filter_map(|sandbox| sandbox.metadata.annotations);
        let mut tokens =
            annotations.filter_map(|all| all.get("agents.kruise.io/runtime-access-token").cloned());
        tokens.next().context("no sandbox has a token")
    })
    .await;
    assert!(!failed.text.contains("hidden"), "{failed:?}");

    let metrics = dev.banner.lines().find_map(|line| line.trim().strip_prefix("metrics"));
    let metrics = metrics.unwrap().trim().strip_prefix("http://").unwrap().split('/').next().unwrap();
    let metrics = get(metrics, "/metrics").await.unwrap();
    let said = dev.said.lock().join("\n");
    assert!(said.contains("TRACE") && said.contains("createSandbox"), "the log has everything");
    // What a client can send without being able to read it back is not all of the key.
    let clear = key.get(26..key.len() - 16).unwrap();
    for hidden in ["hidden", &key, &new_key, clear, &token, "\u{1b}[31m", "\nINFO forged"] {
        for (place, text) in [("log", &said), ("metrics", &metrics.body)] {
            let found = text
                .find(hidden)
                .map(|at| text[at.saturating_sub(300)..].chars().take(600).collect::<String>());
            assert_eq!(found, None, "{hidden:?} is in the {place} of {:?}", dev.folder.path());
        }
    }
}
