//! Renewal of credentials, with clients that answer from memory, under paused time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::config::{ExecConfig, ExecInteractiveMode};
use kube::{Client, Config};
use parking_lot::Mutex;
use tempfile::TempDir;
use tower::{ServiceExt, service_fn};

use super::super::credential_store::CredentialStore;
use super::super::credentials::CredentialSource;
use super::super::transport::Transport;

/// An API server that accepts one token, and the files of a client.
struct Fixture {
    folder: TempDir,
    accepted: Arc<Mutex<String>>,
    /// The token and the bodies of all requests.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fixture {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), accepted: Arc::default(), seen: Arc::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    fn accept(&self, token: &str) {
        token.clone_into(&mut self.accepted.lock());
    }

    fn transport(&self, config: Config) -> Transport {
        self.transport_of(&store(config))
    }

    fn transport_of(&self, store: &Arc<CredentialStore>) -> Transport {
        let (accepted, seen) = (self.accepted.clone(), self.seen.clone());
        let build = move |config: Config| {
            let token = secret_token(&config);
            let (accepted, seen) = (accepted.clone(), seen.clone());
            let service = service_fn(move |request: Request<Body>| {
                let (token, accepted, seen) = (token.clone(), accepted.clone(), seen.clone());
                async move {
                    let body = request.into_body().collect_bytes().await?;
                    seen.lock().push((token.clone(), String::from_utf8_lossy(&body).into_owned()));
                    let status = if *accepted.lock() == token { 200 } else { 401 };
                    Ok::<_, kube::Error>(Response::builder().status(status).body(Body::empty()).unwrap())
                }
            });
            Ok(Client::new(service, "default"))
        };
        Transport::new(store.clone(), Box::new(build)).unwrap()
    }

    fn tokens(&self) -> Vec<String> {
        self.seen.lock().iter().map(|(token, _)| token.clone()).collect()
    }

    /// Number of runs of the helper of [`Fixture::with_helper`].
    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    /// Waits until the helper was started so many times.
    async fn wait_for_runs(&self, runs: usize) {
        while self.runs() < runs {
            tokio::task::yield_now().await;
        }
    }

    /// A helper that returns the content of the file `answer`, once there is no file `closed`.
    fn with_helper(&self) -> Config {
        let mut config = config();
        let script =
            r#"echo run >> "$0/runs"; while [ -e "$0/closed" ]; do sleep 0.01; done; cat "$0/answer""#;
        config.auth_info.exec = Some(ExecConfig {
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned(), folder_text(self.folder.path())]),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        });
        config
    }

    fn answer(&self, token: &str, valid_for: Option<u64>) {
        let mut status = HashMap::from([("token", token.to_owned())]);
        if let Some(seconds) = valid_for {
            let expires = Timestamp::now() + Duration::from_secs(seconds);
            status.insert("expirationTimestamp", expires.to_string());
        }
        self.write("answer", &serde_json::json!({ "status": status }).to_string());
    }
}

fn store(config: Config) -> Arc<CredentialStore> {
    let store = CredentialStore::load(CredentialSource::new(config));
    Arc::new(store.unwrap_or_else(|error| panic!("{error}")))
}

