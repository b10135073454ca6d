//! [`JointResumes`]: the callers that wait for one resume share its write, and the latest end wins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::error::ClaimError;
use crate::api::v1alpha1::Sandbox;

/// What a resume has led to.
#[derive(Clone, Debug)]
pub(super) struct Resumed {
    pub(super) sandbox: Arc<Sandbox>,
    /// The longest lifetime of the callers that joined in time.
    pub(super) granted: Duration,
}

pub(super) type Outcome = Result<Resumed, ClaimError>;

/// The resumes that run in this process, by the UID of the sandbox.
#[derive(Default)]
pub(super) struct JointResumes {
    running: Mutex<HashMap<String, Joint>>,
}

struct Joint {
    /// The longest lifetime that was asked for.
    lifetime: Duration,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

/// The part of the task that resumes. Dropping it ends the resume for all callers.
pub(super) struct Leader {
    resumes: Arc<JointResumes>,
    uid: String,
    outcome: Option<oneshot::Sender<Outcome>>,
    /// True once no caller can join any more. The entry of the sandbox may be that of a later resume then.
    is_closed: bool,
}

impl JointResumes {
    /// Joins the resume of a sandbox. The first caller gets the task to do.
    pub(super) fn join(
        self: &Arc<Self>,
        uid: &str,
        lifetime: Duration,
    ) -> (Shared<BoxFuture<'static, Outcome>>, Option<Leader>) {
        let mut running = self.running.lock();
        if let Some(joint) = running.get_mut(uid) {
            joint.lifetime = joint.lifetime.max(lifetime);
            return (joint.outcome.clone(), None);
        }
        let (sender, receiver) = oneshot::channel::<Outcome>();
        let outcome =
            receiver.map(|outcome| outcome.unwrap_or(Err(ClaimError::Interrupted))).boxed().shared();
        running.insert(uid.to_owned(), Joint { lifetime, outcome: outcome.clone() });
        (
            outcome,
            Some(Leader {
                resumes: Arc::clone(self),
                uid: uid.to_owned(),
                outcome: Some(sender),
                is_closed: false,
            }),
        )
    }
}

impl Leader {
    /// Returns the longest lifetime that was asked for until now.
    pub(super) fn lifetime(&self) -> Duration {
        self.resumes.running.lock().get(&self.uid).map_or(Duration::ZERO, |joint| joint.lifetime)
    }

    /// Lets no more callers join, and returns the longest lifetime that was asked for.
    pub(super) fn close(&mut self) -> Duration {
        self.is_closed = true;
        self.resumes.running.lock().remove(&self.uid).map_or(Duration::ZERO, |joint| joint.lifetime)
    }

    /// Tells all callers.
    pub(super) fn end(mut self, outcome: Outcome) {
        if let Some(sender) = self.outcome.take() {
            // All callers may be gone.
            let _ = sender.send(outcome);
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.is_closed {
            self.resumes.running.lock().remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn q4_callers_join_one_resume_and_the_longest_lifetime_wins() {
        let resumes = Arc::new(JointResumes::default());
        let (first, leader) = resumes.join("u", SECOND);
        let mut leader = leader.unwrap();
        let (second, none) = resumes.join("u", 3 * SECOND);
        assert!(none.is_none() && resumes.join("u", 2 * SECOND).1.is_none());
        assert!(resumes.join("other", SECOND).1.is_some());
        assert_eq!((leader.lifetime(), leader.close()), (3 * SECOND, 3 * SECOND));
        assert!(resumes.join("u", SECOND).1.is_some(), "the next one is a resume of its own");
        leader.end(Ok(Resumed { sandbox: Arc::default(), granted: 3 * SECOND }));
        assert_eq!(first.await.unwrap().granted, 3 * SECOND);
        assert_eq!(second.await.unwrap().granted, 3 * SECOND);
    }

    #[tokio::test]
    async fn q4_a_resume_that_ends_after_its_close_leaves_the_next_one_alone() {
        let resumes = Arc::new(JointResumes::default());
        let mut first = resumes.join("u", SECOND).1.unwrap();
        first.close();
        let _next = resumes.join("u", SECOND).1.unwrap();
        drop(first);
        assert!(resumes.join("u", SECOND).1.is_none(), "the next one is still there to be joined");
    }

    #[tokio::test]
    async fn q4_a_resume_that_is_interrupted_ends_for_all_and_can_be_begun_again() {
        let resumes = Arc::new(JointResumes::default());
        let (first, leader) = resumes.join("u", SECOND);
        drop(leader);
        first.await.unwrap_err();
        assert!(resumes.join("u", SECOND).1.is_some());
    }
}
