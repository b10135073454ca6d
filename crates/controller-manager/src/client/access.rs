//! [`ClusterAccess`]: which cluster to talk to.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{Kubeconfig, KubeconfigError};

use super::error::ClientError;
use super::kubeconfig::{KubeconfigFault, Selected, read_list, select};
use super::proxy::{ProxyVariables, proxy_url};

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
    /// Finds the cluster, and the proxy to it. Reads files only; sends nothing.
    pub(super) fn find(&self, proxies: &ProxyVariables) -> Result<Config, ClientError> {
        let Selected { mut config, proxy_url: named } = self.select()?;
        config.proxy_url = match named {
            Some(named) => Some(proxy_url("proxy-url of the kubeconfig", &named)?),
            None => proxies.proxy_for(&config.cluster_url)?,
        };
        Ok(config)
    }

    fn select(&self) -> Result<Selected, ClientError> {
        if let Some(path) = &self.kubeconfig {
            return self.selected(&path.display().to_string(), Kubeconfig::read_from(path));
        }
        // A variable that is set, or a file that exists, is meant to be used: if it is broken, the service account of
        // the pod would lead to another cluster than the intended one.
        if let Some(list) = std::env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
            return self.selected(&format!("KUBECONFIG={}", list.display()), read_list(&list));
        }
        match default_kubeconfig() {
            Some(path) => self.selected(&path.display().to_string(), Kubeconfig::read_from(&path)),
            None if self.context.is_some() => {
                Err(self.rejected("~/.kube/config", &KubeconfigError::FindPath.into()))
            }
            None => Config::incluster()
                .map(|config| Selected { config, proxy_url: None })
                .map_err(|cause| ClientError::NothingFound { in_cluster: Box::new(cause) }),
        }
    }

    fn selected(
        &self,
        wanted: &str,
        kubeconfig: Result<Kubeconfig, KubeconfigError>,
    ) -> Result<Selected, ClientError> {
        kubeconfig
            .map_err(KubeconfigFault::from)
            .and_then(|kubeconfig| select(&kubeconfig, self.context.as_deref()))
            .map_err(|fault| self.rejected(wanted, &fault))
    }

    fn rejected(&self, wanted: &str, fault: &KubeconfigFault) -> ClientError {
        let wanted = match &self.context {
            Some(context) => format!("{wanted}, context {context:?}"),
            None => wanted.to_owned(),
        };
        ClientError::of_kubeconfig(wanted, fault)
    }
}

fn default_kubeconfig() -> Option<PathBuf> {
    let path = Path::new(&std::env::var_os("HOME")?).join(".kube/config");
    path.exists().then_some(path)
}
