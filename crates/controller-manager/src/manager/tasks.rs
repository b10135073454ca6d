//! [`Tasks`]: the controllers and runnables of a running manager.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;

use shared_cache::error_text;
use tokio::task::{Id, JoinError, JoinSet};

use super::error::ManagerError;

type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;

/// Named tasks. They are aborted when this is dropped.
#[derive(Default)]
pub(super) struct Tasks {
    tasks: JoinSet<TaskResult>,
    names: HashMap<Id, String>,
}

impl Tasks {
    pub(super) fn spawn(&mut self, name: String, task: impl Future<Output = TaskResult> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Resolves when a task fails. Never resolves if all end well. Cancel safe.
    pub(super) async fn failure(&mut self) -> ManagerError {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(ended) => {
                    if let Some(error) = self.error(ended) {
                        return error;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Resolves once all tasks have ended, with the first failure. Cancel safe.
    pub(super) async fn ended(&mut self, failure: &mut Option<ManagerError>) {
        while let Some(ended) = self.tasks.join_next_with_id().await {
            if let Some(error) = self.error(ended) {
                tracing::error!(%error, "a task failed during the shutdown");
                failure.get_or_insert(error);
            }
        }
    }

    fn error(&mut self, ended: Result<(Id, TaskResult), JoinError>) -> Option<ManagerError> {
        let (id, cause) = match ended {
            Ok((id, result)) => (id, result.err().map(|error| error_text(&*error))),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Some(ManagerError::Task { name, cause: cause? })
    }
}
