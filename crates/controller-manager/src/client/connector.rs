//! [`Connector`]: creates clients for one cluster.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use parking_lot::Mutex;
use prometheus::IntCounterVec;
use shared_cache::error_text;

use super::access::ClusterAccess;
use super::count::CountLayer;
use super::credential_store::CredentialStore;
use super::credentials::{CredentialSource, CredentialsError};
use super::error::ClientError;
use super::kubeconfig::select;
use super::proxy::ProxyVariables;
use super::rate_limit::{RateLimit, RateLimitLayer};
use super::transport::Transport;
use crate::fence::FenceLayer;
use crate::metrics::Metrics;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the clients of a [`Connector`] have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorOptions {
    /// Name and version of the program, which the API server writes into its audit log.
    pub user_agent: String,
    /// Requests a second over time; 0: no limit.
    pub qps: u32,
    /// Requests that may start at once after a quiet time; 0: no limit.
    pub burst: u32,
}

impl Default for ConnectorOptions {
    fn default() -> Self {
        let user_agent = concat!("controller-manager/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { user_agent, qps: 100, burst: 200 }
    }
}

/// Creates clients for one cluster that share one rate limit and the credentials. Cheap to clone.
///
/// The retries of kube are switched off: kube would repeat a 503 for minutes without a sign, while informers and
/// controllers back off, report the error and honour `Retry-After`. There is no read timeout, since it would end
/// watches; the sender of a request sets its deadline.
#[derive(Clone)]
pub struct Connector {
    config: Config,
    options: ConnectorOptions,
    limit: Arc<RateLimit>,
    requests: IntCounterVec,
    /// Loaded for the first client. Held while it is loaded, so that the credential helper runs once.
    credentials: Arc<Mutex<Option<Arc<CredentialStore>>>>,
}

impl Connector {
    /// Finds the cluster. Reads files only; sends nothing.
    ///
    /// # Errors
    ///
    /// If no kubeconfig or service account can be used, the proxy or the user agent is invalid.
    pub fn load(
        access: &ClusterAccess,
        options: &ConnectorOptions,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        Self::new(access.find(&ProxyVariables::of_process())?, options, metrics)
    }

    /// For the current context of a kubeconfig, without a proxy: for an API server that this process itself runs.
    ///
    /// # Errors
    ///
    /// [`ClientError::Kubeconfig`], [`ClientError::UserAgent`].
    pub fn without_proxy(
        kubeconfig: &Kubeconfig,
        options: &ConnectorOptions,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        let selected = select(kubeconfig, None);
        let selected = selected.map_err(|fault| ClientError::of_kubeconfig("the given one", &fault))?;
        Self::new(selected.config, options, metrics)
    }

    /// For a cluster that is known already. The timeouts and the retries of `config` are replaced.
    ///
    /// # Errors
    ///
    /// [`ClientError::UserAgent`].
    pub fn new(
        mut config: Config,
        options: &ConnectorOptions,
        metrics: &Metrics,
    ) -> Result<Self, ClientError> {
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = None;
        config.default_retry = false;
        let user_agent = HeaderValue::from_str(&options.user_agent)
            .map_err(|_| ClientError::UserAgent(options.user_agent.clone()))?;
        config.headers.push((USER_AGENT, user_agent));
        Ok(Self {
            config,
            options: options.clone(),
            limit: Arc::new(RateLimit::new(options.qps, options.burst)),
            requests: metrics.rest_client_requests().clone(),
            credentials: Arc::default(),
        })
    }

    /// The same cluster with a rate limit of its own, for requests that other requests must not hold up.
    #[must_use]
    pub fn with_own_rate_limit(&self) -> Self {
        Self { limit: Arc::new(RateLimit::new(self.options.qps, self.options.burst)), ..self.clone() }
    }

    /// Address of the API server, for logs.
    #[must_use]
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// Creates a client with connections of its own, on the current runtime.
    ///
    /// The first call blocks while it reads the files and runs the credential helper that the kubeconfig names. The
    /// clients share the credentials. They read the files again when these change, and run the helper again before its
    /// credentials expire and after a 401.
    ///
    /// # Errors
    ///
    /// [`ClientError::Build`] if certificates or credentials cannot be used.
    pub fn client(&self) -> Result<Client, ClientError> {
        let host = self.config.cluster_url.authority().map_or_else(String::new, ToString::to_string);
        let count = CountLayer::new(self.requests.clone(), host);
        let build = move |config| Ok(ClientBuilder::try_from(config)?.with_layer(&count).build());
        let credentials = self.credentials().map_err(|cause| self.build_error(&cause))?;
        let transport =
            Transport::new(credentials, Box::new(build)).map_err(|cause| self.build_error(&cause))?;
        let limit = RateLimitLayer::new(self.limit.clone());
        let builder = ClientBuilder::new(transport, self.config.default_namespace.clone());
        Ok(builder.with_layer(&FenceLayer).with_layer(&limit).build())
    }

