//! [`Crowd`]: clients that create sandboxes over all replicas and kill them, with the behaviour of the SDKs: they repeat a
//! request if the answer says so, and one with an `Idempotency-Key` also if the connection broke.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::fleet::{Fleet, HUNG_UP, PATIENCE, Run, Target};
use super::history::CLIENT;
use super::ledger::Ledger;
use super::{Key, POOL};
use crate::e2b::client::{Answer, Failure, Request};

/// Creates that are under way at one time.
const CLIENTS: usize = 24;

/// Pause before a repetition.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Crowd {
    fleet: Arc<Fleet>,
    ledger: Arc<Mutex<Ledger>>,
    keys: Vec<Key>,
    total: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    hung_up: Mutex<Vec<HungUp>>,
    /// The clients that were refused or have hung up, and the runs that they spoke to.
    runs: Mutex<BTreeMap<usize, Vec<Run>>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

/// A client that has hung up, and will not come back.
struct HungUp {
    client: usize,
    request: String,
}

impl Crowd {
    pub(super) fn new(
        fleet: &Arc<Fleet>,
        ledger: &Arc<Mutex<Ledger>>,
        keys: Vec<Key>,
        total: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            fleet: Arc::clone(fleet),
            ledger: Arc::clone(ledger),
            keys,
            total,
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            hung_up: Mutex::default(),
            runs: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// Number of clients that have ended.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().clone()
    }

    fn count(&self, what: impl Into<String>) {
        *self.counts.lock().entry(what.into()).or_default() += 1;
    }

