//! What a claim asks the [engine](crate::claims) for, for each of its sandboxes.

use std::time::Duration;

use super::decide::set_name;
use crate::api::v1alpha1::{LABEL_CLAIM_NAME, SandboxClaim};
use crate::claims::{ClaimRequest, RuntimeInit};

/// How long the engine tries to get one sandbox. It has to wait for its turn if too many are being created.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the request for one sandbox, with or without one for its runtime. The claim answers for it from its lock on.
pub(super) fn request(claim: &SandboxClaim, init_runtime: bool) -> ClaimRequest {
    let spec = &claim.spec;
    let mut request = ClaimRequest::from_pool(claim.namespace_or_empty(), set_name(claim))
        .owner(claim.metadata.uid.as_deref().unwrap_or_default())
        .own_label(LABEL_CLAIM_NAME, claim.name_or_empty())
        .create_on_no_stock(spec.create_on_no_stock.unwrap_or(true))
        .claim_timeout(TRY_TIMEOUT)
        .return_when_locked();
    for (key, value) in spec.labels.iter().flatten() {
        request = request.label(key, value);
    }
    for (key, value) in spec.annotations.iter().flatten() {
        request = request.metadata(key, value);
    }
    if init_runtime {
        request = request.init(RuntimeInit::WithEnvVars(spec.env_vars.clone().unwrap_or_default()));
    }
    if let Some(time) = &spec.shutdown_time {
        request = request.shutdown_time(time.clone());
    }
    if let Some(update) = &spec.inplace_update {
        request = request.inplace_update(update.clone());
    }
    match &spec.runtimes {
        Some(runtimes) => request.runtimes(runtimes.clone()),
        None => request,
    }
}
