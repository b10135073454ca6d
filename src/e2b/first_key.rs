//! [`FirstKey`]: gives a new installation its first API key (`e2b.firstKeyTeam`).
//!
//! ```text
//!  e2b-key-store has a key ──▶ nothing to do
//!  e2b-key-store has none  ──▶ the text in the Secret e2b-first-key becomes a key of the team
//!                              (no such Secret: it is created, with a random text)
//! ```
//!
//! Every replica does this at its start, and they need not know one another: the Secret has a fixed name, so only one
//! replica creates it and all read the same text; and the key is written only into a store that is still empty, by its
//! `resourceVersion`. A replica that ends in between leaves nothing that the next start does not take up.
//!
//! Once there is a key, the Secret is not looked at: its reader can delete it, and a removed key does not come back while
//! there is another one. The text is never logged.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::PostParams;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::entry::NewEntry;
use super::key;
use super::store::{KeyStore, KeyStoreError, in_time};

/// Name of the Secret with the text of the first key.
pub const FIRST_KEY: &str = "e2b-first-key";

/// The entry of the Secret with the text.
const FIELD: &str = "key";

/// What the first key is called in lists.
const NAME: &str = "first";

/// How often the Secrets are read again if somebody else has changed them meanwhile.
const TRIES: u32 = 5;

/// A text of somebody else has at least so many hexadecimal digits: 128 bits.
const FEWEST_DIGITS: usize = 32;

/// The time until the next try after a failure. It doubles each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// Makes the first key of an installation.
pub(super) struct FirstKey {
    store: KeyStore,
    secrets: Api<Secret>,
    team: String,
}

/// Why there is no first key yet. Never contains the key.
#[derive(Debug, thiserror::Error)]
enum FirstKeyError {
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    #[error("Secret {FIRST_KEY}: {0}")]
    Api(#[from] Box<kube::Error>),
    #[error(
        "Secret {FIRST_KEY}: expected the entry {FIELD} with `e2b_` and at least {FEWEST_DIGITS} hexadecimal digits in \
         lower case"
    )]
    Form,
    #[error("others change the Secrets of keys all the time")]
    Contended,
}

impl FirstKey {
    /// Makes a key of this team, in the Secrets of this namespace.
    pub(super) fn new(client: kube::Client, namespace: &str, team: &str) -> Self {
        Self {
            store: KeyStore::new(client.clone(), namespace),
            secrets: Api::namespaced(client, namespace),
            team: team.to_owned(),
        }
    }

    /// Returns once there is a key. A failure is logged and tried again, because the API server may come back, and a
    /// missing permission may be granted. Can be cancelled at any point.
    pub(super) async fn install(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.ensure().await {
                Ok(None) => return,
                Ok(Some(id)) => {
                    tracing::info!(id, team = self.team, secret = FIRST_KEY, "the first API key was made");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, retry_after = ?retry, "there is no API key yet, and none can be made");
                }
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Returns the id of the key that it has made; `None` if there was one.
    async fn ensure(&self) -> Result<Option<String>, FirstKeyError> {
        for _ in 0..TRIES {
            let store = self.store.read().await?;
            if store.as_ref().and_then(|store| store.data.as_ref()).is_some_and(|keys| !keys.is_empty()) {
                return Ok(None);
            }
            let Some(text) = self.text().await? else { continue };
            let made = NewEntry::new(NAME, &self.team).with_text(text, Timestamp::now());
            let made = made.ok_or(FirstKeyError::Form)?;
            let value = ByteString(made.json.expose_secret().as_bytes().to_vec());
            let written = match &store {
                None => self.store.create(&made.id, &value).await?,
                Some(store) => self.store.change(store, &made.id, json!(value)).await?,
            };
            if written.is_some() {
                return Ok(Some(made.id));
            }
        }
        Err(FirstKeyError::Contended)
    }

    /// Returns the text in the Secret, which is created if it does not exist. `None` if somebody else was faster.
    async fn text(&self) -> Result<Option<SecretString>, FirstKeyError> {
        if let Some(secret) = in_time(self.secrets.get_opt(FIRST_KEY)).await.map_err(Box::new)? {
            return text_of(&secret).map(Some).ok_or(FirstKeyError::Form);
        }
        let text = key::issued(&key::generate());
        let secret = Secret {
            metadata: ObjectMeta { name: Some(FIRST_KEY.to_owned()), ..ObjectMeta::default() },
            type_: Some("Opaque".to_owned()),
            data: Some(BTreeMap::from([(
                FIELD.to_owned(),
                ByteString(text.expose_secret().as_bytes().to_vec()),
            )])),
            ..Secret::default()
        };
        match in_time(self.secrets.create(&PostParams::default(), &secret)).await {
            Ok(_) => Ok(Some(text)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(FirstKeyError::Api(Box::new(error))),
        }
    }
}

/// The text of a Secret, if it has one that every SDK accepts and nobody guesses. A line break at the end is left out:
/// `kubectl create secret --from-file` keeps the one of an editor.
fn text_of(secret: &Secret) -> Option<SecretString> {
    let bytes = &secret.data.as_ref()?.get(FIELD)?.0;
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\r', '\n']);
    let digits = text.strip_prefix("e2b_")?;
    let is_digits = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_digits && digits.len() >= FEWEST_DIGITS).then(|| text.to_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_text(text: &str) -> Option<String> {
        let data = BTreeMap::from([(FIELD.to_owned(), ByteString(text.as_bytes().to_vec()))]);
        let secret = Secret { data: Some(data), ..Secret::default() };
        text_of(&secret).map(|text| text.expose_secret().to_owned())
    }

    #[test]
    fn only_a_text_that_every_sdk_accepts_and_nobody_guesses_is_a_first_key() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert_eq!(with_text(&format!("e2b_{digits}\n")), Some(format!("e2b_{digits}")));
        let issued = key::issued(&key::generate()).expose_secret().to_owned();
        assert_eq!(with_text(&issued), Some(issued));
        for text in ["", "e2b_", digits, "e2b_00", &format!("e2b_{}", digits.to_uppercase()), "changeme"] {
            assert_eq!(with_text(text), None, "{text}");
        }
        assert!(text_of(&Secret::default()).is_none());
    }
}
