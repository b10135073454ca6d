//! Kubeconfigs: which files are read, and what one context of them means.
//!
//! kube reads the files. Its own selection of a context reads `HTTPS_PROXY` and `NO_PROXY` by rules that are not those
//! of client-go, and it forgets the path of the CA file, which has to be read again. So the selection is here.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Config;
use kube::config::{AuthInfo, Cluster, Context, ExecAuthCluster, Kubeconfig, KubeconfigError};

use super::certificates::certificates;

/// Why a kubeconfig cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KubeconfigFault {
    /// A fault that kube reports.
    #[error(transparent)]
    Kube(#[from] KubeconfigError),
    /// The field `certificate-authority-data`.
    #[error("certificate-authority-data {0}")]
    Authority(String),
}

/// What a kubeconfig says about one cluster.
pub(super) struct Selected {
    /// Without a proxy.
    pub(super) config: Config,
    /// The field `proxy-url`.
    pub(super) proxy_url: Option<String>,
}

/// Reads a list of files, as `KUBECONFIG` has it. The first file that sets a value wins. A missing file is skipped,
/// unless all are missing.
pub(super) fn read_list(list: &OsStr) -> Result<Kubeconfig, KubeconfigError> {
    let mut merged: Option<Kubeconfig> = None;
    let mut missing = KubeconfigError::FindPath;
    for path in std::env::split_paths(list).filter(|path| !path.as_os_str().is_empty()) {
        match Kubeconfig::read_from(&path) {
            Ok(mut next) => {
                // kubectl writes "" for "none".
                next.current_context = next.current_context.filter(|name| !name.is_empty());
                merged = Some(match merged {
                    Some(first) => first.merge(next)?,
                    None => next,
                });
            }
            Err(KubeconfigError::ReadConfig(error, path)) if error.kind() == io::ErrorKind::NotFound => {
                missing = KubeconfigError::ReadConfig(error, path);
            }
            Err(error) => return Err(error),
        }
    }
    merged.ok_or(missing)
}

/// Selects a context: the named one, otherwise the current one.
pub(super) fn select(kubeconfig: &Kubeconfig, context: Option<&str>) -> Result<Selected, KubeconfigFault> {
    let current = kubeconfig.current_context.as_deref().filter(|name| !name.is_empty());
    let context = context.or(current).ok_or(KubeconfigError::CurrentContextNotSet)?;
    let context = context_of(kubeconfig, context)?;
    let cluster = cluster_of(kubeconfig, &context.cluster)?;
    let server = cluster.server.as_deref().ok_or(KubeconfigError::MissingClusterUrl)?;
    let mut config = Config::new(server.parse().map_err(KubeconfigError::ParseClusterUrl)?);
    if let Some(namespace) = context.namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
        config.default_namespace.clone_from(namespace);
    }
    config.accept_invalid_certs = cluster.insecure_skip_tls_verify.unwrap_or(false);
    config.disable_compression = cluster.disable_compression.unwrap_or(false);
    config.tls_server_name.clone_from(&cluster.tls_server_name);
    config.auth_info = user_of(kubeconfig, context);
    if let Some(exec) = config.auth_info.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
        exec.cluster = Some(ExecAuthCluster::try_from(cluster)?);
    }
    let (data, file) = (&cluster.certificate_authority_data, &cluster.certificate_authority);
    match (data.as_ref().filter(|data| !data.is_empty()), file.as_ref().filter(|file| !file.is_empty())) {
        (Some(data), _) => config.root_cert = Some(authority(data).map_err(KubeconfigFault::Authority)?),
        (None, Some(file)) => config.root_cert_file = Some(PathBuf::from(file)),
        (None, None) => {}
    }
    Ok(Selected { config, proxy_url: cluster.proxy_url.clone().filter(|url| !url.is_empty()) })
}

fn context_of<'a>(kubeconfig: &'a Kubeconfig, name: &str) -> Result<&'a Context, KubeconfigError> {
    let named = kubeconfig.contexts.iter().find(|context| context.name == name);
    named
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| KubeconfigError::LoadContext(name.to_owned()))
}

fn cluster_of<'a>(kubeconfig: &'a Kubeconfig, name: &str) -> Result<&'a Cluster, KubeconfigError> {
    let named = kubeconfig.clusters.iter().find(|cluster| cluster.name == name);
    let cluster = named.and_then(|named| named.cluster.as_ref());
    cluster.ok_or_else(|| KubeconfigError::LoadClusterOfContext(name.to_owned()))
}

/// A context without a user, or with an unknown one, has no credentials, as in client-go.
fn user_of(kubeconfig: &Kubeconfig, context: &Context) -> AuthInfo {
    let named = kubeconfig.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
    named.and_then(|named| named.auth_info.clone()).unwrap_or_default()
}

fn authority(data: &str) -> Result<Vec<Vec<u8>>, String> {
    let pem = STANDARD.decode(data.trim()).map_err(|_| "is not base64".to_owned())?;
    certificates(&pem)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn joined(paths: &[PathBuf]) -> std::ffi::OsString {
        std::env::join_paths(paths).unwrap()
    }

    #[test]
    fn y2_missing_files_of_a_list_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (none, other) = (folder.path().join("none"), folder.path().join("other"));
        let contexts = write(
            folder.path(),
            "contexts",
            "current-context: ''\ncontexts: [{name: c, context: {cluster: k, user: u}}]",
        );
        let clusters = write(
            folder.path(),
            "clusters",
            "current-context: c\nclusters: [{name: k, cluster: {server: 'https://api.test', certificate-authority: ca.crt}}]",
        );
        let merged = read_list(&joined(&[none.clone(), contexts, other.clone(), clusters])).unwrap();
        let selected = select(&merged, None).unwrap();
        assert_eq!(selected.config.cluster_url, "https://api.test/");
        // Paths are relative to the file that names them, and are kept so that the file can be read again.
        assert_eq!(selected.config.root_cert_file, Some(folder.path().join("ca.crt")));

        let error = read_list(&joined(&[none, other.clone()])).unwrap_err();
        assert!(matches!(&error, KubeconfigError::ReadConfig(_, path) if *path == other), "{error}");
    }

    #[test]
    fn y2_a_file_of_a_list_that_is_broken_is_no_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let broken = write(folder.path(), "broken", "clusters: 1");
        let error = read_list(&joined(&[broken])).unwrap_err();
        assert!(matches!(error, KubeconfigError::Parse(_)), "{error}");
    }
}
