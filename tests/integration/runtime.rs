//! [`Runtime`]: a program that stands in for the runtimes in all pods. It listens at their port, at an address of this
//! machine: loopback is no address of a pod.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
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
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

struct State {
    answer: StatusCode,
    requests: Vec<Value>,
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Runtime {
    /// Starts a program that answers with 204.
    pub(crate) async fn start() -> Self {
        let alone = ALONE.lock().await;
        let address = own_address();
        let listener = eventually(&format!("port {PORT} of {address} is free"), SOON, async || {
            Ok(TcpListener::bind(SocketAddr::new(address, PORT)).await?)
        })
        .await;
        let state = Arc::new(Mutex::new(State { answer: StatusCode::NO_CONTENT, requests: Vec::new() }));
        let seen = Arc::clone(&state);
        let init = move |body: String| {
            let mut state = seen.lock();
            state.requests.push(serde_json::from_str(&body).expect("a body in JSON"));
            std::future::ready(state.answer)
        };
        let app = Router::new().route("/init", post(init));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.expect("serving") });
        Self { address, state, server, _alone: alone }
    }

    /// Changes what it answers from now on.
    pub(crate) fn answer(&self, status: StatusCode) {
        self.state.lock().answer = status;
    }

    /// The bodies of all requests so far.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.state.lock().requests.clone()
    }
}

/// The address at which this machine reaches others. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("198.51.100.1:9").expect("a route to other machines");
    socket.local_addr().expect("an own address").ip()
}
