//! The stop of the binary: what is under way ends, and nothing new begins.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use kube::Api;
use kube::api::PostParams;
use memory_apiserver::{ApiServer, FaultPlan, Kubelet, On, RequestFault, Serving, Times, Verb};
use sandbox_manager::api::v1alpha1::{SandboxSet, crds};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::POOL;
use super::client::Request;
use crate::support::{Process, SOON, eventually};

/// The binary with the API and without keys, on a server in memory that takes its time for locks.
struct Stopping {
    server: ApiServer,
    address: SocketAddr,
    process: Process,
    _serving: Serving,
}

impl Stopping {
    async fn start(lock_takes: Duration, grace_period: &str) -> Self {
        let kubelet = Kubelet::ready_after(Duration::from_millis(10));
        let server = ApiServer::builder().kubelet(&kubelet).objects(crds()).start().unwrap();
        let serving = server.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let config = format!(
            "sandboxNamespace: default\nlifecycle: {{ enabled: true }}\n\
             e2b: {{ enabled: true, bindAddress: \"127.0.0.1:0\", auth: none }}\n\
             shutdown: {{ gracePeriod: {grace_period} }}\n"
        );
        let process = Process::start(&serving.kubeconfig(), &config).await;
        process.becomes_ready().await;
        let address = process.listener("e2b").unwrap().parse().unwrap();
        let set = json!({
            "metadata": {"name": POOL},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}},
        });
        let set: SandboxSet = serde_json::from_value(set).unwrap();
        let sets: Api<SandboxSet> = Api::namespaced(server.client_without_faults(), "default");
        sets.create(&PostParams::default(), &set).await.unwrap();
        eventually("the pool is full", SOON, async || {
            let status = sets.get(POOL).await?.status.unwrap_or_default();
            ensure!(status.available_replicas == 2, "{status:?}");
            Ok(())
        })
        .await;
        let slow = RequestFault::Delay(lock_takes);
        // A patch of the subresource `status` is none of `sandboxes`.
        server.inject(&FaultPlan::request(On::request(Verb::Patch, "sandboxes"), Times::Always, slow));
        Self { server, address, process, _serving: serving }
    }

    /// Begins a create, and returns when its lock is on its way.
    async fn begin_create(&self) -> TcpStream {
        let before = self.locks();
        let create = Request::new("POST", "/v2/sandboxes").json(&json!({ "templateID": POOL }));
        let stream = create.begin(self.address).await;
        eventually("the lock is on its way", SOON, async || {
            ensure!(self.locks() > before, "no lock yet");
            Ok(())
        })
        .await;
        stream
    }

    fn locks(&self) -> u64 {
        self.server.faults_fired().iter().map(|(_, fired)| fired).sum()
    }
}

/// Reads what the server sends until it closes the connection.
async fn rest(mut stream: TcpStream) -> Result<String> {
    let mut text = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut text)).await??;
    Ok(text)
}

/// Opens a connection, uses it once, and leaves it open.
async fn idle(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with('}') {
        answer.push(char::from(stream.read_u8().await.unwrap()));
    }
    stream
}

#[tokio::test]
async fn a_create_that_is_under_way_is_answered_and_nothing_new_begins() {
    let mut stopping = Stopping::start(Duration::from_secs(3), "20s").await;
    let idle = idle(stopping.address).await;
    let create = stopping.begin_create().await;
    stopping.process.signal("TERM").await;
    eventually("new requests are refused", SOON, async || {
        let answer = Request::new("GET", "/v2/sandboxes").send(stopping.address).await;
        ensure!(answer.status == 503, "{answer:?}");
        answer.error(503);
        assert_eq!(
            (answer.header("should-retry"), answer.header("connection")),
            (Some("true"), Some("close"))
        );
        Ok(())
    })
    .await;
    let answer = rest(create).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.contains("sandboxID"), "{answer}");
    assert_eq!(rest(idle).await.unwrap(), "", "an idle connection is closed");
    assert_eq!(stopping.process.ended().await.code(), Some(0), "{}", stopping.process.log());
    TcpStream::connect(stopping.address).await.unwrap_err();
}

#[tokio::test]
async fn a_create_that_outlasts_the_grace_period_ends_with_the_process() {
    let mut stopping = Stopping::start(Duration::from_mins(1), "1s").await;
    let create = stopping.begin_create().await;
    stopping.process.signal("TERM").await;
    let code = stopping.process.ended().await.code();
    assert_eq!(code, Some(1), "{}", stopping.process.log());
    // The client sees a broken connection or an error, and no sandbox.
    let answer = rest(create).await.unwrap_or_default();
    assert!(!answer.contains("sandboxID"), "{answer}");
}

#[tokio::test]
async fn y7_a_second_signal_ends_the_process_with_a_create_under_way() {
    let mut stopping = Stopping::start(Duration::from_mins(1), "60s").await;
    let create = stopping.begin_create().await;
    stopping.process.signal("TERM").await;
    // A second signal counts from a second after the first one on, so it is sent until it does.
    eventually("the process has ended", SOON, async || {
        if !stopping.process.has_ended() {
            stopping.process.signal("TERM").await;
        }
        ensure!(stopping.process.has_ended(), "it runs");
        Ok(())
    })
    .await;
    assert_ne!(stopping.process.ended().await.code(), Some(0));
    let answer = rest(create).await.unwrap_or_default();
    assert!(!answer.contains("sandboxID"), "{answer}");
}