    /// Runs all clients to their ends.
    pub(super) async fn run(self: &Arc<Self>) {
        let workers = (0..CLIENTS).map(|_| {
            let crowd = Arc::clone(self);
            tokio::spawn(async move {
                loop {
                    let client = crowd.next.fetch_add(1, Ordering::Relaxed);
                    if client >= crowd.total {
                        return;
                    }
                    crowd.live(client).await;
                    crowd.done.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        for worker in join_all(workers).await {
            worker.expect("a client");
        }
    }

    /// The life of one client.
    async fn live(&self, client: usize) {
        let is_keyed = !client.is_multiple_of(3);
        if client % 10 == 7 && !self.hang_up(client, is_keyed).await {
            return;
        }
        let Some(id) = self.create(client, is_keyed).await else { return };
        if is_keyed && client % 4 == 1 {
            // Another replica may not see the first create yet.
            self.create(client, is_keyed).await;
        }
        if client % 200 != 150 {
            self.kill(client, &id).await;
        }
    }

    fn key(&self, client: usize) -> &Key {
        &self.keys[client % self.keys.len()]
    }

    fn request(&self, client: usize, is_keyed: bool) -> Request {
        let body = json!({
            "templateID": POOL, "timeout": 3600, "metadata": {CLIENT: client.to_string()}, "envVars": {},
        });
        let request = Request::new("POST", "/v2/sandboxes").json(&body).key(&self.key(client).text);
        if is_keyed { request.header("Idempotency-Key", &format!("client-{client}")) } else { request }
    }

    /// What a replica undoes after it has refused is left if it is killed in that moment.
    fn is_refused_by(&self, client: usize, target: Target) {
        self.runs.lock().entry(client).or_default().push(target.run);
    }

    /// Hangs up in the middle of a create. Returns true if the client will come back with its key.
    async fn hang_up(&self, client: usize, is_keyed: bool) -> bool {
        let target = self.fleet.any().await;
        let id = format!("{HUNG_UP}{client}");
        let request = self.request(client, is_keyed).header("X-Request-Id", &id);
        let Ok(stream) = request.try_begin(target.address).await else { return true };
        sleep(Duration::from_millis(rand::random_range(0..30))).await;
        drop(stream);
        self.count("hung up");
        self.is_refused_by(client, target);
        if is_keyed {
            self.ledger.lock().lost(client);
        } else {
            self.hung_up.lock().push(HungUp { client, request: id });
        }
        is_keyed
    }

    /// Creates a sandbox. Returns none if the client was refused or does not know.
    async fn create(&self, client: usize, is_keyed: bool) -> Option<String> {
        let request = self.request(client, is_keyed);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let target = self.fleet.any().await;
            match request.try_send(target.address).await {
                Ok(answer) if answer.status == 201 => return Some(self.answered(client, &answer)),
                Ok(answer) => {
                    self.count(name(&answer));
                    self.is_refused_by(client, target);
                    if !is_repeated(&answer) {
                        return None;
                    }
                }
                Err(Failure::NotSent) => self.count("not sent"),
                Err(Failure::Broken) => {
                    self.count("broken connection");
                    self.ledger.lock().lost(client);
                    if !is_keyed {
                        return None;
                    }
                }
            }
            sleep(PAUSE).await;
        }
        panic!("client {client} has no answer: {:?}", self.counts());
    }

    fn answered(&self, client: usize, answer: &Answer) -> String {
        self.count("201");
        let id = answer.json()["sandboxID"].as_str().expect("an id").to_owned();
        self.ledger.lock().answered(client, &id, &self.key(client).id);
        id
    }

    /// Kills a sandbox. An answer that leaves open whether it is gone is followed by another try.
    async fn kill(&self, client: usize, id: &str) {
        self.ledger.lock().kill_begins(client);
        let request = Request::new("DELETE", &format!("/sandboxes/{id}")).key(&self.key(client).text);
        let (end, mut may_be_gone) = (Instant::now() + PATIENCE, false);
        while Instant::now() < end {
            let target = self.fleet.any().await;
            match request.try_send(target.address).await {
                Ok(answer) if answer.status == 204 => return,
                Ok(answer) if answer.status == 404 && may_be_gone => return,
                Ok(answer) if answer.status == 404 && self.ledger.lock().is_missing(client) => return,
                Ok(answer) => {
                    self.count(format!("kill: {}", name(&answer)));
                    may_be_gone |= answer.status >= 500;
                }
                Err(_) => may_be_gone = true,
            }
            sleep(PAUSE).await;
        }
        panic!("client {client} cannot kill {id}: {:?}", self.counts());
    }

    /// Tells the ledger of the clients that may have been given a sandbox without their knowledge: those who hung up
    /// after the answer was sent, and those of a run that ended in the middle.
    pub(super) async fn tell_lost(&self) {
        let in_vain = self.fleet.answered_in_vain().await;
        let mut ledger = self.ledger.lock();
        for HungUp { client, request } in self.hung_up.lock().iter() {
            if in_vain.contains(request) {
                self.count("hung up after the answer");
                ledger.lost(*client);
            }
        }
        for (client, runs) in self.runs.lock().iter() {
            if runs.iter().any(|run| self.fleet.is_broken(*run)) {
                ledger.lost(*client);
            }
        }
    }

    /// Checks that the owners see these sandboxes, each with an end.
    pub(super) async fn see(&self, sandboxes: &[(String, String)]) -> anyhow::Result<()> {
        for key in &self.keys {
            let seen = self.list(key).await?;
            let own = sandboxes.iter().filter(|(_, owner)| *owner == key.id);
            for (id, _) in own {
                let listed = seen.iter().find(|listed| listed["sandboxID"] == **id);
                let ends = listed.is_some_and(|listed| listed["endAt"].is_string());
                anyhow::ensure!(ends, "the owner {} does not see {id} with an end: {listed:?}", key.id);
            }
        }
        Ok(())
    }

    async fn list(&self, key: &Key) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("/v2/sandboxes?limit=100{token}");
            let target = self.fleet.any().await;
            let answer = Request::new("GET", &path).key(&key.text).try_send(target.address).await?;
            anyhow::ensure!(answer.status == 200, "{answer:?}");
            all.extend(answer.json().as_array().cloned().unwrap_or_default());
            match answer.header("x-next-token") {
                Some(next) => token = format!("&nextToken={next}"),
                None => return Ok(all),
            }
        }
    }
}

/// True if the client sends the request again, as the SDKs do; and if a create of its own is under way.
fn is_repeated(answer: &Answer) -> bool {
    let code = (answer.status == 409).then(|| answer.json()["error_code"].clone());
    answer.header("should-retry") == Some("true") || code == Some(json!("idempotency_in_progress"))
}

/// The status, the error code, and whether the client may repeat it.
fn name(answer: &Answer) -> String {
    let code = answer.json()["error_code"].as_str().unwrap_or_default().to_owned();
    let retry = answer.header("should-retry").unwrap_or("unsaid");
    format!("{} {code} (should-retry {retry})", answer.status).replace("  ", " ")
}
