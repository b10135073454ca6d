//! [`Entry`]: one API key as the Secret of keys has it, in the format of OpenKruise Agents.
//!
//! The Secret has one entry per key, under the id of the key: a JSON object with the key in clear. That format is shared
//! with OpenKruise Agents, so the key cannot be hashed there. In memory beside the Secret only its digest is kept.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::{self, KeyDigest};
use super::types::{ListedKey, Mask, User};

/// Team of the keys that may use every namespace.
pub const ADMIN_TEAM: &str = "admin";

/// Id of [`ADMIN_TEAM`], the same in every installation of OpenKruise Agents.
const ADMIN_TEAM_ID: &str = "550e8400-e29b-41d4-a716-446655449999";

/// Id of the key that OpenKruise Agents creates at its start. It is never deleted.
pub(super) const ADMIN_KEY_ID: &str = "550e8400-e29b-41d4-a716-446655440000";

/// Limits by scope and dimension.
pub(super) type Quota = BTreeMap<String, BTreeMap<String, i64>>;

/// The only dimension that this server counts.
const SANDBOX_COUNT: &str = "sandbox.count";

/// The JSON of one entry. It has the key in clear, so it is never printed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    created_at: Option<String>,
    id: String,
    key: String,
    #[serde(default)]
    mask: Mask,
    #[serde(default)]
    name: String,
    created_by: Option<User>,
    team: Option<StoredTeam>,
    last_used: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredTeam {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

/// A key that can be used, without its text.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    /// The namespace; none for the team of administrators.
    pub(super) team: Option<String>,
    pub(super) digest: KeyDigest,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) quota: Quota,
    created_at: String,
    created_by: Option<User>,
    mask: Mask,
    last_used: Option<String>,
}

/// Why an entry of the Secret is not used. Never contains the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    #[error("not the JSON of a key")]
    NotJson,
    #[error("the key or its id is empty")]
    Empty,
    #[error("the id cannot be the value of a label")]
    Id,
    #[error("the name of the team cannot be the name of a namespace")]
    Team,
    #[error("expiresAt is no RFC 3339 time")]
    ExpiresAt,
}

impl Entry {
    /// Reads an entry of the Secret.
    ///
    /// # Errors
    ///
    /// [`EntryError`]. The entry is skipped then: one bad entry must not keep everybody out.
    pub(super) fn parse(json: &[u8]) -> Result<Self, EntryError> {
        // The error of the parser may contain a part of the key.
        let stored: Stored = serde_json::from_slice(json).map_err(|_| EntryError::NotJson)?;
        let Stored { created_at, id, key, mask, name, created_by, team, last_used, quota, expires_at } =
            stored;
        let key: SecretString = key.into();
        if key.expose_secret().is_empty() || id.is_empty() {
            return Err(EntryError::Empty);
        }
        // The id becomes a label of pods.
        if !is_plain(&id) {
            return Err(EntryError::Id);
        }
        let team = team.map(|team| team.name).filter(|team| !team.is_empty() && team != ADMIN_TEAM);
        if !team.as_deref().is_none_or(is_plain) {
            return Err(EntryError::Team);
        }
        let expires_at = expires_at.filter(|text| !text.is_empty());
        let expires_at =
            expires_at.map(|text| text.parse()).transpose().map_err(|_| EntryError::ExpiresAt)?;
        Ok(Self {
            id,
            name,
            team,
            digest: KeyDigest::of(&key),
            expires_at,
            quota: quota.unwrap_or_default(),
            created_at: created_at.unwrap_or_else(|| Timestamp::UNIX_EPOCH.to_string()),
            created_by,
            mask,
            last_used,
        })
    }

    /// Returns true if the key is not accepted any more.
    pub(super) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Returns true if the key has an end, or a quota of anything.
    pub(super) fn is_limited(&self) -> bool {
        self.expires_at.is_some() || !self.quota.is_empty()
    }

