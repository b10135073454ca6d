//! [`Server`]: what all requests share, and the way of one request from its bytes to its answer.

use std::io;
#[cfg(feature = "__serve")]
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::timeout;

use super::access::{self, Access, Attributes, User};
use super::answer;
use super::error::ApiError;
use super::faults::{Failure, Faults, Interference};
use super::request::{Params, Path, Target, Verb};
use super::resource::{Registry, Resource};
#[cfg(feature = "__serve")]
use super::serve::Identity;
use super::store::{Limits, Store};
use super::{discovery, verbs};

/// Largest body that is read, as kube-apiserver has it.
pub(crate) const MAX_BODY: usize = 3 << 20;

/// What all requests share.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    registry: RwLock<Arc<Registry>>,
    /// Held while the names of a definition are judged.
    pub(crate) naming: Mutex<()>,
    /// Raised to end every watch and connection.
    cuts: watch::Sender<u64>,
    /// Raised to have bookmarks sent.
    nudges: watch::Sender<u64>,
    /// Made when the server first listens, and kept, so that clients know it again.
    #[cfg(feature = "__serve")]
    identity: Mutex<Option<Arc<Identity>>>,
}

/// Who sent a request without a socket, as its extension.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) user: User,
    /// Whether nothing is to go wrong with what they send.
    pub(crate) spared: bool,
}

/// One request for a resource, read and permitted.
pub(crate) struct Call {
    pub(crate) server: Arc<Server>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) params: Params,
    pub(crate) headers: HeaderMap,
    pub(crate) user: User,
    pub(crate) body: Bytes,
    /// What is to go wrong with it.
    pub(crate) interference: Interference,
}

impl Server {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let server = Arc::new(Self {
            store: Store::new(limits),
            access: Access::default(),
            faults: Faults::default(),
            registry: RwLock::default(),
            naming: Mutex::default(),
            cuts: watch::Sender::new(0),
            nudges: watch::Sender::new(0),
            #[cfg(feature = "__serve")]
            identity: Mutex::default(),
        });
        server.refresh_registry();
        super::bootstrap::fill(&server);
        server
    }

    /// What is served now.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }

    /// Serves what the stored definitions ask for.
    pub(crate) fn refresh_registry(&self) {
        // Under the lock, so that a refresh that saw older definitions can't come last.
        let mut registry = self.registry.write();
        *registry = Arc::new(super::served::registry(&self.store, &registry));
    }

    /// Ends every watch and every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    pub(crate) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    /// Sends a bookmark to every watch that wants some.
    pub(crate) fn send_bookmarks(&self) {
        self.nudges.send_modify(|count| *count += 1);
    }

    pub(crate) fn nudges(&self) -> watch::Receiver<u64> {
        self.nudges.subscribe()
    }

    /// What the server shows to be itself by, when it listens on an address.
    #[cfg(feature = "__serve")]
    pub(crate) fn identity(&self, address: SocketAddr) -> io::Result<Arc<Identity>> {
        let mut identity = self.identity.lock();
        match &*identity {
            Some(known) => Ok(Arc::clone(known)),
            None => Ok(Arc::clone(identity.insert(Arc::new(Identity::new(address)?)))),
        }
    }

    /// Answers one request, whatever is sent.
    ///
    /// # Errors
    ///
    /// When a fault wants the connection dropped instead.
    pub(crate) async fn handle(self: Arc<Self>, request: Request<Body>) -> io::Result<Response<Body>> {
        let head = *request.method() == Method::HEAD;
        let answer = match self.respond(request).await {
            Ok(answer) => answer,
            Err(Failure::Refused(error)) => answer::error(&error),
            Err(Failure::Dropped) => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        Ok(if head { answer.map(|_| Body::empty()) } else { answer })
    }

    async fn respond(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let (parts, body) = request.into_parts();
        let (sender, spared) = match parts.extensions.get::<Sender>() {
            Some(sender) => (sender.user.clone(), sender.spared),
            None => (self.access.identify(&parts.headers)?, false),
        };
        let user = access::impersonate(sender, &parts.headers)?;
        let path = Path::parse(parts.uri.path());
        let Path::Resource(target) = path else {
            return Ok(discovery::answer(&self, &user, &path, &parts)?);
        };
        let params = Params::parse(&parts.uri)?;
        let verb = target.verb(&parts.method, &params);
        let interference =
            if spared { Interference::default() } else { self.faults.on_request(verb, &target) };
        interference.before(&self).await?;
        if let Some(verb) = verb {
            self.permit(&user, verb, &target)?;
        }
        let registry = self.registry();
        let Some(resource) = registry.find(&target.group, &target.version, &target.plural) else {
            return Ok(discovery::unknown(&registry, &target.group)?);
        };
        let verb = verb.ok_or_else(ApiError::method_not_allowed)?;
        let call = Call {
            server: Arc::clone(&self),
            resource: Arc::clone(resource),
            verb,
            target,
            params,
            headers: parts.headers,
            user,
            body: read(body).await?,
            interference: interference.clone(),
        };
        interference.after(verbs::answer(&call)?)
    }

    fn permit(&self, user: &User, verb: Verb, target: &Target) -> Result<(), ApiError> {
        let resource = match &target.subresource {
            Some(subresource) => format!("{}/{subresource}", target.plural),
            None => target.plural.clone(),
        };
        let of_namespaces = target.plural == "namespaces" && target.group.is_empty();
        let asked = Attributes {
            verb: verb.as_str(),
            group: &target.group,
            resource: &resource,
            namespace: target.namespace.as_deref().or(target.name.as_deref().filter(|_| of_namespaces)),
            name: target.name.as_deref(),
        };
        if access::is_allowed(&self.store, user, &asked) {
            return Ok(());
        }
        let about = super::error::About {
            group: &target.group,
            plural: &target.plural,
            name: target.name.as_deref().unwrap_or_default(),
        };
        Err(ApiError::forbidden(&about, &access::denial(user, &asked)))
    }
}

/// A client that stalls keeps its connection, of which there are only so many, no longer than this.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let body = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await;
    let late = |_| ApiError::bad_request(format!("the request's body took more than {BODY_TIMEOUT:?}"));
    match body.map_err(late)? {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(ApiError::request_too_large(MAX_BODY))
        }
        Err(error) => Err(ApiError::bad_request(format!("the request's body broke off: {error}"))),
    }
}
