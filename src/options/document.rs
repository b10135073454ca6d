//! The header of an options file: `apiVersion` and `kind`.

/// `apiVersion` that a file must state.
pub const API_VERSION: &str = "config.agents.kruise.io/v1alpha1";
/// `kind` that a file must state.
pub const KIND: &str = "SandboxManagerOptions";
