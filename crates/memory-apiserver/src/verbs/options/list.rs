//! [`ListOptions`] and [`WatchOptions`]: the query of a list and of a watch.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{judge, not_supported};
use crate::call::Call;
use crate::error::{ApiError, FieldError};
use crate::filter::Filter;
use crate::store::Key;

/// Maximum lifetime of a watch, in seconds.
const MAX_LIFETIME: u64 = 365 * 24 * 60 * 60;

const MATCH: &str = "resourceVersionMatch";
const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

/// The state of a collection that a list asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    /// The newest state.
    Newest,
    /// Any state that is not older.
    NotOlderThan(u64),
    /// Exactly this state.
    Exactly(u64),
}

/// The place after which a list goes on. Opaque to clients.
#[derive(Serialize, Deserialize)]
pub(crate) struct Continue {
    pub(crate) revision: u64,
    namespace: String,
    name: String,
    /// How many objects follow, if that is known.
    pub(crate) remaining: Option<usize>,
}

/// The options of a list.
pub(crate) struct ListOptions {
    pub(crate) filter: Filter,
    pub(crate) at: At,
    /// Maximum number of objects; 0: all.
    pub(crate) limit: usize,
    pub(crate) token: Option<Continue>,
}

/// The options of a watch.
pub(crate) struct WatchOptions {
    pub(crate) filter: Filter,
    /// The version after which it begins; 0: any.
    pub(crate) version: Option<u64>,
    /// Whether the present objects come first; `None`: the version decides.
    pub(crate) initial_events: Option<bool>,
    pub(crate) bookmarks: bool,
    pub(crate) lifetime: Option<Duration>,
}

impl ListOptions {
    /// # Errors
    ///
    /// If an option is invalid, alone or together with others.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let filter = Filter::of(&call.resource, &call.target, &call.params)?;
        let limit = usize::try_from(call.params.number("limit")?.unwrap_or_default()).unwrap_or_default();
        let token = call.params.get("continue");
        judge("ListOptions", &list_errors(call))?;
        let version = version(call)?;
        if token.is_some() && version.is_some_and(|version| version != 0) {
            let why = "specifying resource version is not allowed when using continue";
            return Err(ApiError::bad_request(why));
        }
        Ok(Self {
            filter,
            at: at(call, version, limit),
            limit,
            token: token.map(Continue::decode).transpose()?,
        })
    }
}

fn list_errors(call: &Call) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let asked = call.params.get("resourceVersion");
    if let Some(rule) = call.params.get(MATCH) {
        let mut forbid = |why| errors.push(FieldError::forbidden(MATCH, why));
        if asked.is_none() {
            forbid("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if call.params.get("continue").is_some() {
            forbid("resourceVersionMatch is forbidden when continue is provided");
        }
        if rule == EXACT && asked == Some("0") {
            forbid("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        if !matches!(rule, EXACT | NOT_OLDER) {
            errors.push(not_supported(MATCH, rule, &[EXACT, NOT_OLDER, ""]));
        }
    }
    if call.params.tristate("sendInitialEvents").is_some() {
        errors.push(FieldError::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn at(call: &Call, version: Option<u64>, limit: usize) -> At {
    match (call.params.get(MATCH), version) {
        (_, None) => At::Newest,
        (Some(EXACT), Some(asked)) => At::Exactly(asked),
        // With a limit, a version without a rule means exactly that version.
        (None, Some(asked)) if limit > 0 && asked > 0 => At::Exactly(asked),
        (_, Some(asked)) => At::NotOlderThan(asked),
    }
}

/// The `resourceVersion` of the query.
///
/// # Errors
///
/// If it is not a number.
pub(crate) fn version(call: &Call) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.params.get("resourceVersion") else { return Ok(None) };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    text.parse::<u64>().ok().filter(|_| digits).map(Some).ok_or_else(|| {
        ApiError::bad_request(format!(
            "invalid resource version: resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
        ))
    })
}

impl WatchOptions {
    /// # Errors
    ///
    /// As [`ListOptions::of`].
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let filter = Filter::of(&call.resource, &call.target, &call.params)?;
        let seconds = call.params.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        judge("ListOptions", &watch_errors(call))?;
        Ok(Self {
            filter,
            version: version(call)?,
            initial_events: call.params.tristate("sendInitialEvents"),
            bookmarks: call.params.flag("allowWatchBookmarks"),
            lifetime: seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.min(MAX_LIFETIME))),
        })
    }
}

fn watch_errors(call: &Call) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rule = call.params.get(MATCH);
    let wants_initial = call.params.tristate("sendInitialEvents").is_some();
    let mut forbid = |why| errors.push(FieldError::forbidden(MATCH, why));
    if wants_initial && rule != Some(NOT_OLDER) {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if rule.is_some() && !wants_initial {
        forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if rule.is_some() && call.params.get("continue").is_some() {
        forbid("resourceVersionMatch is forbidden when continue is provided");
    }
    if let Some(other) = rule.filter(|rule| *rule != NOT_OLDER) {
        errors.push(not_supported(MATCH, other, &[NOT_OLDER]));
    }
    errors
}

impl Continue {
    /// The token to go on after an object, in the state of a revision.
    pub(crate) fn after(key: &Key, revision: u64, remaining: Option<usize>) -> Self {
        Self { revision, namespace: key.namespace.to_string(), name: key.name.to_string(), remaining }
    }

    /// The key of the last object that was listed.
    pub(crate) fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }

    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.ok_or_else(|| {
            ApiError::bad_request("invalid continue token: continue key is not valid: illegal base64 data")
        })
    }
}
