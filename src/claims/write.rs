//! The writes of the engine: one patch each, with a deadline, and what is known when it fails.

use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use shared_cache::{ObjectKey, PatchError, ReadError, error_text, is_not_sent};

use super::engine::Engine;
use super::error::{ClaimError, WriteOutcome};
use super::lost::{Fate, LostLock};
use super::recent::Write;
use crate::api::v1alpha1::Sandbox;

/// How long one request may take. A claim has ten seconds for all its tries.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a write failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The sandbox has changed since it was read, or is gone.
    Outdated,
    /// The write would overwrite what could not be read of this sandbox.
    Unreadable(String),
    /// The API server has refused the write, and would do so again.
    Refused { code: u16, message: String },
    /// The API server was too busy to begin, or cannot be reached: the request was not sent.
    NothingDone(String),
    /// The write may have been made.
    Unknown(String),
}

impl WriteError {
    /// Returns the error of a claim or of an action on `sandbox`. An outdated sandbox is none: the caller reads it again.
    pub(super) fn into_error(self, sandbox: &Sandbox) -> ClaimError {
        match self {
            Self::Refused { code, message } => {
                let is_new = sandbox.metadata.resource_version.is_none();
                let action = if is_new { "creating a sandbox" } else { "changing a sandbox" };
                ClaimError::Refused { action, code, message }
            }
            Self::Unreadable(cause) | Self::NothingDone(cause) => ClaimError::unavailable(cause),
            Self::Outdated => ClaimError::unavailable("the sandbox has changed"),
            Self::Unknown(cause) => {
                let sandbox = ObjectKey::of(sandbox);
                ClaimError::Unavailable { outcome: WriteOutcome::Unknown { sandbox, lock: None }, cause }
            }
        }
    }
}

impl From<PatchError> for WriteError {
    fn from(error: PatchError) -> Self {
        match &error {
            error if error.is_outdated() => Self::Outdated,
            PatchError::Status { status, .. } if status.code < 500 => {
                Self::of_status(status.code, &status.message)
            }
            PatchError::Unread { .. } | PatchError::Serialize { .. } => Self::Unreadable(error.to_string()),
            error if error.may_be_written() => Self::Unknown(error.to_string()),
            error => Self::NothingDone(error.to_string()),
        }
    }
}

impl WriteError {
    /// Returns the error of an answer with a status below 500.
    pub(super) fn of_status(code: u16, message: &str) -> Self {
        match code {
            // 401: the token has expired, and is renewed.
            401 | 429 => Self::NothingDone(format!("HTTP {code}: {message}")),
            _ => Self::Refused { code, message: message.to_owned() },
        }
    }

    /// Returns the error of a creation or a deletion that has no answer, or an answer with a status from 500 on.
    pub(super) fn unanswered(error: &kube::Error) -> Self {
        if is_not_sent(error) {
            Self::NothingDone(error_text(error))
        } else {
            Self::Unknown(error_text(error))
        }
    }
}

impl Engine {
    /// Writes a change of a sandbox that nobody else has changed. Lookups see it at once.
    pub(super) async fn write(
        &self,
        old: &Arc<Sandbox>,
        change: impl FnOnce(&mut Sandbox),
        timeout: Duration,
    ) -> Result<Arc<Sandbox>, WriteError> {
        let patch = self.cache.patch(old, change).if_unchanged();
        match tokio::time::timeout(timeout, patch).await {
            Ok(Ok(written)) => {
                self.record(Write::Written(Arc::clone(&written)));
                Ok(written)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(WriteError::Unknown(format!("no answer within {:.1} s", timeout.as_secs_f64()))),
        }
    }

    /// Reads a sandbox from the API server. None if it is gone.
    pub(super) async fn live(&self, namespace: &str, name: &str) -> Result<Option<Arc<Sandbox>>, String> {
        let reader = self.cache.api_reader();
        match tokio::time::timeout(REQUEST_TIMEOUT, reader.get::<Sandbox>(namespace, name)).await {
            Ok(Ok(live)) => Ok(live),
            Ok(Err(ReadError::InvalidName { .. })) => Ok(None),
            Ok(Err(error)) => Err(error_text(&error)),
            Err(_) => Err(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())),
        }
    }

