//! [`Gate`]: stands between programs and an API server, and does to single requests what a test says.
//!
//! It speaks plain HTTP, so it sees each request, on any API server. A request that is not a read goes on when its sender
//! is gone: the network has it already. The gate ends with the runtime of the test that made it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use kube::config::Kubeconfig;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::BoxError;

type Answer = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// A request on its way to the API server.
pub(crate) struct Passing {
    pub(crate) method: Method,
    pub(crate) path: String,
    body: Bytes,
}

impl Passing {
    /// True if it writes this text.
    pub(crate) fn writes(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Pass,
    /// It is answered with this status, and the API server does not see it.
    Answer(u16),
    /// It comes later.
    Delay(Duration),
    /// Its connection ends, and the API server does not see it.
    Drop,
    /// The API server answers it, and its connection ends instead.
    DropAnswer,
}

/// At which end of its way a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The API server has not seen it.
    Before,
    /// The API server has answered it, and its sender does not know.
    After,
}

type Chooser = Arc<dyn Fn(&Passing) -> Fate + Send + Sync>;

/// The next request that matches is held.
struct Trap {
    matches: Box<dyn Fn(&Passing) -> bool + Send>,
    side: Side,
    reached: oneshot::Sender<()>,
    fate: oneshot::Receiver<Fate>,
}

/// A request that will be held, or is.
pub(crate) struct Stop {
    reached: Option<oneshot::Receiver<()>>,
    fate: oneshot::Sender<Fate>,
}

impl Stop {
    /// Waits until the request is held.
    pub(crate) async fn is_reached(&mut self) {
        let reached = self.reached.take().expect("asked once");
        let held = tokio::time::timeout(2 * super::SOON, reached).await;
        held.expect("the request comes").expect("the gate is open");
    }

    /// Lets the request go. [`Fate::Drop`] ends its connection, on either side.
    pub(crate) fn release(self, fate: Fate) {
        // The request may be gone with its sender.
        let _ = self.fate.send(fate);
    }
}

struct State {
    client: Client,
    chooser: Mutex<Chooser>,
    traps: Mutex<Vec<Trap>>,
}

/// The way to an API server.
pub(crate) struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

impl Gate {
    /// To the API server of a client.
    pub(crate) async fn to(client: Client) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("the address of a listener");
        let state = Arc::new(State {
            client,
            chooser: Mutex::new(Arc::new(|_| Fate::Pass)),
            traps: Mutex::default(),
        });
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state }
    }

    /// The kubeconfig of programs that go through here.
    pub(crate) fn kubeconfig(&self) -> Kubeconfig {
        let text = json!({
            "current-context": "gate",
            "clusters": [{"name": "gate", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "gate", "user": {}}],
            "contexts": [{"name": "gate", "context": {"cluster": "gate", "user": "gate"}}],
        });
        serde_json::from_value(text).expect("a kubeconfig")
    }

    /// Chooses the fate of each request from now on.
    pub(crate) fn choose(&self, chooser: impl Fn(&Passing) -> Fate + Send + Sync + 'static) {
        *self.state.chooser.lock() = Arc::new(chooser);
    }

    /// Lets each request pass from now on.
    pub(crate) fn open(&self) {
        self.choose(|_| Fate::Pass);
    }

    /// Holds the next request that matches.
    pub(crate) fn hold(&self, side: Side, matches: impl Fn(&Passing) -> bool + Send + 'static) -> Stop {
        let (reached_sender, reached) = oneshot::channel();
        let (fate, fate_receiver) = oneshot::channel();
        let trap = Trap { matches: Box::new(matches), side, reached: reached_sender, fate: fate_receiver };
        self.state.traps.lock().push(trap);
        Stop { reached: Some(reached), fate }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(|request| handle(Arc::clone(&state), request));
            // A connection that ends early is what this gate is for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> Answer {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let passing =
        Passing { method: parts.method.clone(), path: parts.uri.path().to_owned(), body: body.clone() };
    parts.headers.remove(header::HOST);
    let request = Request::from_parts(parts, Body::from(body));
    if passing.method == Method::GET {
        return pass(&state, passing, request).await;
    }
    tokio::spawn(async move { pass(&state, passing, request).await }).await?
}

async fn pass(state: &State, passing: Passing, request: Request<Body>) -> Answer {
    let trap = state.trap(&passing);
    let chooser = Arc::clone(&state.chooser.lock());
    let mut fate = chooser(&passing);
    let mut after = None;
    match trap {
        Some(trap) if trap.side == Side::Before => fate = trap.hold().await,
        Some(trap) => after = Some(trap),
        None => {}
    }
    match fate {
        Fate::Pass | Fate::DropAnswer => {}
        Fate::Answer(code) => return answer(code),
        Fate::Delay(time) => tokio::time::sleep(time).await,
        Fate::Drop => return Err("dropped".into()),
    }
    let mut response = state.client.send(request).await;
    if let Some(after) = after {
        // All of the answer is here before anybody goes.
        if let Ok(answer) = response {
            let (parts, body) = answer.into_parts();
            response = Ok(Response::from_parts(parts, Body::from(body.collect().await?.to_bytes())));
        }
        fate = after.hold().await;
    }
    if matches!(fate, Fate::Drop | Fate::DropAnswer) {
        return Err("dropped".into());
    }
    Ok(response?.map(|body| body.map_err(BoxError::from).boxed_unsync()))
}

impl State {
    fn trap(&self, passing: &Passing) -> Option<Trap> {
        let mut traps = self.traps.lock();
        let place = traps.iter().position(|trap| (trap.matches)(passing))?;
        Some(traps.remove(place))
    }
}

impl Trap {
    async fn hold(self) -> Fate {
        // A test that has ended waits no more.
        let _ = self.reached.send(());
        self.fate.await.unwrap_or(Fate::Drop)
    }
}

fn answer(code: u16) -> Answer {
    let reason = if code == 409 { "Conflict" } else { "InternalError" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": "a fault of the test",
    });
    let body = Full::from(status.to_string()).map_err(BoxError::from).boxed_unsync();
    Ok(Response::builder().status(code).header(header::CONTENT_TYPE, "application/json").body(body)?)
}
