//! [`thread_number`]: a small number of each thread, by which threads choose their shard.

use std::sync::atomic::{AtomicUsize, Ordering};

thread_local! {
    static NUMBER: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

/// Returns the number of the calling thread. Threads are numbered in the order of their first call. So threads that
/// are started together have different numbers modulo the number of shards.
pub(crate) fn thread_number() -> usize {
    NUMBER.with(|number| *number)
}
