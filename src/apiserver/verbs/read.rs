//! `get`, `list` and `watch`.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::apiserver::answer;
use crate::apiserver::error::ApiError;
use crate::apiserver::filter::Filter;
use crate::apiserver::form::{Form, Presenter};
use crate::apiserver::server::Call;
use crate::apiserver::store::{Key, Range, Snapshot, Stored, Unknown};
use crate::apiserver::watch::{self, WatchRequest};

/// Bytes of a list that are sent at once.
const CHUNK: usize = 256 << 10;

impl Call {
    /// The key of the object that the path names.
    pub(super) fn key(&self) -> Key {
        let namespace = self.target.namespace.as_deref().unwrap_or_default();
        Key::new(namespace, self.target.name.as_deref().unwrap_or_default())
    }

    /// The object that the path names.
    pub(super) fn find(&self) -> Result<Arc<Stored>, ApiError> {
        let found = self.server.store.get(&self.resource.storage, &self.key());
        found.ok_or_else(|| self.not_found())
    }

    pub(super) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.about(self.target.name.as_deref().unwrap_or_default()))
    }

    pub(super) fn presenter(&self) -> Result<Presenter, ApiError> {
        let form = Form::negotiate(&self.headers, &self.params)?;
        Ok(Presenter::new(Arc::clone(&self.resource), form))
    }

    /// Where the objects of the path are.
    pub(super) fn range<'a>(&'a self, after: Option<&'a Key>) -> Range<'a> {
        Range { namespace: self.target.namespace.as_deref(), after }
    }
}

/// One object.
pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    if let Some(asked) = version(call)? {
        check_reached(call, asked)?;
    }
    Ok(answer::json(StatusCode::OK, presenter.object(&*call.find()?)))
}

/// What a list asks for about versions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    /// The newest state.
    Newest,
    /// Any state that is not older.
    NotOlderThan(u64),
    /// Exactly this one.
    Exactly(u64),
}

/// The `resourceVersion` of the query.
fn version(call: &Call) -> Result<Option<u64>, ApiError> {
    let Some(text) = call.params.get("resourceVersion") else { return Ok(None) };
    let number = text.parse::<u64>();
    number.map(Some).map_err(|_| {
        ApiError::bad_request(format!(
            "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    })
}

/// Waits for nothing: a version that is not reached yet is refused, and the client told to come again.
fn check_reached(call: &Call, asked: u64) -> Result<(), ApiError> {
    let current = call.server.store.revision();
    if asked > current { Err(ApiError::version_too_large(asked, current)) } else { Ok(()) }
}

fn forbidden_option(call: &Call, field: &'static str, why: &'static str) -> ApiError {
    use crate::apiserver::error::FieldError;
    let errors = [FieldError::forbidden(field, why)];
    let _ = call;
    ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors)
}

fn at(call: &Call, continued: bool) -> Result<At, ApiError> {
    let rule = call.params.get("resourceVersionMatch");
    let asked = call.params.get("resourceVersion").map(|_| version(call)).transpose()?.flatten();
    if rule.is_some() && continued {
        return Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    match (rule, asked) {
        (Some(_), None) => Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        )),
        (Some("Exact"), Some(0)) => Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        )),
        (Some("Exact"), Some(asked)) => Ok(At::Exactly(asked)),
        (Some("NotOlderThan") | None, Some(0)) => Ok(At::NotOlderThan(0)),
        (Some("NotOlderThan"), Some(asked)) => Ok(At::NotOlderThan(asked)),
        // With a limit, a version without a rule means exactly that version, as it always did.
        (None, Some(asked)) if limit(call)? > 0 => Ok(At::Exactly(asked)),
        (None, Some(asked)) => Ok(At::NotOlderThan(asked)),
        (None, None) => Ok(At::Newest),
        (Some(other), _) => {
            use crate::apiserver::error::{FieldError, Problem};
            let supported = ["Exact", "NotOlderThan"].map(str::to_owned).to_vec();
            let problem = Problem::NotSupported(json!(other), supported);
            let errors = [FieldError::new("resourceVersionMatch", problem)];
            Err(ApiError::invalid("meta.k8s.io", "ListOptions", "", &errors))
        }
    }
}

fn limit(call: &Call) -> Result<usize, ApiError> {
    let limit = call.params.number("limit")?.unwrap_or_default();
    Ok(usize::try_from(limit).unwrap_or_default())
}

/// Where a list goes on: opaque to clients.
#[derive(Serialize, Deserialize)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.ok_or_else(|| ApiError::bad_request("continue key is not valid: illegal base64 data"))
    }
}

/// A collection, or a page of it.
pub(super) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let filter = Filter::of(&call.resource, &call.target, &call.params)?;
    let limit = limit(call)?;
    let token = call.params.get("continue").map(Continue::decode).transpose()?;
    let page = match token {
        Some(token) => continued(call, &filter, &token, limit)?,
        None => first(call, &filter, limit)?,
    };
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let (Some(last), true) = (page.objects.last(), page.more) {
        metadata["continue"] = json!(token_after(&last.key, page.revision));
        if !filter.is_selective() {
            metadata["remainingItemCount"] = json!(page.remaining);
        }
    }
    if presenter.form != Form::Object {
        return Ok(answer::value(&presenter.small_list(&page.objects, &metadata)));
    }
    let mut head = Map::new();
    head.insert("apiVersion".to_owned(), json!(call.resource.api_version()));
    head.insert("kind".to_owned(), json!(call.resource.names.list_kind));
    head.insert("metadata".to_owned(), metadata);
    Ok(answer::stream(list_text(presenter, &Value::Object(head).to_string(), page.objects)))
}

