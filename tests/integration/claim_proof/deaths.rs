//! The end of the API server, of a replica, or of a client, at each step of a create: the create is finished or undone.
//!
//! The gate holds one request of the create. Then one of the three goes, and the request goes on.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use kube::ResourceExt as _;
use kube::api::{ListParams, PostParams};
use sandbox_manager::api::v1alpha1::{ANNOTATION_CLAIM_UNFINISHED_UNTIL, ANNOTATION_LOCK, Sandbox};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::history::CLIENT;
use super::{Ground, Key, LEFT, POOL};
use crate::e2b::client::{Answer, Failure, Request};
use crate::support::{ADMIN, Cluster, Fate, Gate, Passing, Process, SOON, Side, eventually};

/// The pool without members, from which creates make a new sandbox.
const EMPTY: &str = "empty";

/// The step of a create that is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The lock of a member is not sent yet.
    BeforeLock,
    /// The lock of a member is written, and its answer is on the way.
    AfterLock,
    /// A new sandbox is not sent yet.
    BeforeCreation,
    /// A new sandbox is written, and its answer is on the way.
    AfterCreation,
    /// The create waits for the pod of its new sandbox.
    Waiting,
    /// The create is complete, and neither the replica nor the client knows.
    AfterLast,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::BeforeLock,
        Self::AfterLock,
        Self::BeforeCreation,
        Self::AfterCreation,
        Self::Waiting,
        Self::AfterLast,
    ];

    fn pool(self) -> &'static str {
        if matches!(self, Self::BeforeLock | Self::AfterLock) { POOL } else { EMPTY }
    }

    fn side(self) -> Side {
        match self {
            Self::BeforeLock | Self::BeforeCreation | Self::Waiting => Side::Before,
            Self::AfterLock | Self::AfterCreation | Self::AfterLast => Side::After,
        }
    }

    /// True if this is the request at which the step begins or ends. `owner` is the key of the client.
    fn is_at(self, request: &Passing, owner: &str) -> bool {
        let is_of_sandbox = request.path.contains("/sandboxes");
        match self {
            Self::BeforeLock | Self::AfterLock => {
                is_of_sandbox && request.method == Method::PATCH && request.writes(ANNOTATION_LOCK)
            }
            Self::BeforeCreation | Self::AfterCreation => {
                is_of_sandbox && request.method == Method::POST && request.writes(owner)
            }
            Self::Waiting => request.path.ends_with("/pods") && request.method == Method::POST,
            Self::AfterLast => {
                let unmark = format!("\"{ANNOTATION_CLAIM_UNFINISHED_UNTIL}\":null");
                is_of_sandbox && request.method == Method::PATCH && request.writes(&unmark)
            }
        }
    }
}

/// A cluster, one replica behind a gate, and a client.
struct Scene {
    cluster: Cluster,
    ground: Ground,
    gate: Arc<Gate>,
    process: Process,
}

impl Scene {
    async fn start() -> Self {
        let cluster = Cluster::start_with_nodes().await;
        let ground = Ground::on(&cluster, 1).await;
        // Over the network, so that the end of the API server is the end of its connections.
        let gate = Gate::to(Cluster::connect(cluster.kubeconfig(ADMIN).await).await).await;
        let process = start(&gate, &ground).await;
        ground.pool(3).await;
        let empty = json!({"metadata": {"name": EMPTY}, "spec": {
            "replicas": 0, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}},
        }});
        let empty = serde_json::from_value(empty).unwrap();
        ground.sets().create(&PostParams::default(), &empty).await.unwrap();
        let scene = Self { cluster, ground, gate: Arc::new(gate), process };
        scene.knows_pools().await;
        scene
    }

    /// Waits until the replica has full pools, and a cache that is not stale.
    async fn knows_pools(&self) {
        self.ground.is_full(3).await;
        eventually("the replica knows the pools", 4 * SOON, async || {
            let templates = self.send(Request::new("GET", "/templates")).await?;
            ensure!(templates.status == 200 && templates.header("x-cache-stale").is_none(), "{templates:?}");
            let known = templates.json().as_array().map(Vec::len);
            let ready = self.process.samples().await?;
            let ready = ready.value("sandbox_manager_pool_ready", &[("pool", POOL)])?;
            ensure!(known == Some(2) && ready > 2.5, "{known:?} templates, {ready} ready");
            Ok(())
        })
        .await;
    }

    fn address(&self) -> std::net::SocketAddr {
        self.process.listener("e2b").expect("it listens").parse().expect("an address")
    }

    fn key(&self) -> &Key {
        &self.ground.keys[0]
    }

    async fn send(&self, request: Request) -> Result<Answer, Failure> {
        request.key(&self.key().text).try_send(self.address()).await
    }

    /// Begins a create that will be held at a step, and waits until it is.
    async fn held(
        &self,
        number: usize,
        step: Step,
    ) -> (JoinHandle<Result<Answer, Failure>>, crate::support::Stop) {
        let owner = self.key().id.clone();
        let mut held = self.gate.hold(step.side(), move |request| step.is_at(request, &owner));
        let body = json!({
            "templateID": step.pool(), "timeout": 3600, "metadata": {CLIENT: number.to_string()}, "envVars": {},
        });
        let request = Request::new("POST", "/v2/sandboxes").json(&body).key(&self.key().text);
        let (request, address) = (request.header("X-Request-Id", &id(number)), self.address());
        let answer = tokio::spawn(async move { request.try_send(address).await });
        held.is_reached().await;
        (answer, held)
    }

    /// Waits until the replica knows that the client has hung up.
    async fn knows_of_hang_up(&self, number: usize) {
        eventually("the client has hung up", SOON, async || {
            let log = self.process.log();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let is_it = |line: &Value| line["request_id"] == *id(number) && line["status"] == 499;
            ensure!(lines.any(|line| is_it(&line)), "the replica does not know");
            Ok(())
        })
        .await;
    }

    /// The sandboxes that the create of this number holds.
    async fn locked(&self, number: usize) -> anyhow::Result<Vec<Sandbox>> {
        let all = self.ground.sandboxes().list(&ListParams::default()).await?.items;
        let is_held = |sandbox: &Sandbox| {
            let client =
                sandbox.annotations().get(CLIENT).is_some_and(|client| *client == number.to_string());
            client && sandbox.metadata.deletion_timestamp.is_none()
        };
        Ok(all.into_iter().filter(is_held).collect())
    }

    /// Waits until a create holds what its client was told: its sandbox, or nothing. Returns the sandbox.
    async fn is_finished_or_undone(&self, number: usize, answer: Option<&Answer>) -> Option<String> {
        let given = answer.filter(|answer| answer.status == 201);
        let given = given.map(|answer| answer.json()["sandboxID"].as_str().expect("an id").to_owned());
        eventually(&format!("{number} is finished or undone"), LEFT, async || {
            let held: Vec<_> = self.locked(number).await?;
            let ids: Vec<_> = held.iter().map(|sandbox| sandbox.sandbox_id().into_owned()).collect();
            ensure!(ids == given.iter().cloned().collect::<Vec<_>>(), "{ids:?} are held, {answer:?}");
            if let Some(id) = &given {
                let seen = self.send(Request::new("GET", &format!("/sandboxes/{id}"))).await?;
                ensure!(seen.status == 200 && seen.json()["state"] == "running", "{seen:?}");
                let owner = held[0].owner();
                ensure!(owner == Some(&*self.key().id), "the owner is {owner:?}");
            }
            Ok(())
        })
        .await;
        given
    }

    /// Ends a finished one, so that the next step finds a full pool.
    async fn kill(&self, id: &str) {
        eventually("it is killed", 2 * SOON, async || {
            let answer = self.send(Request::new("DELETE", &format!("/sandboxes/{id}"))).await?;
            ensure!(matches!(answer.status, 204 | 404), "{answer:?}");
            Ok(())
        })
        .await;
    }

    /// The replica is not stopped in order: it looks for locks that come late for a minute more.
    fn end(mut self) {
        self.process.assert_running();
    }
}

