//! [`WatchThread`]: a thread of their own for the watches of a cache, and for their connections.
//!
//! An API server sends a list event by event. Where the connection's task, the one that reads it and the rest of the
//! process share the workers of one runtime, each event wakes several threads; measured, that costs more than all
//! decoding. On one thread nothing is handed over until a batch is in the store, and no handler can keep a watch
//! from being read.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A running thread with a single-threaded runtime. It ends when this is dropped, with whatever runs on it.
pub(super) struct WatchThread {
    handle: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl WatchThread {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("watches".to_owned()).spawn(move || {
            // An error is the end that is waited for.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    /// Where to spawn on, and where to make clients that connect from there.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
