//! [`Keys`]: who a request comes from.
//!
//! The Secret of keys is watched by the cache, so a new key works on every replica as soon as the event of its Secret has
//! arrived. A key that this replica has written itself works at once. The index of the Secret is rebuilt when the Secret
//! changes, not for each request.

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;
use secrecy::SecretString;
use shared_cache::{LookupError, Reader, SharedCache, version_of};

use super::entry::{ADMIN_KEY_ID, Entry};
use super::errors::ApiError;
use super::key::{KeyDigest, presented};
use super::types::ListedKey;
use crate::cache::KEY_STORE;

/// The header that has the key.
const HEADER: &str = "x-api-key";

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The owner of the sandboxes of this caller.
    pub(super) key_id: String,
    /// The namespace that the caller may use; none if it may use every namespace.
    pub(super) team: Option<String>,
    /// How many sandboxes the caller may have that run, and in all.
    pub(super) most_running: Option<i64>,
    pub(super) most: Option<i64>,
    /// False for a key with a quota or an end: a key that it makes would have neither.
    pub(super) may_manage_keys: bool,
}

impl Caller {
    /// The caller if no keys are asked for: the administrator.
    fn administrator() -> Self {
        Self {
            key_id: ADMIN_KEY_ID.to_owned(),
            team: None,
            most_running: None,
            most: None,
            may_manage_keys: true,
        }
    }

    fn of(entry: &Entry) -> Self {
        Self {
            key_id: entry.id.clone(),
            team: entry.team.clone(),
            most_running: entry.limit("running"),
            most: entry.limit("all"),
            may_manage_keys: !entry.is_limited(),
        }
    }

    pub(super) fn is_administrator(&self) -> bool {
        self.team.is_none()
    }
}

/// Where keys come from.
pub(super) enum Keys {
    /// Everybody is the administrator.
    None,
    /// The Secret of keys.
    Store(KeyIndex),
}

/// The keys of the Secret.
pub(super) struct KeyIndex {
    cache: SharedCache,
    secrets: Reader<Secret>,
    pub(super) namespace: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The Secret as this process has last written it, until the cache shows it.
    own: Option<Arc<Secret>>,
    indexed: Option<(Arc<Secret>, Arc<Index>)>,
}

/// Keys by a part of their digests.
#[derive(Default)]
struct Index {
    entries: HashMap<[u8; 8], Vec<Entry>>,
}

impl Index {
    fn of(secret: &Secret) -> Self {
        let mut entries: HashMap<_, Vec<Entry>> = HashMap::new();
        for (id, value) in secret.data.iter().flatten() {
            match Entry::parse(&value.0) {
                Ok(entry) => entries.entry(entry.digest.bucket()).or_default().push(entry),
                Err(problem) => tracing::warn!(id, %problem, "an entry of the Secret of API keys is skipped"),
            }
        }
        Self { entries }
    }

    fn find(&self, digest: &KeyDigest) -> Option<&Entry> {
        self.entries.get(&digest.bucket())?.iter().find(|entry| entry.digest.is(digest))
    }
}

impl Keys {
    /// Reads the Secret in this namespace through the cache.
    pub(super) fn store(cache: &SharedCache, namespace: &str) -> Self {
        Self::Store(KeyIndex {
            secrets: cache.reader(),
            cache: cache.clone(),
            namespace: namespace.to_owned(),
            state: Mutex::default(),
        })
    }

    /// Returns who a request comes from.
    ///
    /// # Errors
    ///
    /// 401 for a key that is missing, unknown or expired; 503 if the cache cannot say.
    pub(super) fn authenticate(&self, headers: &HeaderMap, now: Timestamp) -> Result<Caller, ApiError> {
        let Self::Store(store) = self else { return Ok(Caller::administrator()) };
        let index = store.index()?;
        let digest = KeyDigest::of(&sent(headers).ok_or_else(ApiError::unauthorized)?);
        let entry = index.find(&digest).filter(|entry| !entry.is_expired(now));
        entry.map(Caller::of).ok_or_else(ApiError::unauthorized)
    }
}

/// Returns the key that a request has. None if it has several: a proxy in front may have looked at another one.
fn sent(headers: &HeaderMap) -> Option<SecretString> {
    let mut values = headers.get_all(HEADER).iter();
    let only = values.next().filter(|_| values.next().is_none());
    presented(only?.to_str().ok()?)
}

impl KeyIndex {
    /// Uses the Secret that this process has written until the cache shows it.
    pub(super) fn written(&self, secret: Secret) {
        self.cache.expect(&secret);
        let mut state = self.state.lock();
        // Two writes of this process may end in another order than they were made in.
        if state.own.as_ref().is_none_or(|own| version_of(&**own) <= version_of(&secret)) {
            state.own = Some(Arc::new(secret));
        }
    }

    /// Returns the keys of a namespace without their texts, sorted by id; all keys without a namespace.
    pub(super) fn list(&self, team: Option<&str>) -> Result<Vec<ListedKey>, ApiError> {
        let index = self.index()?;
        let entries = index.entries.values().flatten();
        let of_team = entries.filter(|entry| team.is_none() || entry.team.as_deref() == team);
        let mut keys: Vec<_> = of_team.map(Entry::listed).collect();
        keys.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(keys)
    }

    fn index(&self) -> Result<Arc<Index>, ApiError> {
        let cached = match self.secrets.get(&self.namespace, KEY_STORE) {
            Ok(cached) => cached,
            Err(error @ LookupError::NotSynced { .. }) => {
                return Err(ApiError::unavailable(error.to_string()));
            }
            Err(error) => {
                tracing::error!(%error, "the API keys cannot be read");
                return Err(ApiError::unavailable("the API keys cannot be read"));
            }
        };
        // Held for the time of a rebuild too, so that a change of many keys is parsed once.
        let mut state = self.state.lock();
        let is_unseen = |own: &Arc<Secret>| !self.cache.is_satisfied(&**own).is_satisfied();
        if state.own.as_ref().is_some_and(|own| !is_unseen(own)) {
            state.own = None;
        }
        let Some(secret) = state.own.clone().or(cached) else { return Ok(Arc::default()) };
        if let Some((indexed, index)) = &state.indexed
            && Arc::ptr_eq(indexed, &secret)
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::of(&secret));
        state.indexed = Some((secret, Arc::clone(&index)));
        Ok(index)
    }
}
