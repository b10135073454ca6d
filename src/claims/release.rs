//! Deletes a claimed sandbox.

use super::engine::Engine;
use super::error::ClaimError;
use super::target::Target;
use super::write::WriteError;

/// How often a deletion is sent whose answer is lost.
const MAX_TRIES: usize = 3;

/// Deletes a sandbox of an owner.
pub(super) async fn release(engine: &Engine, target: &Target) -> Result<(), ClaimError> {
    let sandbox = engine.existing(target)?;
    let mut lost = None;
    for _ in 0..MAX_TRIES {
        match engine.delete(&sandbox).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error @ WriteError::Unknown(_)) => lost = Some(error),
            // The deletion before this one may be made still.
            Err(error) => return Err(lost.unwrap_or(error).into_error(&sandbox)),
        }
        // The deletion whose answer is lost may have been made by this call.
        match engine.again(&sandbox, &target.id).await {
            Ok(live) if !live.is_deleting() => {}
            Ok(_) | Err(ClaimError::NotFound { .. }) if lost.is_some() => return Ok(()),
            Ok(_) | Err(ClaimError::NotFound { .. }) => {
                return Err(ClaimError::NotFound { id: target.id.clone() });
            }
            Err(error) => return Err(lost.map_or(error, |lost| lost.into_error(&sandbox))),
        }
    }
    let lost = lost.unwrap_or(WriteError::Outdated);
    Err(lost.into_error(&sandbox))
}
