//! [`Runtime`]: a program that stands in for the runtimes in all pods. It listens at their port, at an address of this
//! machine: loopback is no address of a pod.
//!
//! As deployed ones do, it asks for the token that a request has given it, also for the next request of the same kind. The
//! runtimes of several pods differ by their tokens.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::ensure;
use axum::Router;
use axum::extract::State as Extract;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{SOON, eventually};

const PORT: u16 = 49983;

/// One at a time: the port cannot be chosen.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Runtime {
    pub(crate) address: IpAddr,
    state: Shared,
    server: JoinHandle<()>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

type Shared = Arc<Mutex<State>>;

#[derive(Default)]
struct State {
    /// The numbers of the requests that are refused.
    refused: BTreeSet<usize>,
    /// True while no request is answered.
    is_silent: bool,
    requests: Vec<Value>,
    tokens: BTreeSet<String>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Runtime {
    pub(crate) async fn start() -> Self {
        let alone = ALONE.lock().await;
        let address = own_address();
        let listener = eventually(&format!("port {PORT} of {address} is free"), SOON, async || {
            Ok(TcpListener::bind(SocketAddr::new(address, PORT)).await?)
        })
        .await;
        let state = Shared::default();
        let app = Router::new().route("/init", post(init)).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("serving") });
        Self { address, state, server, _alone: alone }
    }

    /// Refuses the requests of these numbers, of which the first one is 1.
    pub(crate) fn refuse(&self, numbers: impl IntoIterator<Item = usize>) {
        self.state.lock().refused = numbers.into_iter().collect();
    }

    /// Answers no request from now on, or each later one again.
    pub(crate) fn be_silent(&self, is_silent: bool) {
        self.state.lock().is_silent = is_silent;
    }

    /// Waits until it has had so many requests.
    pub(crate) async fn until_asked(&self, requests: usize) {
        eventually(&format!("{requests} requests"), SOON, async || {
            let asked = self.requests().len();
            ensure!(asked >= requests, "{asked}");
            Ok(())
        })
        .await;
    }

    /// The bodies of all requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.state.lock().requests.clone()
    }

    /// The number of different tokens in all requests so far: one for each sandbox.
    pub(crate) fn sandboxes(&self) -> usize {
        let requests = self.requests();
        requests.iter().map(|request| request["accessToken"].to_string()).collect::<BTreeSet<_>>().len()
    }
}

async fn init(Extract(state): Extract<Shared>, headers: HeaderMap, body: String) -> StatusCode {
    let answer = answer(&mut state.lock(), &headers, &body);
    match answer {
        Some(answer) => answer,
        None => pending().await,
    }
}

fn answer(state: &mut State, headers: &HeaderMap, body: &str) -> Option<StatusCode> {
    let request: Value = serde_json::from_str(body).expect("a body in JSON");
    let token = request["accessToken"].as_str().unwrap_or_default().to_owned();
    state.requests.push(request);
    if state.refused.contains(&state.requests.len()) {
        return Some(StatusCode::SERVICE_UNAVAILABLE);
    }
    let is_known = !token.is_empty() && !state.tokens.insert(token.clone());
    let given = headers.get("x-access-token").and_then(|given| given.to_str().ok());
    let may = !is_known || given == Some(&*token);
    // A silent one does the same.
    (!state.is_silent).then_some(if may { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED })
}

/// The address at which this machine reaches others. Nothing is sent.
fn own_address() -> IpAddr {
    let others = [("0.0.0.0:0", "198.51.100.1:9"), ("[::]:0", "[2001:db8::1]:9")];
    let address = |(from, to): (&str, &str)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    others.into_iter().find_map(address).expect("a network: loopback is no address of a pod")
}
