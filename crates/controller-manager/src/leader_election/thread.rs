//! [`ElectorThread`]: a thread of its own for an elector.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A thread with a single-threaded runtime, which handlers cannot keep busy.
/// Dropping this value ends the thread and its tasks.
pub(super) struct ElectorThread {
    handle: Handle,
    /// Dropped to end the thread.
    _running: oneshot::Sender<()>,
}

impl ElectorThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        thread::Builder::new().name("leader-election".to_owned()).spawn(move || {
            // The receiver returns an error when the sender is dropped.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _running: running })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Spawns on the thread, or on the current runtime if there is none.
pub(super) fn spawn(
    thread: Option<&ElectorThread>,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    match thread {
        Some(thread) => thread.handle.spawn(task),
        None => tokio::spawn(task),
    }
}