fn token_after(key: &Key, revision: u64) -> String {
    let (namespace, name) = (key.namespace.to_string(), key.name.to_string());
    Continue { revision, namespace, name }.encode()
}

/// What a list answers with.
struct Page {
    objects: Vec<Arc<Stored>>,
    revision: u64,
    more: bool,
    remaining: usize,
}

fn first(call: &Call, filter: &Filter, limit: usize) -> Result<Page, ApiError> {
    let revision = match at(call, false)? {
        At::Newest => call.interference.list_revision(call.server.store.revision()),
        At::NotOlderThan(asked) => {
            check_reached(call, asked)?;
            let old = call.interference.list_revision(call.server.store.revision());
            old.filter(|old| *old >= asked)
        }
        At::Exactly(asked) => Some(asked),
    };
    let expired = |unknown| match (unknown, revision) {
        (Unknown::Expired { .. }, _) => {
            ApiError::expired("The resourceVersion for the provided list is too old.")
        }
        (Unknown::Future { current }, asked) => {
            ApiError::version_too_large(asked.unwrap_or_default(), current)
        }
    };
    select(call, filter, None, revision, limit).map_err(expired)
}

fn continued(call: &Call, filter: &Filter, token: &Continue, limit: usize) -> Result<Page, ApiError> {
    at(call, true)?;
    if version(call)?.is_some_and(|version| version != 0) {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let after = Key::new(&token.namespace, &token.name);
    select(call, filter, Some(&after), Some(token.revision), limit).map_err(|_| {
        // The client may go on from where it was with what there is now.
        let fresh = token_after(&after, call.server.store.revision());
        let mut error = ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list: objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
        error.details.continue_token = Some(fresh);
        error
    })
}

/// The next objects that pass the filter, at most `limit` if it is not 0.
fn select(
    call: &Call,
    filter: &Filter,
    after: Option<&Key>,
    at: Option<u64>,
    limit: usize,
) -> Result<Page, Unknown> {
    let selective = filter.is_selective();
    let store_limit = if selective { 0 } else { limit };
    let range = call.range(after);
    let Snapshot { mut objects, revision, remaining } =
        call.server.store.list(&call.resource.storage, &range, at, store_limit)?;
    if !selective {
        return Ok(Page { objects, revision, more: remaining > 0, remaining });
    }
    let mut passing = objects.drain(..).filter(|stored| filter.passes(stored));
    let mut kept: Vec<_> = passing.by_ref().take(if limit == 0 { usize::MAX } else { limit }).collect();
    let more = passing.next().is_some();
    kept.shrink_to_fit();
    Ok(Page { objects: kept, revision, more, remaining: 0 })
}

/// The text of a list in chunks: its head without the closing brace, then the items.
fn list_text(
    presenter: Presenter,
    head: &str,
    objects: Vec<Arc<Stored>>,
) -> impl futures::Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
    let head = format!("{},\"items\":[", head.strip_suffix('}').unwrap_or(head));
    let state = (presenter, Some(head), objects.into_iter().peekable(), false);
    stream::unfold(state, |(presenter, mut head, mut objects, mut done)| async move {
        if done {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        chunk.put_slice(head.take().unwrap_or_default().as_bytes());
        while chunk.len() < CHUNK
            && let Some(stored) = objects.next()
        {
            chunk.put_slice(&presenter.object(&stored));
            if objects.peek().is_some() {
                chunk.put_u8(b',');
            }
        }
        if objects.peek().is_none() {
            chunk.put_slice(b"]}\n");
            done = true;
        }
        Some((Ok(chunk.freeze()), (presenter, head, objects, done)))
    })
}

/// A collection from some point on.
pub(super) fn watch(call: Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let filter = Filter::of(&call.resource, &call.target, &call.params)?;
    let asked = version(&call)?;
    let initial_events = initial_events(&call)?;
    let store = &call.server.store;
    // As etcd-backed servers do it: without a version, or with 0, what is there comes first.
    let wants_initial = initial_events.unwrap_or(matches!(asked, None | Some(0)));
    let (initial, from) = if wants_initial {
        if let Some(asked) = asked {
            check_reached(&call, asked)?;
        }
        let snapshot = store.list(&call.resource.storage, &call.range(None), None, 0);
        let snapshot = snapshot.map_err(|unknown| watch::expired(0, unknown))?;
        let passing = snapshot.objects.into_iter().filter(|stored| filter.passes(stored));
        (passing.collect(), snapshot.revision)
    } else {
        (Vec::new(), asked.filter(|asked| *asked > 0).unwrap_or_else(|| store.revision()))
    };
    let seconds = call.params.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let bookmarks = call.params.flag("allowWatchBookmarks");
    let request = WatchRequest {
        storage: Arc::clone(&call.resource.storage),
        filter,
        presenter,
        from,
        initial,
        marks_end_of_initial: initial_events == Some(true) && bookmarks,
        bookmarks,
        lifetime: seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs),
    };
    Ok(answer::stream(watch::lines(Arc::clone(&call.server), request, &call.interference)))
}

/// The `sendInitialEvents` of the query, if its company is right.
fn initial_events(call: &Call) -> Result<Option<bool>, ApiError> {
    let rule = call.params.get("resourceVersionMatch");
    let wanted = call.params.tristate("sendInitialEvents");
    match (wanted, rule) {
        (Some(_), Some("NotOlderThan")) | (None, None) => Ok(wanted),
        (Some(_), Some(_)) => Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (Some(_), None) => Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        (None, Some(_)) => Err(forbidden_option(
            call,
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
    }
}
