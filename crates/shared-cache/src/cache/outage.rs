//! While a watch is down, polls the objects that callers wait for (behaviour F13).
//!
//! One future a kind, which sleeps while the watch is up. Only the waits see what was read: only the informer writes the
//! store.

use std::time::Duration;

use futures::{StreamExt, stream};
use rand::Rng;

use super::api_reader::ApiReader;
use super::watched::Watched;
use crate::kind::CacheObject;
use crate::object::ObjectKey;

/// Time between two reads of the objects that callers wait for.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Reads under way at once; with the client's own limit, this bounds what an outage adds to its cause.
const CONCURRENT_READS: usize = 8;

/// Never returns. Cancel safe.
pub(super) async fn read_through_outages<K: CacheObject>(watched: &Watched<K>, reader: &ApiReader) {
    let health = watched.informer.health();
    loop {
        health.until_live(false).await;
        let pause = POLL_INTERVAL.mul_f64(rand::rng().random_range(0.9..=1.0));
        tokio::select! {
            () = health.until_live(true) => {}
            () = tokio::time::sleep(pause) => {
                let read = stream::iter(watched.waits.awaited())
                    .for_each_concurrent(CONCURRENT_READS, |key| read_live(watched, reader, key));
                tokio::select! {
                    () = health.until_live(true) => {}
                    () = read => {}
                }
            }
        }
    }
}

async fn read_live<K: CacheObject>(watched: &Watched<K>, reader: &ApiReader, key: ObjectKey) {
    match reader.read(&key.namespace, &key.name, &|text| watched.params.decode(text)).await {
        Ok(found) => watched.waits.see_live(&key, found),
        // The next round tries again; what keeps the watch from coming back is told by its health.
        Err(error) => tracing::debug!(%error, "live read failed while the watch is down"),
    }
}
