//! Executes a decision: removes the finalizer, writes the status, deletes the checkpoint.

use std::sync::Arc;

use controller_manager::HandlerError;
use shared_cache::SharedCache;

use super::decide::Decision;
use crate::api::v1alpha1::{Checkpoint, FINALIZER_CHECKPOINT};
use crate::lifecycle::requests::delete_unchanged;

/// Executes a decision. Each write has the resource version as precondition: if the checkpoint has changed meanwhile,
/// the rest is left to the decision that follows from the change.
///
/// The finalizer goes before the status: a checkpoint that has failed and kept its finalizer could never be deleted.
///
/// # Errors
///
/// If the API server refuses for another reason.
pub(super) async fn apply(
    cache: &SharedCache,
    checkpoint: &Arc<Checkpoint>,
    decision: &Decision,
) -> Result<(), HandlerError> {
    let mut newest = Arc::clone(checkpoint);
    if decision.release {
        let release = |checkpoint: &mut Checkpoint| {
            let finalizers = &mut checkpoint.metadata.finalizers;
            if let Some(all) = finalizers {
                all.retain(|finalizer| finalizer != FINALIZER_CHECKPOINT);
            }
            finalizers.take_if(|all| all.is_empty());
        };
        match cache.patch(&newest, release).if_unchanged().await {
            Ok(released) => newest = released,
            Err(error) if error.is_outdated() => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(status) = decision.status.clone() {
        let written = cache.patch(&newest, |checkpoint| checkpoint.status = Some(status));
        match written.status().if_unchanged().await {
            Err(error) if !error.is_outdated() => return Err(error.into()),
            _ => {}
        }
    }
    if decision.delete {
        delete_unchanged(cache, &*newest).await?;
    }
    Ok(())
}