    fn credentials(&self) -> Result<Arc<CredentialStore>, CredentialsError> {
        let mut credentials = self.credentials.lock();
        if let Some(loaded) = &*credentials {
            return Ok(loaded.clone());
        }
        let loaded = Arc::new(CredentialStore::load(CredentialSource::new(self.config.clone()))?);
        *credentials = Some(loaded.clone());
        Ok(loaded)
    }

    fn build_error(&self, cause: &(dyn Error + 'static)) -> ClientError {
        ClientError::Build { server: self.server(), cause: error_text(cause) }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use kube::config::{ExecConfig, ExecInteractiveMode};

    use super::*;

    fn options() -> ConnectorOptions {
        ConnectorOptions::default()
    }

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named_with_what_to_do() {
        let access = ClusterAccess { kubeconfig: Some("/none/config".into()), context: Some("c".to_owned()) };
        let Err(error) = Connector::load(&access, &options(), &Metrics::new().unwrap()) else {
            panic!("found a kubeconfig where there is none");
        };
        let text = error.to_string();
        assert!(text.starts_with("no usable kubeconfig: /none/config, context \"c\": "), "{text}");
        assert!(text.ends_with("choose another kubeconfig file or another context"), "{text}");
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
                "the credential helper's answer is not an ExecCredential",
            ),
        ] {
            std::fs::write(&path, format!("{head}users: [{{name: u, user: {user}}}]\n")).unwrap();
            let access = ClusterAccess { kubeconfig: Some(path.clone()), context: None };
            let connector = Connector::load(&access, &options(), &Metrics::new().unwrap());
            let Err(error) = connector.and_then(|connector| connector.client()) else {
                panic!("created a client from {user}");
            };
            let text = format!("{error} {error:?}");
            assert!(text.contains(cause), "{text}");
            assert!(!text.contains("s3cr3t") && !text.contains('\n'), "{text}");
        }
    }

    #[tokio::test]
    async fn y2_the_clients_of_a_connector_run_the_helper_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let script = r#"echo run >> "$0"; echo '{"status": {"token": "t"}}'"#;
        let runs = folder.path().join("runs");
        config.auth_info.exec = Some(ExecConfig {
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned(), runs.display().to_string()]),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        });
        let connector = Connector::new(config, &options(), &Metrics::new().unwrap()).unwrap();
        connector.client().unwrap();
        connector.with_own_rate_limit().client().unwrap();
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    }

    #[tokio::test]
    async fn a_connector_creates_clients_without_a_read_timeout() {
        let config = Config::new("http://127.0.0.1:1".parse().unwrap());
        let metrics = Metrics::new().unwrap();
        let connector = Connector::new(config, &options(), &metrics).unwrap();
        assert_eq!(connector.config.read_timeout, None);
        assert_eq!(connector.config.connect_timeout, Some(Duration::from_secs(10)));
        let client = connector.client().unwrap();
        client.request_text(Request::new(Vec::new())).await.unwrap_err();
        let failed = metrics.rest_client_requests().with_label_values(&["<error>", "GET", "127.0.0.1:1"]);
        assert_eq!(failed.get(), 1);
    }

    #[test]
    fn the_user_agent_is_the_one_of_the_program() {
        let connector = |user_agent: &str| {
            let config = Config::new("http://127.0.0.1:1".parse().unwrap());
            let options = ConnectorOptions { user_agent: user_agent.to_owned(), ..options() };
            Connector::new(config, &options, &Metrics::new().unwrap())
        };
        let config = connector("program/1.2").unwrap().config;
        assert_eq!(config.headers, [(USER_AGENT, HeaderValue::from_static("program/1.2"))]);
        let Err(error) = connector("two\nlines") else { panic!("accepted a line break") };
        assert!(error.to_string().contains("\"two\\nlines\""), "{error}");
    }
}
