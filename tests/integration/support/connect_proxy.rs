//! [`ConnectProxy`]: an HTTP proxy that leads every tunnel to the API server, and notes what was asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::Cluster;

/// Ends with the runtime of the test.
pub(crate) struct ConnectProxy {
    address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub(crate) async fn to(cluster: &Cluster) -> Self {
        let url = cluster.url();
        let target = url.strip_prefix("https://").expect("an address with TLS").to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let tunnels = Arc::<Mutex<Vec<_>>>::default();
        let noted = tunnels.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tunnel(stream, target.clone(), noted.clone()));
            }
        });
        Self { address, tunnels }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The servers for which a tunnel was asked, one for each tunnel.
    pub(crate) fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().clone()
    }
}

/// Either side may end at any time, so errors end the tunnel silently.
async fn tunnel(mut stream: TcpStream, target: String, tunnels: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(asked) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return };
    tunnels.lock().push(asked.to_owned());
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut stream, &mut server).await;
    }
}
