//! [`Tasks`]: the controllers and runnables of a running manager.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;

use shared_cache::error_text;
use tokio::task::{Id, JoinError, JoinSet};

use super::error::ManagerError;

type TaskResult = Result<(), Box<dyn Error + Send + Sync>>;

/// Named tasks. They are aborted when this is dropped.
#[derive(Default)]
pub(super) struct Tasks {
    running: JoinSet<TaskResult>,
    names: HashMap<Id, String>,
    /// Those that run only while this process leads.
    leader_only: HashSet<Id>,
}

impl Tasks {
    pub(super) fn spawn(
        &mut self,
        name: String,
        is_leader_only: bool,
        task: impl Future<Output = TaskResult> + Send + 'static,
    ) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
        if is_leader_only {
            self.leader_only.insert(id);
        }
    }

    /// Resolves when a task fails. Never resolves if all end well. Cancel safe.
    pub(super) async fn failure(&mut self) -> ManagerError {
        loop {
            match self.running.join_next_with_id().await {
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
        while self.next_ended(failure).await {}
    }

    /// Resolves once all leader-only tasks have ended, with the first failure of any task. Cancel safe.
    pub(super) async fn leader_only_ended(&mut self, failure: &mut Option<ManagerError>) {
        while !self.leader_only.is_empty() && self.next_ended(failure).await {}
    }

    /// Waits until one more task has ended. Returns false if none is left. Cancel safe.
    async fn next_ended(&mut self, failure: &mut Option<ManagerError>) -> bool {
        let Some(ended) = self.running.join_next_with_id().await else { return false };
        if let Some(error) = self.error(ended) {
            tracing::error!(%error, "a task failed during the shutdown");
            failure.get_or_insert(error);
        }
        true
    }

    fn error(&mut self, ended: Result<(Id, TaskResult), JoinError>) -> Option<ManagerError> {
        let (id, cause) = match ended {
            Ok((id, result)) => (id, result.err().map(|error| error_text(&*error))),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        self.leader_only.remove(&id);
        Some(ManagerError::Task { name, cause: cause? })
    }
}