    /// Reads from the API server what has become of a lock whose answer is lost.
    pub(super) async fn fate(&self, lost: &LostLock) -> Result<Fate, String> {
        let key = lost.key();
        let fate = lost.fate(self.live(&key.namespace, &key.name).await?);
        if let Fate::Made(locked) = &fate {
            self.made(locked);
        }
        Ok(fate)
    }

    /// Records a sandbox that the API server has, so that nobody acts on an older view of it.
    pub(super) fn made(&self, sandbox: &Arc<Sandbox>) {
        self.cache.expect(&**sandbox);
        self.record(Write::Written(Arc::clone(sandbox)));
    }

    /// Reads the present state of a sandbox from the API server. None if it is gone.
    pub(super) async fn live_again(&self, sandbox: &Sandbox) -> Result<Option<Arc<Sandbox>>, String> {
        let live = self.live(sandbox.namespace_or_empty(), sandbox.name_or_empty()).await?;
        Ok(live.filter(|live| live.metadata.uid == sandbox.metadata.uid))
    }

    /// Deletes a sandbox, not a new one of its name. Returns false if it was gone.
    pub(super) async fn delete(&self, sandbox: &Arc<Sandbox>) -> Result<bool, WriteError> {
        self.delete_if(sandbox, None).await
    }

    /// Deletes a sandbox that has this resource version still, if one is given.
    pub(super) async fn delete_if(
        &self,
        sandbox: &Arc<Sandbox>,
        resource_version: Option<String>,
    ) -> Result<bool, WriteError> {
        let client = self.cache.client().clone();
        let api: Api<Sandbox> = Api::namespaced(client, sandbox.namespace_or_empty());
        let preconditions = Preconditions { uid: sandbox.metadata.uid.clone(), resource_version };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let deleted = api.delete(sandbox.name_or_empty(), &parameters);
        match tokio::time::timeout(REQUEST_TIMEOUT, deleted).await {
            Ok(Ok(_)) => {
                self.record(Write::Deleted(Arc::clone(sandbox)));
                Ok(true)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 || status.code == 409 => Ok(false),
            Ok(Err(kube::Error::Api(status))) if status.code < 500 => {
                Err(WriteError::of_status(status.code, &status.message))
            }
            Ok(Err(error)) => Err(WriteError::unanswered(&error)),
            Err(_) => Err(WriteError::Unknown(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))),
        }
    }

    /// Records an own write, or what was read, so that lookups see it before the cache does.
    pub(super) fn record(&self, write: Write) {
        self.shared.watched.recent.record(write, &self.cache, &self.sandboxes);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use shared_cache::NotSent;

    use super::*;

    #[test]
    fn q2_a_write_that_was_not_sent_has_done_nothing() {
        let (kind, key) = (|| "Sandbox".to_owned(), || ObjectKey::new("ns", "a"));
        let status = |code| {
            let status = Box::new(Status { code, ..Status::failure("x", "y") });
            WriteError::from(PatchError::Status { kind: kind(), key: key(), status })
        };
        let unsent = PatchError::NotSent { kind: kind(), key: key(), cause: "refused".to_owned() };
        assert!(matches!(unsent.into(), WriteError::NothingDone(_)));
        let reset = PatchError::Transport { kind: kind(), key: key(), cause: "reset".to_owned() };
        assert!(matches!(reset.into(), WriteError::Unknown(_)));
        let late = PatchError::Timeout { kind: kind(), key: key() };
        assert!(matches!(late.into(), WriteError::Unknown(_)));
        assert!(matches!(status(429), WriteError::NothingDone(_)));
        assert!(matches!(status(503), WriteError::Unknown(_)));
        assert!(matches!(status(409), WriteError::Outdated));
        assert!(matches!(status(403), WriteError::Refused { .. }));

        let unsent = kube::Error::Service(NotSent::new("refused").into());
        assert!(matches!(WriteError::unanswered(&unsent), WriteError::NothingDone(_)));
        let reset = kube::Error::Service("reset".into());
        assert!(matches!(WriteError::unanswered(&reset), WriteError::Unknown(_)));
    }
}
