//! While a watch is down, polls the objects that callers wait for (behaviour F13).
//!
//! Each kind has one future, which sleeps while the watch is up. The objects are passed only to the waits,
//! because only the informer writes the store.

use std::time::Duration;

use futures::{StreamExt, stream};
use rand::Rng;

use super::api_reader::ApiReader;
use super::watched::Watched;
use crate::kind::CacheObject;
use crate::object::ObjectKey;

/// Time between two reads of the objects that callers wait for.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of concurrent reads. Together with the client's own limit, it limits the extra load during
/// an outage.
const CONCURRENT_READS: usize = 8;

/// Reads while the watch is down. Never returns. Cancel safe.
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
        // The next round retries. The health reports why the watch is down.
        Err(error) => tracing::debug!(%error, "live read failed while the watch is down"),
    }
}
