//! The client of the API server: found by kubeconfig or in the cluster, limited in its rate, counted in metrics.
//!
//! [`Connector`] is made once, before anything is started; every client it hands out shares one rate limit. kube's
//! own retries are switched off: it would repeat a 503 for minutes unseen, while informers and controllers back
//! off, report and honour `Retry-After` by themselves. No read timeout is set, since it would cut watches; whoever
//! sends a request sets its deadline. Tokens and certificates stay inside kube's own types.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use prometheus::IntCounterVec;
use tower::{Layer, Service};

use crate::{
    metrics::Metrics,
    options::ClientOptions,
    rate_limit::{RateLimit, RateLimitLayer},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which cluster to talk to, and as whom. The default looks at `KUBECONFIG`, then `~/.kube/config`, then the
/// service account of the pod.
#[derive(Clone, Debug, Default)]
pub struct ClusterAccess {
    /// A kubeconfig file to use and no other.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    pub context: Option<String>,
}

/// Why no client can be made. None of these mends itself: the process should end.
///
/// Causes are texts of our own where kube's would quote the kubeconfig or what a credential helper printed: those
/// hold tokens.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig that was asked for cannot be used.
    #[error(
        "no usable kubeconfig: {wanted}: {cause}; name another file with --kubeconfig or another context with --context"
    )]
    Kubeconfig {
        /// The file or the variable that was looked at, and the context if one was named.
        wanted: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error(
        "no usable kubeconfig: KUBECONFIG is not set, there is no ~/.kube/config, and this is no pod with a service \
         account ({in_cluster}); name a file with --kubeconfig or set KUBECONFIG"
    )]
    NothingFound {
        /// Why the service account cannot be used.
        in_cluster: Box<kube::config::InClusterError>,
    },
    /// The cluster is known, but its certificates, its credentials or its proxy cannot be used.
    #[error(
        "cannot make a client for {server}: {cause}; check the certificates and credentials of that kubeconfig"
    )]
    Build {
        /// Address of the API server.
        server: String,
        /// What is wrong.
        cause: String,
    },
    /// The system refuses a thread for the watches.
    #[error("cannot start a thread for the watches: {0}")]
    Thread(#[source] io::Error),
}

impl ClientError {
    /// For a kubeconfig that was made and not read.
    #[cfg(feature = "dev")]
    pub(crate) fn of_generated(error: &KubeconfigError) -> Self {
        Self::Kubeconfig { wanted: "the generated one".to_owned(), cause: kubeconfig_cause(error) }
    }
}

/// What is wrong with a kubeconfig, in one line that quotes none of its content.
fn kubeconfig_cause(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::FindPath => "there is no such file".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("{} cannot be read: {error}", path.display()),
        // The parser's own text shows the lines around the place.
        KubeconfigError::Parse(error) => error.location().map_or_else(
            || "not a valid kubeconfig".to_owned(),
            |at| format!("not a valid kubeconfig at line {}, column {}", at.line(), at.column()),
        ),
        KubeconfigError::LoadContext(name) => format!("there is no context {name:?} in it"),
        KubeconfigError::LoadClusterOfContext(name) => format!("there is no cluster {name:?} in it"),
        other => error_text(other),
    }
}

/// Makes clients for one cluster that share one rate limit.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    options: ClientOptions,
    limit: Arc<RateLimit>,
    requests: IntCounterVec,
}

impl Connector {
    /// Finds the cluster. Reads files only, sends nothing.
    ///
    /// # Errors
    ///
    /// When no kubeconfig or service account can be used.
    pub async fn load(
        access: &ClusterAccess,
        options: &ClientOptions,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        Ok(Self::new(find(access).await?, options, metrics))
    }

    /// Takes a cluster that is known already. The timeouts, the headers and the retries of `config` are replaced.
    #[must_use]
    pub fn new(mut config: Config, options: &ClientOptions, metrics: &Metrics) -> Self {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = None;
        config.default_retry = false;
        let agent = concat!("sandbox-manager/", env!("CARGO_PKG_VERSION"));
        config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
        Self {
            config,
            options: options.clone(),
            limit: Arc::new(RateLimit::new(options.qps, options.burst)),
            requests: metrics.rest_client_requests().clone(),
        }
    }

    /// The same cluster with a rate limit of its own, for whom others must not hold up.
    #[must_use]
    pub fn separate(&self) -> Self {
        Self { limit: Arc::new(RateLimit::new(self.options.qps, self.options.burst)), ..self.clone() }
    }

    /// Address of the API server, for logs.
    #[must_use]
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// A client with connections of its own, on the runtime that it is made in.
    ///
    /// # Errors
    ///
    /// When certificates or credentials cannot be used. A credential helper that the kubeconfig names is run.
    pub fn client(&self) -> Result<Client, ClientError> {
        let host = self.config.cluster_url.authority().map_or_else(String::new, ToString::to_string);
        let builder = ClientBuilder::try_from(self.config.clone())
            .map_err(|cause| ClientError::Build { server: self.server(), cause: error_text(&cause) })?;
        let count = CountLayer { requests: self.requests.clone(), host: host.into() };
        Ok(builder.with_layer(&count).with_layer(&RateLimitLayer::new(self.limit.clone())).build())
    }
}

