//! [`ClusterAccess`]: which cluster to talk to.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::error::ClientError;

/// Which cluster to talk to, and as whom. The default is the kubeconfig of `KUBECONFIG`, then `~/.kube/config`, then
/// the service account of the pod.
#[derive(Clone, Debug, Default)]
pub struct ClusterAccess {
    /// The only kubeconfig file to read.
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    pub context: Option<String>,
}

impl ClusterAccess {
    /// Finds the cluster. Reads files only; sends nothing.
    pub(super) async fn find(&self) -> Result<Config, ClientError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(path) = &self.kubeconfig {
            let failed = |cause: KubeconfigError| self.rejected(&path.display().to_string(), &cause);
            let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
            return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed);
        }
        // A variable that is set, or a file that exists, is meant to be used: if it is broken, the service account of
        // the pod would lead to another cluster than the intended one.
        let named = std::env::var("KUBECONFIG").ok().filter(|value| !value.is_empty());
        let wanted = named.map(|value| format!("KUBECONFIG={value}")).or_else(default_kubeconfig);
        match wanted {
            Some(wanted) => {
                Config::from_kubeconfig(&options).await.map_err(|cause| self.rejected(&wanted, &cause))
            }
            None if self.context.is_some() => {
                Err(self.rejected("~/.kube/config", &KubeconfigError::FindPath))
            }
            None => {
                Config::incluster().map_err(|cause| ClientError::NothingFound { in_cluster: Box::new(cause) })
            }
        }
    }

    fn rejected(&self, wanted: &str, cause: &KubeconfigError) -> ClientError {
        let wanted = match &self.context {
            Some(context) => format!("{wanted}, context {context:?}"),
            None => wanted.to_owned(),
        };
        ClientError::of_kubeconfig(wanted, cause)
    }
}

fn default_kubeconfig() -> Option<String> {
    let path = Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then(|| path.display().to_string())
}
