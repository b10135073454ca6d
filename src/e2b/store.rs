//! [`KeyStore`]: writes the Secret of keys. The server and the command line use it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::entry::{ADMIN_KEY_ID, Entry, EntryError, NewEntry};
use crate::cache::KEY_STORE;

/// How often a write is repeated if somebody else has changed the Secret meanwhile.
const TRIES: u32 = 5;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The Secret has at most 1 MiB, and every replica reads all of it.
const MOST_KEYS: usize = 2000;

/// The most keys of a team that members of the team can make. The room of the Secret is for all teams.
const MOST_KEYS_OF_TEAM: usize = 100;

/// Writes API keys into the Secret [`KEY_STORE`] of one namespace.
pub struct KeyStore {
    secrets: Api<Secret>,
    namespace: String,
}

/// A key that was added.
pub struct AddedKey {
    /// The id of the key.
    pub id: String,
    /// The key as clients send it. It cannot be read again.
    pub key: SecretString,
    pub(super) secret: Secret,
}

/// Why the Secret of keys could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyStoreError {
    /// The Secret does not exist.
    #[error("Secret {0}/{KEY_STORE} not found")]
    NoSecret(String),
    /// There is no key of this id.
    #[error("key {0:?} not found")]
    NoKey(String),
    /// The key of the administrator is never removed.
    #[error("the key of the administrator cannot be removed")]
    Administrator,
    /// The Secret has no room for another key.
    #[error("the Secret has {MOST_KEYS} keys, remove some first")]
    Full,
    /// The team has as many keys as its members may make.
    #[error("the team has {MOST_KEYS_OF_TEAM} keys, remove some first")]
    TeamFull,
    /// Others have changed the Secret each time.
    #[error("others change Secret {0}/{KEY_STORE} all the time, try again")]
    Contended(String),
    /// The API server refused the request, or did not answer.
    #[error("Secret {0}/{KEY_STORE}: {1}")]
    Api(String, #[source] Box<kube::Error>),
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyInfo {
    /// The id, which is also the owner of its sandboxes.
    pub id: String,
    /// What the key is for.
    pub name: String,
    /// The namespace; none for the team of administrators.
    pub team: Option<String>,
    /// When the key stops being accepted.
    pub expires_at: Option<Timestamp>,
    /// The id of the key that has made this one; empty if that was the command line.
    pub created_by: String,
    /// Why the key is not accepted.
    pub problem: Option<String>,
}

impl KeyStore {
    /// Uses the Secret in this namespace.
    #[must_use]
    pub fn new(client: kube::Client, namespace: &str) -> Self {
        Self { secrets: Api::namespaced(client, namespace), namespace: namespace.to_owned() }
    }

    /// Adds a key. The Secret is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`]. After [`KeyStoreError::Api`] the key may have been added; nobody knows its text then.
    pub async fn add(&self, new: NewEntry) -> Result<AddedKey, KeyStoreError> {
        let limited = new.is_of_member.then(|| new.team.clone());
        let made = new.make(Timestamp::now());
        let value = ByteString(made.json.expose_secret().as_bytes().to_vec());
        for _ in 0..TRIES {
            let Some(current) = self.read().await? else {
                if let Some(secret) = self.create(&made.id, &value).await? {
                    return Ok(AddedKey { id: made.id, key: made.issued, secret });
                }
                continue;
            };
            if current.data.as_ref().map_or(0, BTreeMap::len) >= MOST_KEYS {
                return Err(KeyStoreError::Full);
            }
            if limited.as_deref().is_some_and(|team| keys_of(&current, team) >= MOST_KEYS_OF_TEAM) {
                return Err(KeyStoreError::TeamFull);
            }
            if let Some(secret) = self.change(&current, &made.id, json!(value)).await? {
                return Ok(AddedKey { id: made.id, key: made.issued, secret });
            }
        }
        Err(KeyStoreError::Contended(self.namespace.clone()))
    }

    /// Removes a key and returns the Secret without it. `may_remove` is asked about the newest state of the key.
    pub(super) async fn remove_if<E: From<KeyStoreError>>(
        &self,
        id: &str,
        may_remove: impl Fn(&Result<Entry, EntryError>) -> Result<(), E>,
    ) -> Result<Secret, E> {
        if id == ADMIN_KEY_ID {
            return Err(KeyStoreError::Administrator.into());
        }
        for _ in 0..TRIES {
            let current =
                self.read().await?.ok_or_else(|| KeyStoreError::NoSecret(self.namespace.clone()))?;
            let value = current.data.as_ref().and_then(|data| data.get(id));
            let value = value.ok_or_else(|| KeyStoreError::NoKey(id.to_owned()))?;
            may_remove(&Entry::parse(&value.0))?;
            if let Some(secret) = self.change(&current, id, Value::Null).await? {
                return Ok(secret);
            }
        }
        Err(KeyStoreError::Contended(self.namespace.clone()).into())
    }

    /// Removes a key.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError`].
    pub async fn remove(&self, id: &str) -> Result<(), KeyStoreError> {
        self.remove_if(id, |_| Ok::<(), KeyStoreError>(())).await.map(drop)
    }

    /// Returns every key, also those that are not accepted.
    ///
    /// # Errors
    ///
    /// [`KeyStoreError::NoSecret`], [`KeyStoreError::Api`].
    pub async fn list(&self) -> Result<Vec<KeyInfo>, KeyStoreError> {
        let secret = self.read().await?.ok_or_else(|| KeyStoreError::NoSecret(self.namespace.clone()))?;
        let now = Timestamp::now();
        let info = |(id, value): (&String, &ByteString)| match Entry::parse(&value.0) {
            Ok(entry) => KeyInfo {
                problem: entry.is_expired(now).then(|| "expired".to_owned()),
                created_by: entry.maker().to_owned(),
                id: entry.id,
                name: entry.name,
                team: entry.team,
                expires_at: entry.expires_at,
            },
            Err(error) => KeyInfo {
                id: id.clone(),
                name: String::new(),
                team: None,
                expires_at: None,
                created_by: String::new(),
                problem: Some(error.to_string()),
            },
        };
        Ok(secret.data.iter().flatten().map(info).collect())
    }

    pub(super) async fn read(&self) -> Result<Option<Secret>, KeyStoreError> {
        in_time(self.secrets.get_opt(KEY_STORE)).await.map_err(|error| self.failed(error))
    }

    /// Creates the Secret with one key. None if somebody else was faster.
    pub(super) async fn create(&self, id: &str, value: &ByteString) -> Result<Option<Secret>, KeyStoreError> {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(KEY_STORE.to_owned()), ..ObjectMeta::default() },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(id.to_owned(), value.clone())])),
            ..Secret::default()
        };
        self.unless_conflict(in_time(self.secrets.create(&PostParams::default(), &secret)).await)
    }

    /// Sets or removes one entry. None if somebody else has changed the Secret since it was read.
    pub(super) async fn change(
        &self,
        read: &Secret,
        id: &str,
        value: Value,
    ) -> Result<Option<Secret>, KeyStoreError> {
        let mut data = serde_json::Map::new();
        data.insert(id.to_owned(), value);
        let patch = json!({"metadata": {"resourceVersion": read.metadata.resource_version}, "data": data});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.unless_conflict(in_time(self.secrets.patch(KEY_STORE, &parameters, &patch)).await)
    }

    fn unless_conflict(&self, done: Result<Secret, kube::Error>) -> Result<Option<Secret>, KeyStoreError> {
        match done {
            Ok(secret) => Ok(Some(secret)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: kube::Error) -> KeyStoreError {
        KeyStoreError::Api(self.namespace.clone(), Box::new(error))
    }
}

/// Ends a request that has no answer in time.
pub(super) async fn in_time<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    let late = || kube::Error::Service(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()).into());
    tokio::time::timeout(REQUEST_TIMEOUT, request).await.unwrap_or_else(|_| Err(late()))
}

/// Returns the number of keys of a team.
fn keys_of(secret: &Secret, team: &str) -> usize {
    let entries = secret.data.iter().flatten().filter_map(|(_, value)| Entry::parse(&value.0).ok());
    entries.filter(|entry| entry.team.as_deref() == Some(team)).count()
}
