//! Where this process runs: the namespace and the name of its pod.

use std::path::Path;

use uuid::Uuid;

/// Kubernetes writes the namespace of a pod with a service account here.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace of the pod of this process: the variable `POD_NAMESPACE`, otherwise the file that Kubernetes puts
/// beside the token of the service account. `None` outside of a pod.
#[must_use]
pub fn pod_namespace() -> Option<String> {
    namespace_from(std::env::var("POD_NAMESPACE").ok(), Path::new(NAMESPACE_FILE))
}

/// A name for this process that no other process has: the name of its pod, and a random part. The name of the pod is
/// the variable `POD_NAME`, otherwise the host name.
///
/// The random part keeps a restarted container from taking the lease of the earlier process for its own.
#[must_use]
pub fn pod_identity() -> String {
    let name = std::env::var("POD_NAME").ok().filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    format!("{name}_{}", Uuid::new_v4())
}

fn namespace_from(variable: Option<String>, file: &Path) -> Option<String> {
    let named = variable.filter(|name| !name.is_empty());
    // A file that cannot be read is the same as no file: this is not a pod.
    let named = named.or_else(|| std::fs::read_to_string(file).ok());
    named.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_goes_before_the_file_of_the_service_account() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("namespace");
        assert_eq!(namespace_from(None, &file), None);
        std::fs::write(&file, "of-the-file\n").unwrap();
        assert_eq!(namespace_from(Some(String::new()), &file).as_deref(), Some("of-the-file"));
        assert_eq!(namespace_from(Some("given".to_owned()), &file).as_deref(), Some("given"));
    }

    #[test]
    fn two_processes_of_one_pod_have_different_identities() {
        let (one, other) = (pod_identity(), pod_identity());
        assert_ne!(one, other);
        let pod = |identity: &str| identity.rsplit_once('_').unwrap().0.to_owned();
        assert_eq!(pod(&one), pod(&other));
        assert!(!pod(&one).is_empty());
    }
}
