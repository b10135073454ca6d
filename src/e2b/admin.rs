//! Teams and keys: what a caller sees and changes of them.
//!
//! A key may make and remove keys of its own team. Only an administrator may do so for other teams. A key with a quota or an
//! end does neither: it could make one without, and so pass its own limits.

use axum::response::Response;
use http::StatusCode;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api as KubeApi;
use secrecy::ExposeSecret as _;
use shared_cache::{error_text, is_not_sent};

use super::api::{Api, Call, no_content};
use super::entry::{ADMIN_TEAM, Entry, EntryError, NewEntry, is_known_quota};
use super::errors::{ApiError, Retry, json, quoted};
use super::keys::{Caller, KeyIndex, Keys};
use super::store::{KeyStore, KeyStoreError};
use super::types::{CreatedKey, NewKey, Team};

/// The longest name of a key.
const LONGEST_NAME: usize = 256;

pub(super) fn teams(call: &Call<'_>) -> Response {
    let name = team_name(&call.caller).to_owned();
    json(StatusCode::OK, &[Team { team_id: name.clone(), name, api_key: "", is_default: true }])
}

fn team_name(caller: &Caller) -> &str {
    caller.team.as_deref().unwrap_or(ADMIN_TEAM)
}

/// Without keys there is nothing to list or to change.
fn store(api: &Api) -> Result<&KeyIndex, ApiError> {
    match &api.keys {
        Keys::Store(store) => Ok(store),
        Keys::None => {
            Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "this server asks for no keys (e2b.auth: none)"))
        }
    }
}

/// Returns the keys to a caller that may change them.
fn managed<'a>(api: &'a Api, caller: &Caller) -> Result<&'a KeyIndex, ApiError> {
    let store = store(api)?;
    if caller.may_manage_keys {
        Ok(store)
    } else {
        Err(ApiError::forbidden("a key with a quota or an end cannot make or remove keys"))
    }
}

pub(super) fn list_keys(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    Ok(json(StatusCode::OK, &store(api)?.list(call.caller.team.as_deref())?))
}

pub(super) async fn create_key(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let caller = &call.caller;
    let store = managed(api, caller)?;
    let NewKey { name, team_name: team, quota } = call.json()?;
    let has_name = |name: &String| (1..=LONGEST_NAME).contains(&name.len());
    let name = name.filter(has_name).ok_or_else(|| ApiError::bad_request("name: expected 1 to 256 bytes"))?;
    let team = team.filter(|team| !team.is_empty()).unwrap_or_else(|| team_name(caller).to_owned());
    if !caller.is_administrator() && (team != team_name(caller) || quota.is_some()) {
        return Err(ApiError::forbidden("only an administrator may choose the team or the quota of a key"));
    }
    if quota.as_ref().is_some_and(|quota| !is_known_quota(quota)) {
        let text = "quota: expected limits of sandbox.count in the scopes running and all";
        return Err(ApiError::bad_request(text));
    }
    check_team(api, &team).await?;
    let mut new = NewEntry::new(name, team);
    new.quota = quota;
    new.created_by = Some(caller.key_id.clone());
    new.is_of_member = !caller.is_administrator();
    let added = KeyStore::new(api.cache.client().clone(), &store.namespace).add(new).await.map_err(failed)?;
    let value = added.secret.data.as_ref().and_then(|data| data.get(&added.id));
    let listed = value.and_then(|value| Entry::parse(&value.0).ok()).map(|entry| entry.listed());
    // The API server has returned what it was sent.
    let listed =
        listed.ok_or_else(|| ApiError::internal("the new key cannot be read").retry(Retry::Never))?;
    store.written(added.secret);
    tracing::info!(id = added.id, by = caller.key_id, "an API key was created");
    let key = added.key.expose_secret().to_owned();
    Ok(json(StatusCode::CREATED, &CreatedKey { listed, key }))
}

/// A team is a namespace. Ids of sandboxes join namespace and name by `--`, so a namespace with that has no own ids.
async fn check_team(api: &Api, team: &str) -> Result<(), ApiError> {
    if team == ADMIN_TEAM {
        return Ok(());
    }
    let missing = || ApiError::bad_request(format!("teamName: there is no namespace {}", quoted(team)));
    let is_name = team.len() <= 63 && team.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_name || team.contains("--") {
        return Err(missing());
    }
    let namespaces = KubeApi::<Namespace>::all(api.cache.client().clone());
    match namespaces.get_opt(team).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(missing()),
        // Without that permission nobody can say. A key of a namespace that does not exist is of no use, and no harm.
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        Err(error) => Err(ApiError::unavailable(error.to_string())),
    }
}

pub(super) async fn delete_key(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let caller = &call.caller;
    let store = managed(api, caller)?;
    let may_remove = |entry: &Result<Entry, EntryError>| {
        let team = entry.as_ref().ok().and_then(|entry| entry.team.as_deref());
        if caller.is_administrator() || entry.is_ok() && team == caller.team.as_deref() {
            Ok(())
        } else {
            Err(Refusal(ApiError::forbidden("this key is of another team")))
        }
    };
    let keys = KeyStore::new(api.cache.client().clone(), &store.namespace);
    let secret = keys.remove_if(&call.route.id, may_remove).await.map_err(|Refusal(error)| error)?;
    store.written(secret);
    tracing::info!(id = call.route.id, by = caller.key_id, "an API key was removed");
    Ok(no_content())
}

/// Why a key was not removed.
struct Refusal(ApiError);

impl From<KeyStoreError> for Refusal {
    fn from(error: KeyStoreError) -> Self {
        Self(failed(error))
    }
}

fn failed(error: KeyStoreError) -> ApiError {
    match error {
        KeyStoreError::NoKey(id) => ApiError::not_found(format!("key {} not found", quoted(&id))),
        KeyStoreError::NoSecret(_) => ApiError::not_found("there are no keys"),
        KeyStoreError::Administrator => ApiError::forbidden(error.to_string()),
        KeyStoreError::Full | KeyStoreError::TeamFull => ApiError::conflict(error.to_string()),
        KeyStoreError::Contended(_) => ApiError::unavailable(error.to_string()),
        KeyStoreError::Api(_, error) => match *error {
            kube::Error::Api(status) if matches!(status.code, 401 | 429) => {
                ApiError::unavailable(format!("the API server refused: {}", status.message))
            }
            kube::Error::Api(status) if status.code < 500 => {
                ApiError::internal(format!("the API server refused: {}", status.message))
            }
            error if is_not_sent(&error) => ApiError::unavailable(error_text(&error)),
            // The key may be there, but nobody knows its text.
            error => ApiError::unavailable(error.to_string()).retry(Retry::Never),
        },
    }
}