fn folder_text(path: &Path) -> String {
    path.display().to_string()
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

fn config() -> Config {
    Config::new("http://api.test".parse().unwrap())
}

/// The token that kube would send. `Config` does not show it.
fn secret_token(config: &Config) -> String {
    let user = serde_json::to_value(&config.auth_info).unwrap();
    user["token"].as_str().unwrap_or_default().to_owned()
}

async fn status(transport: &Transport, body: &'static str) -> u16 {
    let request = Request::new(Body::from(body.as_bytes().to_vec()));
    transport.clone().oneshot(request).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn y2_a_token_file_may_end_with_a_newline() {
    let fixture = Fixture::new();
    let mut config = config();
    config.auth_info.token_file = Some(fixture.write("token", "t-1\r\n"));
    fixture.accept("t-1");
    assert_eq!(status(&fixture.transport(config), "").await, 200);
}

#[tokio::test(start_paused = true)]
async fn y2_a_rotated_token_file_is_used_by_later_requests() {
    let fixture = Fixture::new();
    let mut config = config();
    config.auth_info.token_file = Some(fixture.write("token", "t-1"));
    fixture.accept("t-1");
    let transport = fixture.transport(config);
    fixture.write("token", "t-2");
    assert_eq!(status(&transport, "").await, 200);
    tokio::time::advance(Duration::from_secs(10)).await;
    fixture.accept("t-2");
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!(fixture.tokens(), ["t-1", "t-2"]);
}

#[tokio::test(start_paused = true)]
async fn y2_after_a_401_the_request_is_sent_once_more_with_the_token_of_now() {
    let fixture = Fixture::new();
    let mut config = config();
    config.auth_info.token_file = Some(fixture.write("token", "t-1"));
    let transport = fixture.transport(config);
    fixture.accept("t-2");
    fixture.write("token", "t-2");
    assert_eq!(status(&transport, "body").await, 200);
    let sent = |token: &str| (token.to_owned(), "body".to_owned());
    assert_eq!(*fixture.seen.lock(), [sent("t-1"), sent("t-2")]);
}

#[tokio::test(start_paused = true)]
async fn y2_a_401_that_no_new_token_can_mend_is_returned() {
    let fixture = Fixture::new();
    let mut config = config();
    config.auth_info.token_file = Some(fixture.write("token", "t-1"));
    let transport = fixture.transport(config);
    fixture.accept("t-3");
    assert_eq!(status(&transport, "").await, 401);
    fixture.write("token", "t-2");
    assert_eq!(status(&transport, "").await, 401);
    assert_eq!(fixture.tokens(), ["t-1", "t-1", "t-2"]);
}

#[tokio::test(start_paused = true)]
async fn y2_a_token_file_that_goes_leaves_the_last_token() {
    let fixture = Fixture::new();
    let mut config = config();
    config.auth_info.token_file = Some(fixture.write("token", "t-1"));
    fixture.accept("t-1");
    let transport = fixture.transport(config);
    for content in [None, Some(""), Some("t-2")] {
        match content {
            None => fs::remove_file(fixture.path("token")).unwrap(),
            Some(content) => drop(fixture.write("token", content)),
        }
        if content == Some("t-2") {
            fixture.accept("t-2");
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(status(&transport, "").await, 200);
    }
    assert_eq!(fixture.tokens(), ["t-1", "t-1", "t-2"]);
}

#[tokio::test(start_paused = true)]
async fn y2_a_helper_runs_again_before_its_token_expires() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    fixture.accept("t-1");
    let store = store(fixture.with_helper());
    let transport = fixture.transport_of(&store);
    fixture.answer("t-2", Some(7200));
    tokio::time::advance(Duration::from_secs(3500)).await;
    assert_eq!((status(&transport, "").await, fixture.runs()), (200, 1));
    tokio::time::advance(Duration::from_secs(45)).await;
    assert_eq!(status(&transport, "").await, 200);
    store.renewed().await;
    fixture.accept("t-2");
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!((fixture.tokens(), fixture.runs()), (texts(["t-1", "t-1", "t-2", "t-2"]), 2));
}

#[tokio::test(start_paused = true)]
async fn y2_requests_do_not_wait_for_a_slow_helper_while_the_old_token_is_valid() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    fixture.accept("t-1");
    let transport = fixture.transport(fixture.with_helper());
    fixture.write("closed", "");
    tokio::time::advance(Duration::from_secs(3545)).await;
    for _ in 0..2 {
        assert_eq!(status(&transport, "").await, 200);
    }
    fixture.wait_for_runs(2).await;
    fs::remove_file(fixture.path("closed")).unwrap();
}

#[tokio::test(start_paused = true)]
async fn y2_requests_wait_for_a_slow_helper_when_the_old_token_has_expired() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    let transport = fixture.transport(fixture.with_helper());
    fixture.answer("t-2", Some(7200));
    fixture.accept("t-2");
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!(fixture.tokens(), ["t-2"]);
}

#[tokio::test(start_paused = true)]
async fn y2_a_renewal_goes_on_when_the_request_that_began_it_is_cancelled() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    let transport = fixture.transport(fixture.with_helper());
    fixture.answer("t-2", Some(7200));
    fixture.accept("t-2");
    fixture.write("closed", "");
    tokio::time::advance(Duration::from_hours(1)).await;
    let request = tokio::spawn({
        let transport = transport.clone();
        async move { status(&transport, "").await }
    });
    fixture.wait_for_runs(2).await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    fs::remove_file(fixture.path("closed")).unwrap();
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!((fixture.tokens(), fixture.runs()), (texts(["t-2"]), 2));
}

#[tokio::test(start_paused = true)]
async fn y2_one_renewal_serves_all_clients() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    let store = store(fixture.with_helper());
    let transports = [fixture.transport_of(&store), fixture.transport_of(&store)];
    fixture.answer("t-2", Some(7200));
    fixture.accept("t-2");
    tokio::time::advance(Duration::from_hours(1)).await;
    for transport in &transports {
        assert_eq!(status(transport, "").await, 200);
    }
    assert_eq!((fixture.tokens(), fixture.runs()), (texts(["t-2", "t-2"]), 2));
}

#[tokio::test(start_paused = true)]
async fn y2_a_helper_runs_again_after_a_401_even_if_its_token_has_no_expiry() {
    let fixture = Fixture::new();
    fixture.answer("t-1", None);
    fixture.accept("t-1");
    let transport = fixture.transport(fixture.with_helper());
    fixture.answer("t-2", None);
    fixture.accept("t-2");
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!(fixture.tokens(), ["t-1", "t-2"]);
}

#[tokio::test(start_paused = true)]
async fn y2_requests_that_are_refused_for_good_do_not_run_the_helper_each_time() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(1));
    let transport = fixture.transport(fixture.with_helper());
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(status(&transport, "").await, 401);
    }
    assert_eq!(fixture.runs(), 3);
}

#[tokio::test(start_paused = true)]
async fn y2_a_helper_that_fails_leaves_the_last_token() {
    let fixture = Fixture::new();
    fixture.answer("t-1", Some(3600));
    fixture.accept("t-1");
    let store = store(fixture.with_helper());
    let transport = fixture.transport_of(&store);
    fs::remove_file(fixture.path("answer")).unwrap();
    tokio::time::advance(Duration::from_secs(3545)).await;
    assert_eq!(status(&transport, "").await, 200);
    store.renewed().await;
    fixture.answer("t-2", Some(7200));
    fixture.accept("t-2");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(status(&transport, "").await, 200);
    store.renewed().await;
    assert_eq!(status(&transport, "").await, 200);
    assert_eq!((fixture.tokens().last().map(String::as_str), fixture.runs()), (Some("t-2"), 3));
}
