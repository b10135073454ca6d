//! [`Server`]: the server under test and the user of its client; and [`Target`], the interface of a server under test.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::LocalBoxFuture;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions};
use kube::{Client, Config};
use memory_apiserver::{ApiServer, Serving};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::answer::Answer;
use super::collection::Collection;
use super::watching::Watch;
use crate::support::{ADMIN, ControlPlane, SOON, eventually};

/// The user of a client.
#[derive(Clone, Debug)]
pub(super) enum User {
    /// The user who may do everything.
    Administrator,
    /// A user in no group, who may do nothing.
    Named(&'static str),
    /// The user of this token.
    Token(&'static str),
    /// A user without a token.
    Anonymous,
}

/// A server under test.
pub(super) trait Target: Send + Sync {
    /// A client for the current runtime that does not retry.
    fn client(&self, user: User) -> LocalBoxFuture<'_, Client>;

    /// A server of the same kind that forgets old versions on demand ([`Self::forget`]). Only tests that expect this
    /// use it, but several at the same time.
    fn forgetful(&self) -> LocalBoxFuture<'_, Arc<dyn Target>>;

    /// Returns when all versions so far are too old for lists, for continued lists, and for watches if the server keeps
    /// no more events than versions. Called only on a server of [`Self::forgetful`].
    fn forget(&self) -> LocalBoxFuture<'_, ()>;
}

/// A server under test, with a client of one user.
#[derive(Clone)]
pub(super) struct Server {
    target: Arc<dyn Target>,
    client: Client,
}

/// kube-apiserver, shared by all tests.
pub(super) async fn real() -> Server {
    Server::new(Arc::new(Real(ControlPlane::shared().await))).await
}

/// kube-apiserver with kube-controller-manager, shared by all tests that need both.
pub(super) async fn real_collecting() -> Server {
    Server::new(Arc::new(Real(ControlPlane::shared_with_nodes().await))).await
}

/// The server in memory, new for each test.
pub(super) async fn in_memory() -> Server {
    Server::new(Arc::new(InMemory::new())).await
}

/// The server in memory with the garbage collector of kube-controller-manager, new for each test.
pub(super) async fn in_memory_collecting() -> Server {
    let api = ApiServer::builder().strict_owners().start().expect("a server");
    Server::new(Arc::new(InMemory::of(api))).await
}

impl Server {
    async fn new(target: Arc<dyn Target>) -> Self {
        let client = target.client(User::Administrator).await;
        Self { target, client }
    }

    /// The same server with a client of another user.
    pub(super) async fn asked_by(&self, user: User) -> Self {
        Self { target: Arc::clone(&self.target), client: self.target.client(user).await }
    }

    /// A server of the same kind that forgets on demand.
    pub(super) async fn forgetful(&self) -> Self {
        Self::new(self.target.forgetful().await).await
    }

    /// Returns when all versions so far are too old.
    pub(super) async fn forget(&self) {
        self.target.forget().await;
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Creates a namespace that no other test has and returns its name.
    pub(super) async fn namespace(&self) -> String {
        let object = json!({ "metadata": { "generateName": "conformance-" } });
        let created = self.at("/api/v1/namespaces", "v1", "Namespace").create(object).await.created();
        created["metadata"]["name"].as_str().expect("a name").to_owned()
    }

    /// The objects of a kind that are found under a path.
    pub(super) fn at(&self, path: &str, api_version: &str, kind: &str) -> Collection {
        Collection::new(self.clone(), path, api_version, kind)
    }

    /// Gets what is at a path, as JSON.
    pub(super) async fn get(&self, path: &str) -> Answer {
        self.http(Method::GET, path, &[], Bytes::new()).await
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn http(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let request = format!("{method} {path}");
        let answer = async {
            let response = self.client.send(build(method, path, headers, body.into())).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                request: request.clone(),
                code: parts.status.as_u16(),
                headers: parts.headers,
                body,
            })
        };
        match timeout(SOON, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => panic!("{request}: {error:#}"),
            Err(late) => panic!("{request}: no answer within {SOON:?}: {late}"),
        }
    }

    /// Begins to watch.
    pub(super) async fn watch(&self, path: &str, headers: &[(&str, &str)]) -> Watch {
        let request = format!("GET {path}");
        let sent = self.client.send(build(Method::GET, path, headers, Bytes::new()));
        let response = timeout(SOON, sent).await.unwrap_or_else(|_| panic!("{request}: no answer"));
        Watch::new(request, response.unwrap())
    }
}

fn build(method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// kube-apiserver.
struct Real(&'static ControlPlane);

/// A server that compacts its storage once a second and keeps no snapshots, for the tests that expect this.
static FORGETFUL: OnceCell<ControlPlane> = OnceCell::const_new();

const FORGETFUL_FLAGS: [&str; 2] =
    ["--etcd-compaction-interval=1s", "--feature-gates=ListFromCacheSnapshot=false"];

impl Target for Real {
    fn client(&self, user: User) -> LocalBoxFuture<'_, Client> {
        Box::pin(async move {
            let name = if let User::Named(name) = user { name } else { ADMIN };
            let mut config = self.0.config_for(name).await;
            match user {
                User::Token(token) => {
                    config.auth_info =
                        AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
                }
                User::Anonymous => config.auth_info = AuthInfo::default(),
                User::Administrator | User::Named(_) => {}
            }
            config.default_retry = false;
            Client::try_from(config).expect("a client from a generated kubeconfig")
        })
    }

    fn forgetful(&self) -> LocalBoxFuture<'_, Arc<dyn Target>> {
        Box::pin(async {
            let started = FORGETFUL.get_or_init(|| ControlPlane::start_with(&FORGETFUL_FLAGS)).await;
            Arc::new(Real(started)) as Arc<dyn Target>
        })
    }

    /// A compaction forgets the versions before the previous compaction, so this waits until a new version is refused.
    fn forget(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async {
            let server = Server::new(Arc::new(Real(self.0))).await;
            let namespaces = server.at("/api/v1/namespaces", "v1", "Namespace");
            let version =
                namespaces.create(json!({ "metadata": { "generateName": "mark-" } })).await.created();
            let version = version["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let exact = format!("?limit=1&resourceVersion={version}&resourceVersionMatch=Exact");
            eventually("a version is forgotten", SOON, async || {
                let answer = namespaces.list(&exact).await;
                anyhow::ensure!(answer.code == 410, "{answer:?}");
                Ok(())
            })
            .await;
        })
    }
}

/// The API server in memory.
struct InMemory {
    api: ApiServer,
    /// For users that need a token, or none.
    serving: OnceCell<Serving>,
}

impl InMemory {
    fn new() -> Self {
        Self::of(ApiServer::new())
    }

    fn of(api: ApiServer) -> Self {
        Self { api, serving: OnceCell::const_new() }
    }

    async fn client_with(&self, auth: AuthInfo) -> Client {
        let listen = || async { self.api.listen(([127, 0, 0, 1], 0).into()).await.expect("a free port") };
        let kubeconfig = self.serving.get_or_init(listen).await.kubeconfig();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a generated kubeconfig");
        config.auth_info = auth;
        config.default_retry = false;
        Client::try_from(config).expect("a client from it")
    }
}

impl Target for InMemory {
    fn client(&self, user: User) -> LocalBoxFuture<'_, Client> {
        Box::pin(async move {
            match user {
                User::Administrator => self.api.client(),
                User::Named(name) => self.api.client_as(name),
                User::Anonymous => self.client_with(AuthInfo::default()).await,
                User::Token(token) => {
                    let token = Some(token.to_owned().into());
                    self.client_with(AuthInfo { token, ..AuthInfo::default() }).await
                }
            }
        })
    }

    fn forgetful(&self) -> LocalBoxFuture<'_, Arc<dyn Target>> {
        Box::pin(async { Arc::new(Self::new()) as Arc<dyn Target> })
    }

    fn forget(&self) -> LocalBoxFuture<'_, ()> {
        Box::pin(async { self.api.restart() })
    }
}
