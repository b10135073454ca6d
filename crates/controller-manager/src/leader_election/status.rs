//! [`Status`]: who leads, for `/readyz?verbose`.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::CheckStatus;

/// What this process knows of the lease. Clones share it.
///
/// The lock is held for a copy of a few words, never over an await.
#[derive(Clone, Default)]
pub(crate) struct Status {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    is_leader: bool,
    holder: Option<String>,
    problem: Option<String>,
}

impl Status {
    /// Notes the holder, after an answer of the API server.
    pub(super) fn led_by(&self, holder: Option<&str>, is_leader: bool) {
        *self.known.lock() = Known { is_leader, holder: holder.map(str::to_owned), problem: None };
    }

    /// Notes why the lease can be neither read nor written.
    pub(super) fn failed(&self, problem: String) {
        self.known.lock().problem = Some(problem);
    }

    /// The line in `/readyz?verbose`. A process that does not lead is ready: it is one that can take over.
    pub(crate) fn check(&self) -> CheckStatus {
        let Known { is_leader, holder, problem } = &*self.known.lock();
        if let Some(problem) = problem {
            return CheckStatus::Degraded(problem.clone());
        }
        CheckStatus::OkWith(match holder {
            Some(holder) if *is_leader => format!("this process leads as {holder}"),
            Some(holder) => format!("{holder} leads"),
            None => "nobody leads".to_owned(),
        })
    }
}
