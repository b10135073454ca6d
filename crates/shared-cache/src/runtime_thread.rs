//! [`RuntimeThread`]: a thread with a runtime of its own.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread with a single-threaded runtime, for tasks that the rest of the process must not delay.
/// Dropping this value ends the thread and its tasks.
pub struct RuntimeThread {
    handle: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl RuntimeThread {
    /// Starts a thread of this name.
    ///
    /// # Errors
    ///
    /// If the operating system does not start a thread.
    pub fn start(name: &str) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            // The receiver returns an error when the sender is dropped, which ends the thread.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    /// Returns the runtime handle, to spawn tasks on and to create their clients in.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}