/// The id of the request of a create.
fn id(number: usize) -> String {
    format!("create-{number}")
}

async fn start(gate: &Gate, ground: &Ground) -> Process {
    let process = Process::start(&gate.kubeconfig(), &ground.config("")).await;
    process.becomes_ready().await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn q4_an_api_server_that_dies_at_any_step_leaves_a_create_finished_or_undone() {
    let mut scene = Scene::start().await;
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let (answer, stop) = scene.held(number, step).await;
        scene.cluster.kill_api_server().await;
        stop.release(Fate::Drop);
        scene.cluster.start_api_server().await;
        // Connections of the killed server do not work any more.
        scene.ground.client = scene.cluster.client().await;
        let answer = answer.await.unwrap().expect("the replica lives and answers");
        eprintln!("{step:?}: {} {}", answer.status, answer.text);
        if let Some(id) = scene.is_finished_or_undone(number, Some(&answer)).await {
            scene.kill(&id).await;
        }
        scene.knows_pools().await;
    }
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn q4_a_client_that_hangs_up_at_any_step_leaves_nothing_locked() {
    let scene = Scene::start().await;
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let (answer, stop) = scene.held(number, step).await;
        answer.abort();
        assert!(answer.await.unwrap_err().is_cancelled(), "{step:?}: nobody has answered yet");
        scene.knows_of_hang_up(number).await;
        stop.release(Fate::Pass);
        assert_eq!(scene.is_finished_or_undone(number, None).await, None);
        scene.knows_pools().await;
    }
    scene.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn q4_a_replica_that_is_killed_at_any_step_leaves_nothing_that_its_owner_does_not_see() {
    let mut scene = Scene::start().await;
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let (answer, stop) = scene.held(number, step).await;
        scene.process.signal("KILL").await;
        scene.process.ended().await;
        assert_eq!(answer.await.unwrap().unwrap_err(), Failure::Broken, "{step:?}");
        // The API server does what it was asked for, as it does when the network has the request already.
        stop.release(Fate::Pass);
        scene.process = start(&scene.gate, &scene.ground).await;
        scene.knows_pools().await;
    }
    // What takes more than one write is undone by the sweep. The one write of the others has made them complete: their
    // owner sees them, with an end.
    for (number, step) in Step::ALL.into_iter().enumerate() {
        let is_complete = matches!(step, Step::BeforeLock | Step::AfterLock | Step::AfterLast);
        eventually(&format!("{step:?} is finished or undone"), LEFT, async || {
            let held = scene.locked(number).await?;
            ensure!(held.len() == usize::from(is_complete), "{step:?}: {} are held", held.len());
            let Some(held) = held.first() else { return Ok(()) };
            let listed = scene.send(Request::new("GET", "/v2/sandboxes")).await?.json();
            let listed = listed.as_array().context("a list")?.clone();
            let own = listed.iter().find(|listed| listed["sandboxID"] == *held.sandbox_id());
            ensure!(own.is_some_and(|own| own["endAt"].is_string()), "{held:?} is not in {listed:?}");
            Ok(())
        })
        .await;
    }
    scene.end();
}
