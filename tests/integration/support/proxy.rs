//! [`Proxy`]: the network between a client and the API server, in the hands of a test.
//!
//! Bytes are handed on as they come, TLS and all: the certificate is for 127.0.0.1 whatever the port. The proxy
//! runs on the runtime of the test that made it and ends with it.

use std::net::{Ipv4Addr, SocketAddr};

use kube::config::Kubeconfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Cluster;

/// What becomes of connections. They are numbered from 1.
#[derive(Clone, Copy, Default)]
struct State {
    /// Whether connections are broken off and refused.
    cut: bool,
    /// Connections up to this number stand still: nothing arrives, and nobody is told.
    stalled: u64,
    /// Number of the newest connection.
    newest: u64,
}

/// A listener on loopback that hands connections on to the API server.
pub(crate) struct Proxy {
    scheme: String,
    address: SocketAddr,
    state: watch::Sender<State>,
}

impl Proxy {
    /// To the API server of a cluster.
    pub(crate) async fn to(cluster: &Cluster) -> Self {
        let url = cluster.url();
        let (scheme, target) = url.split_once("://").expect("an address with a scheme");
        let (scheme, target) = (scheme.to_owned(), target.to_owned());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let state = watch::Sender::new(State::default());
        tokio::spawn(accept(listener, target, state.clone()));
        Self { scheme, address, state }
    }

    /// Leads the clusters of a kubeconfig through here.
    pub(crate) fn lead(&self, mut kubeconfig: Kubeconfig) -> Kubeconfig {
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(format!("{}://{}", self.scheme, self.address));
        }
        kubeconfig
    }

    /// Breaks off every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Lets connections through again.
    pub(crate) fn restore(&self) {
        self.state.send_modify(|state| state.cut = false);
    }

    /// Stops handing on what the present connections carry, without a word to either side. New ones are well.
    pub(crate) fn stall(&self) {
        self.state.send_modify(|state| state.stalled = state.newest);
    }

    /// As [`Self::stall`], for connections that are made from now on as well.
    pub(crate) fn freeze(&self) {
        self.state.send_modify(|state| state.stalled = u64::MAX);
    }

    /// Hands on again, also what has come meanwhile.
    pub(crate) fn resume(&self) {
        self.state.send_modify(|state| state.stalled = 0);
    }
}

async fn accept(listener: TcpListener, target: String, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if !state.borrow().cut {
            state.send_modify(|state| state.newest += 1);
            let number = state.borrow().newest;
            tokio::spawn(connect(client, target.clone(), number, state.subscribe()));
        }
    }
}

async fn connect(client: TcpStream, target: String, number: u64, mut state: watch::Receiver<State>) {
    let gate = state.clone();
    let carry = async {
        let Ok(server) = TcpStream::connect(&target).await else {
            return;
        };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::join!(
            pump(from_client, to_server, number, gate.clone()),
            pump(from_server, to_client, number, gate.clone()),
        );
    };
    tokio::select! {
        () = carry => {}
        _ = state.wait_for(|state| state.cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let open = state.wait_for(|state| number > state.stalled).await.is_ok();
        if !open || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
