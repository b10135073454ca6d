//! While a watch is down, polls the objects that callers wait for (behaviour F13).
//!
//! Each kind has one future, which sleeps while the watch is up. The objects are passed only to the waits,
//! because only the informer writes the store.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use rand::Rng;

use super::api_reader::ApiReader;
use super::watched::Watched;
use crate::kind::CacheObject;
use crate::object::ObjectKey;
use crate::store::Partition;

/// Time between two reads of the objects that callers wait for.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of concurrent reads. Together with the client's own limit, it limits the extra load during
/// an outage.
const CONCURRENT_READS: usize = 8;

/// Reads while a watch is down. Never returns. Cancel safe. A kind with several namespaces has a watch for
/// each; only objects of the namespaces whose watch is down are read.
pub(super) async fn read_through_outages<K: CacheObject>(watched: &Watched<K>, reader: &ApiReader) {
    join_all(watched.informer.partitions().map(|partition| read_partition(watched, reader, partition))).await;
}

async fn read_partition<K: CacheObject>(watched: &Watched<K>, reader: &ApiReader, partition: Partition) {
    let health = watched.informer.health();
    loop {
        health.until_live(partition, false).await;
        let pause = POLL_INTERVAL.mul_f64(rand::rng().random_range(0.9..=1.0));
        tokio::select! {
            () = health.until_live(partition, true) => {}
            () = tokio::time::sleep(pause) => {
                let mut awaited = watched.waits.awaited();
                awaited.retain(|key| watched.informer.partition_of(&key.namespace) == partition);
                let read = stream::iter(awaited)
                    .for_each_concurrent(CONCURRENT_READS, |key| read_live(watched, reader, key));
                tokio::select! {
                    () = health.until_live(partition, true) => {}
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
