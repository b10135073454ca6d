//! Placeholder for the API types of `agents.kruise.io/v1alpha1`; replaced as a whole when they are merged.

/// The CRDs as one multi-document YAML text.
#[must_use]
pub fn crds_yaml() -> String {
    String::new()
}

/// The CRDs, one file each: name and YAML text.
#[must_use]
pub fn crd_files() -> Vec<(&'static str, String)> {
    Vec::new()
}
