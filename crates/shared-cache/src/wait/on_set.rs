//! [`SetWait`]: waits until a question about many objects has an answer.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::watch;

use super::changes::Changes;
use super::error::{WaitAction, WaitError, WaitTarget};
use super::metrics::WaitMetrics;

/// Default timeout of a wait.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// A wait on a set of objects. Await it. Created by [`SharedCache::wait_until`](crate::SharedCache::wait_until).
///
/// The question is asked at once, and again after each batch of changes of the kind. It runs in the caller's
/// own task.
#[must_use = "a wait does nothing until it is awaited"]
pub struct SetWait<F> {
    /// `None` if the cache does not have the kind.
    changes: Option<watch::Receiver<Changes>>,
    metrics: WaitMetrics,
    target: WaitTarget,
    timeout: Duration,
    question: F,
}

impl<F> SetWait<F> {
    pub(crate) fn new(
        changes: Option<watch::Receiver<Changes>>,
        metrics: WaitMetrics,
        kind: std::borrow::Cow<'static, str>,
        question: F,
    ) -> Self {
        let target = WaitTarget::new(kind, None, WaitAction::new("wait_until"));
        Self { changes, metrics, target, timeout: DEFAULT_TIMEOUT, question }
    }

    /// Sets the longest time to wait; one minute by default. Zero asks once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the name of the wait in messages and metric labels; `wait_until` by default.
    pub fn action(mut self, action: WaitAction) -> Self {
        self.target.action = action;
        self
    }

    async fn wait<R>(mut self) -> Result<R, WaitError>
    where
        F: FnMut() -> Option<R>,
    {
        let active = self.metrics.begin(self.target.action);
        let started = active.started();
        let result = match &mut self.changes {
            None => Err(WaitError::OutOfScope(Box::new(self.target.clone()))),
            Some(changes) => {
                let asking = ask(changes, &mut self.question);
                match tokio::time::timeout(self.timeout, asking).await {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => Err(WaitError::Stopped(Box::new(self.target.clone()))),
                    Err(_) => Err(WaitError::NotSatisfied {
                        target: Box::new(self.target.clone()),
                        waited: started.elapsed(),
                        last_observed: None,
                        reason: "the condition does not hold".to_owned(),
                    }),
                }
            }
        };
        active.end(&result);
        result
    }
}

/// Asks the question until there is an answer; `None` once no change will come.
async fn ask<R>(
    changes: &mut watch::Receiver<Changes>,
    question: &mut impl FnMut() -> Option<R>,
) -> Option<R> {
    loop {
        // The change is marked as seen before the question is asked, so that a change meanwhile causes
        // another question.
        let closed = changes.borrow_and_update().closed;
        if let Some(answer) = question() {
            return Some(answer);
        }
        if closed || changes.changed().await.is_err() {
            return None;
        }
    }
}

impl<F, R> IntoFuture for SetWait<F>
where
    F: FnMut() -> Option<R> + Send + 'static,
    R: Send + 'static,
{
    type Output = Result<R, WaitError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}
