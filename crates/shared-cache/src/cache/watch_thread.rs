//! [`WatchThread`]: a separate thread for the watches of a cache and their connections.
//!
//! An API server sends a list event by event. If the connection's task, the reading task and the rest of the
//! process share the workers of one runtime, each event wakes several threads. Measured, that costs more than
//! all decoding. On one thread no data moves between threads until a batch is in the store, and no handler
//! can delay the reading of a watch.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A running thread with a single-threaded runtime. Dropping this value ends the thread and its tasks.
pub(super) struct WatchThread {
    handle: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl WatchThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("watches".to_owned()).spawn(move || {
            // The receiver returns an error when the sender is dropped, which ends the thread.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    /// Returns the runtime handle, to spawn the watches on and to create their clients in.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}
