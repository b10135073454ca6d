//! [`Obstacle`]: why a volume claim of a sandbox cannot be used (LS3).

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::api::GROUP;
use crate::api::v1alpha1::Sandbox;

/// Why a volume claim that has the name of one of a sandbox cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The claim of this name is being deleted. A pod that used it would lose its data.
    Ending(String),
    /// Another sandbox owns the claim, such as a deleted one of the same name. The claim goes with its owner.
    Taken {
        /// Name of the claim.
        claim: String,
        /// The sandbox that owns it, for messages.
        owner: String,
    },
}

impl Obstacle {
    /// Returns why a sandbox cannot use an existing claim; `None` if it can: it owns the claim, or no sandbox does. A user
    /// may have made the claim for it.
    pub(super) fn of(claim: &PersistentVolumeClaim, sandbox: &Sandbox) -> Option<Self> {
        let name = || claim.metadata.name.clone().unwrap_or_default();
        if claim.metadata.deletion_timestamp.is_some() {
            return Some(Self::Ending(name()));
        }
        let owners: Vec<_> =
            claim.metadata.owner_references.iter().flatten().filter(|owner| is_sandbox(owner)).collect();
        if owners.iter().any(|owner| Some(&owner.uid) == sandbox.metadata.uid.as_ref()) {
            return None;
        }
        let owner = owners.first()?;
        Some(Self::Taken { claim: name(), owner: format!("Sandbox {} (UID {})", owner.name, owner.uid) })
    }
}

fn is_sandbox(owner: &OwnerReference) -> bool {
    owner.kind == "Sandbox" && owner.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn obstacle(metadata: Value) -> Option<Obstacle> {
        let mut claim = json!({});
        claim["metadata"] = metadata;
        claim["metadata"]["name"] = json!("data-s");
        let sandbox = json!({"metadata": {"name": "s", "uid": "u"}, "spec": {}});
        Obstacle::of(&serde_json::from_value(claim).unwrap(), &serde_json::from_value(sandbox).unwrap())
    }

    fn owner(kind: &str, uid: &str) -> Value {
        json!({"apiVersion": "agents.kruise.io/v1alpha1", "kind": kind, "name": "s", "uid": uid})
    }

    #[test]
    fn ls3_a_volume_claim_is_used_if_the_sandbox_or_no_sandbox_owns_it() {
        assert_eq!(obstacle(json!({})), None, "a user has made it");
        assert_eq!(obstacle(json!({"ownerReferences": [owner("Sandbox", "u")]})), None);
        assert_eq!(
            obstacle(json!({"ownerReferences": [owner("Sandbox", "old"), owner("Sandbox", "u")]})),
            None
        );
        assert_eq!(obstacle(json!({"ownerReferences": [owner("Other", "x")]})), None);
        let taken = Obstacle::Taken { claim: "data-s".into(), owner: "Sandbox s (UID old)".into() };
        assert_eq!(obstacle(json!({"ownerReferences": [owner("Sandbox", "old")]})), Some(taken));
    }

    #[test]
    fn ls3_a_volume_claim_that_is_being_deleted_is_not_used() {
        let metadata =
            json!({"deletionTimestamp": "2030-01-01T00:00:00Z", "ownerReferences": [owner("Sandbox", "u")]});
        assert_eq!(obstacle(metadata), Some(Obstacle::Ending("data-s".into())));
    }
}
