//! [`ClientError`]: why no client can be created.

use kube::config::{InClusterError, KubeconfigError};
use shared_cache::error_text;

use super::kubeconfig::KubeconfigFault;

/// Why no client can be created. None of these goes away by itself, so the process should exit.
///
/// The causes are our own texts where those of kube would quote the kubeconfig or the output of a credential helper:
/// these contain tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The kubeconfig that was asked for cannot be used.
    #[error("no usable kubeconfig: {wanted}: {cause}; choose another kubeconfig file or another context")]
    Kubeconfig {
        /// The file or the variable that was read, and the context if one was named.
        wanted: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Neither a kubeconfig nor a service account was found.
    #[error(
        "no usable kubeconfig: KUBECONFIG is not set, there is no ~/.kube/config, and this is not a pod with a \
         service account ({in_cluster}); choose a kubeconfig file or set KUBECONFIG"
    )]
    NothingFound {
        /// Why the service account cannot be used.
        in_cluster: Box<InClusterError>,
    },
    /// The cluster is known, but its certificates, its credentials or its proxy cannot be used.
    #[error(
        "cannot create a client for {server}: {cause}; check the certificates and credentials of the kubeconfig"
    )]
    Build {
        /// Address of the API server.
        server: String,
        /// What is wrong.
        cause: String,
    },
    /// A variable, or the `proxy-url` of the kubeconfig, is not the address of a proxy.
    #[error(
        "{name} is not the address of a proxy; expected http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
    )]
    Proxy {
        /// Name of the variable or the field.
        name: String,
    },
    /// The user agent contains a character that no header may contain.
    #[error("the user agent {0:?} contains a character that is not allowed in a header")]
    UserAgent(String),
}

impl ClientError {
    /// For a kubeconfig that `wanted` describes. The error quotes none of its content.
    pub(super) fn of_kubeconfig(wanted: impl Into<String>, fault: &KubeconfigFault) -> Self {
        let cause = match fault {
            KubeconfigFault::Kube(error) => kubeconfig_cause(error),
            fault @ KubeconfigFault::Authority(_) => fault.to_string(),
        };
        Self::Kubeconfig { wanted: wanted.into(), cause }
    }
}

/// What is wrong with a kubeconfig, on one line that quotes none of its content.
fn kubeconfig_cause(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::FindPath => "there is no such file".to_owned(),
        KubeconfigError::ReadConfig(error, path) => format!("{} cannot be read: {error}", path.display()),
        // The text of the parser quotes the lines around the place.
        KubeconfigError::Parse(error) => error.location().map_or_else(
            || "not a valid kubeconfig".to_owned(),
            |at| format!("not a valid kubeconfig at line {}, column {}", at.line(), at.column()),
        ),
        KubeconfigError::LoadContext(name) => format!("it has no context {name:?}"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster {name:?}"),
        other => error_text(other),
    }
}
