//! Claims a sandbox of a pool, uses it for a moment, and gives it back.
//!
//! Run with the current kubeconfig, and a SandboxSet `code-interpreter` in the namespace `default`:
//!
//! ```sh
//! cargo run --example claim
//! ```

use std::time::Duration;

use anyhow::Context as _;
use sandbox_manager::Cache;
use sandbox_manager::claims::{ClaimError, ClaimRequest, Claims, Target};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cache = Cache::builder(kube::Client::try_default().await?).build();
    let claims = Claims::builder(&cache).build()?;
    cache.start().await?;

    let request = ClaimRequest::from_pool("default", "code-interpreter")
        .owner("example")
        .timeout(Duration::from_mins(5))
        .metadata("purpose", "an example");
    let claimed = match claims.claim(request).await {
        Ok(claimed) => claimed,
        Err(error) if error.is_nothing_done() => return Err(error).context("try again later"),
        Err(error) => return Err(error.into()),
    };
    println!("{} at {:?}", claimed.sandbox_id(), claimed.pod_ip());

    // Nobody else's sandbox is ever found by this target.
    let own = Target::new(claimed.sandbox_id()).in_namespace("default").owned_by("example");
    match claims.pause(&own, Duration::from_secs(30)).await {
        Ok(_) => println!("paused"),
        Err(ClaimError::Timeout { reason, .. }) => println!("will be paused: {reason}"),
        Err(error) => return Err(error.into()),
    }
    let connected = claims.connect(&own, Duration::from_mins(5), Duration::from_secs(30)).await?;
    println!("resumed: {}", connected.resumed);

    claims.release(&own).await?;
    claims.settled().await;
    cache.stop().await;
    Ok(())
}
