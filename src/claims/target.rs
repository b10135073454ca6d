//! [`Target`]: the sandbox that a caller means, and the owner that the caller is.

/// A claimed sandbox by its id, as one owner sees it.
///
/// A sandbox of another owner is not found, exactly as one that does not exist.
///
/// ```
/// use sandbox_manager::claims::Target;
///
/// let target = Target::new("team-a--code-interpreter-x7k2p").in_namespace("team-a").owned_by("key-1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) id: String,
    pub(super) namespace: Option<String>,
    pub(super) owner: Option<String>,
}

impl Target {
    /// Names a sandbox by its [id](crate::api::v1alpha1::Sandbox::sandbox_id), of any owner in any namespace.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self { id: id.into(), namespace: None, owner: None }
    }

    /// Finds the sandbox only in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Finds the sandbox only if this owner has claimed it.
    #[must_use]
    pub fn owned_by(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Returns the namespace and the name that an id of the usual form has: `<namespace>--<name>`.
    pub(super) fn namespace_and_name(&self) -> Option<(&str, &str)> {
        match &self.namespace {
            Some(namespace) => Some((namespace, self.id.strip_prefix(&**namespace)?.strip_prefix("--")?)),
            None => self.id.split_once("--"),
        }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}