async fn find(access: &ClusterAccess) -> Result<Config, ClientError> {
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &access.kubeconfig {
        let failed = |cause: KubeconfigError| refused(&path.display().to_string(), access, &cause);
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed);
    }
    // A variable or a file that is there means to be used: falling back to the pod's service account when it is
    // broken would talk to another cluster than the one meant.
    let named = std::env::var("KUBECONFIG").ok().filter(|value| !value.is_empty());
    let wanted = named.map(|value| format!("KUBECONFIG={value}")).or_else(default_kubeconfig);
    match wanted {
        Some(wanted) => {
            Config::from_kubeconfig(&options).await.map_err(|cause| refused(&wanted, access, &cause))
        }
        None if access.context.is_some() => {
            Err(refused("~/.kube/config", access, &KubeconfigError::FindPath))
        }
        None => {
            Config::incluster().map_err(|cause| ClientError::NothingFound { in_cluster: Box::new(cause) })
        }
    }
}

fn default_kubeconfig() -> Option<String> {
    let path = Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then(|| path.display().to_string())
}

fn refused(wanted: &str, access: &ClusterAccess, cause: &KubeconfigError) -> ClientError {
    let wanted = match &access.context {
        Some(context) => format!("{wanted}, context {context:?}"),
        None => wanted.to_owned(),
    };
    ClientError::Kubeconfig { wanted, cause: kubeconfig_cause(cause) }
}

/// Counts requests by what came of them. A watch counts when its answer begins.
struct CountLayer {
    requests: IntCounterVec,
    host: Arc<str>,
}

impl<S> Layer<S> for CountLayer {
    type Service = Count<S>;

    fn layer(&self, inner: S) -> Count<S> {
        Count { inner, requests: self.requests.clone(), host: self.host.clone() }
    }
}

struct Count<S> {
    inner: S,
    requests: IntCounterVec,
    host: Arc<str>,
}

impl<S, B> Service<Request<Body>> for Count<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (requests, host, method) = (self.requests.clone(), self.host.clone(), request.method().clone());
        let counted = self.inner.call(request).inspect(move |answer| {
            let status = answer.as_ref().map(Response::status);
            let code = status.as_ref().map_or("<error>", |status| status.as_str());
            requests.with_label_values(&[code, method.as_str(), &host]).inc();
        });
        counted.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_what_to_do() {
        let access = ClusterAccess { kubeconfig: Some("/none/config".into()), context: Some("c".to_owned()) };
        let Err(error) = Connector::load(&access, &ClientOptions::default(), &Metrics::new().unwrap()).await
        else {
            panic!("found a kubeconfig where there is none");
        };
        let text = error.to_string();
        assert!(text.starts_with("no usable kubeconfig: /none/config, context \"c\": "), "{text}");
        assert!(
            text.ends_with("name another file with --kubeconfig or another context with --context"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_broken_kubeconfig_is_named_without_its_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let head = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                    contexts: [{name: c, context: {cluster: k, user: u}}]\n\
                    clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]\n";
        let helper =
            "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args";
        for (user, cause) in [
            ("{token: s3cr3t, password: [x]}", "line 6, column 51"),
            (
                &*format!("{{{helper}: [-c, 'echo s3cr3t; exit 3']}}}}"),
                "the credential helper failed with exit status: 3",
            ),
            (
                &*format!("{{{helper}: [-c, 'echo [s3cr3t']}}}}"),
                "the credential helper's answer is no ExecCredential",
            ),
        ] {
            std::fs::write(&path, format!("{head}users: [{{name: u, user: {user}}}]\n")).unwrap();
            let access = ClusterAccess { kubeconfig: Some(path.clone()), context: None };
            let metrics = Metrics::new().unwrap();
            let connector = Connector::load(&access, &ClientOptions::default(), &metrics).await;
            let Err(error) = connector.and_then(|connector| connector.client()) else {
                panic!("made a client from {user}");
            };
            let text = format!("{error} {error:?}");
            assert!(text.contains(cause), "{text}");
            assert!(!text.contains("s3cr3t") && !text.contains('\n'), "{text}");
        }
    }

    #[tokio::test]
    async fn answers_and_failures_are_counted_by_code_method_and_host() {
        let metrics = Metrics::new().unwrap();
        let layer = CountLayer { requests: metrics.rest_client_requests().clone(), host: "h:443".into() };
        let answering = service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::builder().status(404).body(()).unwrap())
        });
        let failing = service_fn(|_: Request<Body>| async { Err::<Response<()>, _>("reset") });
        layer.layer(answering).oneshot(Request::new(Body::empty())).await.unwrap();
        layer.layer(failing).oneshot(Request::new(Body::empty())).await.unwrap_err();
        for code in ["404", "<error>"] {
            assert_eq!(metrics.rest_client_requests().with_label_values(&[code, "GET", "h:443"]).get(), 1);
        }
    }

    #[tokio::test]
    async fn a_connector_makes_clients_and_sets_no_read_timeout() {
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let metrics = Metrics::new().unwrap();
        let connector = Connector::new(config, &ClientOptions::default(), &metrics);
        assert_eq!(connector.config.read_timeout, None);
        assert_eq!(connector.config.connect_timeout, Some(Duration::from_secs(10)));
        let client = connector.client().unwrap();
        client.request_text(Request::new(Vec::new())).await.unwrap_err();
        let failed = metrics.rest_client_requests().with_label_values(&["<error>", "GET", "127.0.0.1:1"]);
        assert_eq!(failed.get(), 1);
    }
}