    /// Returns the id of the key that has made this one; empty if that was the command line.
    pub(super) fn maker(&self) -> &str {
        self.created_by.as_ref().map_or("", |maker| &maker.id)
    }

    /// Returns the key without its text.
    pub(super) fn listed(&self) -> ListedKey {
        ListedKey {
            id: self.id.clone(),
            name: self.name.clone(),
            created_at: self.created_at.clone(),
            created_by: self.created_by.clone(),
            mask: self.mask.clone(),
            last_used: self.last_used.clone(),
            expires_at: self.expires_at.map(|end| end.to_string()),
        }
    }

    /// Returns the limit of a scope, if the key has one.
    pub(super) fn limit(&self, scope: &str) -> Option<i64> {
        self.quota.get(scope)?.get(SANDBOX_COUNT).copied()
    }
}

/// Returns true for letters, digits and `-` that begin and end with a letter or digit, as UUIDs and namespaces do.
fn is_plain(text: &str) -> bool {
    text.len() <= 63
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns true for limits that this server can keep: of the number of sandboxes, zero or more.
pub(super) fn is_known_quota(quota: &Quota) -> bool {
    quota.iter().all(|(scope, limits)| {
        matches!(scope.as_str(), "running" | "all")
            && limits.iter().all(|(dimension, limit)| dimension == SANDBOX_COUNT && *limit >= 0)
    })
}

/// A key that is to be added.
pub struct NewEntry {
    /// What the key is for.
    pub name: String,
    /// The namespace, or [`ADMIN_TEAM`].
    pub team: String,
    /// When the key stops being accepted.
    pub expires_at: Option<Timestamp>,
    pub(super) quota: Option<Quota>,
    pub(super) created_by: Option<String>,
    /// Whether a key of the same team makes it, and not an administrator.
    pub(super) is_of_member: bool,
}

/// A key that was made, and is not stored yet. The text can be shown once.
pub(super) struct Made {
    pub(super) id: String,
    /// As clients send it.
    pub(super) issued: SecretString,
    /// What is stored, with the key in clear.
    pub(super) json: SecretString,
}

impl NewEntry {
    /// Describes a key of a team.
    #[must_use]
    pub fn new(name: impl Into<String>, team: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            team: team.into(),
            expires_at: None,
            quota: None,
            created_by: None,
            is_of_member: false,
        }
    }

    /// Makes the key.
    pub(super) fn make(self, now: Timestamp) -> Made {
        let key = key::generate();
        let issued = key::issued(&key);
        self.with_key(&key, issued, now)
    }

    /// Makes the key that clients send as this text. `None` if no client could send it.
    pub(super) fn with_text(self, text: SecretString, now: Timestamp) -> Option<Made> {
        let key = key::presented(text.expose_secret())?;
        Some(self.with_key(&key, text, now))
    }

    fn with_key(self, key: &SecretString, issued: SecretString, now: Timestamp) -> Made {
        let id = Uuid::new_v4().to_string();
        let team_id =
            if self.team == ADMIN_TEAM { ADMIN_TEAM_ID.to_owned() } else { Uuid::new_v4().to_string() };
        let stored = Stored {
            created_at: Some(now.to_string()),
            id: id.clone(),
            key: key.expose_secret().to_owned(),
            mask: mask(issued.expose_secret()),
            name: self.name,
            created_by: self.created_by.map(|id| User { email: String::new(), id }),
            team: Some(StoredTeam { id: team_id, name: self.team }),
            last_used: None,
            quota: self.quota,
            expires_at: self.expires_at.map(|end| end.to_string()),
        };
        // It has texts, numbers and maps with texts as keys only.
        let json = serde_json::to_string(&stored).expect("an entry can be written as JSON");
        Made { id, issued, json: json.into() }
    }
}

/// The first and last digits, by which users recognise a key. They are of the checksum and the header, not of the key.
fn mask(issued: &str) -> Mask {
    let digits = issued.strip_prefix("e2b_").unwrap_or(issued);
    let ends = |from: usize, to: usize| digits.get(from..to).unwrap_or_default().to_owned();
    Mask {
        prefix: "e2b_".to_owned(),
        value_length: u32::try_from(digits.len()).unwrap_or(u32::MAX),
        masked_value_prefix: ends(0, 2),
        masked_value_suffix: ends(digits.len().saturating_sub(4), digits.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry that OpenKruise Agents writes at its start, with a made-up key.
    const ADMIN: &str = r#"{"createdAt":"2026-11-28T20:07:34.892497222Z","id":"550e8400-e29b-41d4-a716-446655440000","key":"0f3a1c9e-6d2b-4b7e-9a51-3c8e7f2d1a60","mask":{"maskedValuePrefix":"","maskedValueSuffix":"","prefix":"","valueLength":0},"name":"admin","createdBy":null,"team":{"id":"550e8400-e29b-41d4-a716-446655449999","name":"admin"},"lastUsed":null}"#;

    fn error(json: &str) -> EntryError {
        Entry::parse(json.as_bytes()).err().unwrap()
    }

    #[test]
    fn e2b_4_2_the_entry_of_the_administrator_is_read() {
        let entry = Entry::parse(ADMIN.as_bytes()).unwrap();
        assert_eq!((entry.id.as_str(), entry.team.as_deref()), (ADMIN_KEY_ID, None));
        assert!(entry.digest.is(&KeyDigest::of(&"0f3a1c9e-6d2b-4b7e-9a51-3c8e7f2d1a60".to_owned().into())));
        assert!(!entry.is_expired(Timestamp::MAX));
    }

    #[test]
    fn e2b_4_2_what_is_made_is_read_back() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let mut new = NewEntry::new("ci", "team-a");
        new.expires_at = Some(now);
        new.quota = Some([("all".to_owned(), [("sandbox.count".to_owned(), 5)].into())].into());
        let made = new.make(now);
        let entry = Entry::parse(made.json.expose_secret().as_bytes()).unwrap();
        assert_eq!((entry.id.as_str(), entry.team.as_deref()), (made.id.as_str(), Some("team-a")));
        assert_eq!((entry.limit("all"), entry.limit("running")), (Some(5), None));
        assert!(entry.is_expired(now) && !entry.is_expired("2029-12-31T23:59:59Z".parse().unwrap()));
        let sent = key::presented(made.issued.expose_secret()).unwrap();
        assert!(entry.digest.is(&KeyDigest::of(&sent)));
        let listed = serde_json::to_string(&entry.listed()).unwrap();
        assert!(!listed.contains(sent.expose_secret()), "{listed}");
    }

    #[test]
    fn e2b_4_2_a_key_without_a_team_is_of_the_administrators() {
        let entry = Entry::parse(br#"{"id":"a","key":"k"}"#).unwrap();
        assert_eq!(entry.team, None);
    }

    #[test]
    fn a_bad_entry_is_named_by_its_fault_and_not_by_its_content() {
        assert_eq!(error("secret"), EntryError::NotJson);
        assert_eq!(error(r#"{"id":"a","key":""}"#), EntryError::Empty);
        assert_eq!(error(r#"{"id":"a/b","key":"k"}"#), EntryError::Id);
        assert_eq!(error(r#"{"id":"a","key":"k","team":{"name":"../x"}}"#), EntryError::Team);
        assert_eq!(error(r#"{"id":"a","key":"k","expiresAt":"soon"}"#), EntryError::ExpiresAt);
    }

    #[test]
    fn limits_that_nobody_counts_are_not_accepted() {
        let quota = |json: &str| is_known_quota(&serde_json::from_str(json).unwrap());
        assert!(quota(r#"{"running":{"sandbox.count":3},"all":{"sandbox.count":0}}"#));
        for json in [
            r#"{"all":{"limits.cpu":3}}"#,
            r#"{"all":{"sandbox.count":-1}}"#,
            r#"{"some":{"sandbox.count":1}}"#,
        ] {
            assert!(!quota(json), "{json}");
        }
    }
}
