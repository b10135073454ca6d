//! `get`, `list` and `watch`.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::options::{self, At, Continue, ListOptions, WatchOptions};
use crate::answer;
use crate::error::ApiError;
use crate::form::{Form, Presenter};
use crate::server::Call;
use crate::store::{Expect, Key, Range, Snapshot, Stored, Unknown};
use crate::watch::{self, WatchRequest};

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

    /// What has to be so for a new object.
    pub(super) fn absent(&self) -> Expect {
        if self.resource.is_custom() { Expect::AbsentAndDefined } else { Expect::Absent }
    }

    /// Where the objects of the path are.
    pub(super) fn range<'a>(&'a self, after: Option<&'a Key>) -> Range<'a> {
        Range { namespace: self.target.namespace.as_deref(), after }
    }
}

/// One object.
pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    if let Some(asked) = options::version(call)? {
        check_reached(call, asked)?;
    }
    Ok(answer::json(StatusCode::OK, presenter.object(&*call.find()?)))
}

/// Waits for nothing: a version that is not reached yet is refused, and the client told to come again.
fn check_reached(call: &Call, asked: u64) -> Result<(), ApiError> {
    let current = call.server.store.revision();
    if asked > current { Err(ApiError::version_too_large(asked, current)) } else { Ok(()) }
}

/// A collection, or a page of it.
pub(super) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let options = ListOptions::of(call)?;
    let page = match &options.token {
        Some(token) => continued(call, &options, token)?,
        None => first(call, &options)?,
    };
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let (Some(last), true) = (page.objects.last(), page.more) {
        metadata["continue"] = json!(Continue::after(&last.key, page.revision).encode());
        if !options.filter.is_selective() {
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

/// What a list answers with.
struct Page {
    objects: Vec<Arc<Stored>>,
    revision: u64,
    more: bool,
    remaining: usize,
}

fn first(call: &Call, options: &ListOptions) -> Result<Page, ApiError> {
    let revision = match options.at {
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
    select(call, options, None, revision).map_err(expired)
}

fn continued(call: &Call, options: &ListOptions, token: &Continue) -> Result<Page, ApiError> {
    let after = token.key();
    select(call, options, Some(&after), Some(token.revision)).map_err(|_| {
        // The client may go on from where it was with what there is now.
        let fresh = Continue::after(&after, call.server.store.revision()).encode();
        let mut error = ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list: objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
        error.details.continue_token = Some(fresh);
        error
    })
}

/// The next objects that are selected, at most as many as is asked for.
fn select(call: &Call, options: &ListOptions, after: Option<&Key>, at: Option<u64>) -> Result<Page, Unknown> {
    let (filter, limit) = (&options.filter, options.limit);
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
pub(super) fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let options = WatchOptions::of(call)?;
    let asked = options.version;
    // As etcd-backed servers do it: without a version, or with 0, what is there comes first.
    let wants_initial = options.initial_events.unwrap_or(matches!(asked, None | Some(0)));
    let (initial, from) = if wants_initial {
        match initial(call, &options) {
            Ok(initial) => initial,
            // The watch has begun, so that it is in the stream that the client is told.
            Err(error) => return Ok(answer::json(StatusCode::OK, watch::refusal(&error))),
        }
    } else {
        (Vec::new(), asked.filter(|asked| *asked > 0).unwrap_or_else(|| call.server.store.revision()))
    };
    let request = WatchRequest {
        storage: Arc::clone(&call.resource.storage),
        filter: options.filter,
        presenter,
        from,
        initial,
        marks_end_of_initial: options.initial_events == Some(true) && options.bookmarks,
        bookmarks: options.bookmarks,
        lifetime: options.lifetime,
    };
    Ok(answer::stream(watch::lines(Arc::clone(&call.server), request, &call.interference)))
}

/// What is there, and the version in which it is.
fn initial(call: &Call, options: &WatchOptions) -> Result<(Vec<Arc<Stored>>, u64), ApiError> {
    if let Some(asked) = options.version {
        check_reached(call, asked)?;
    }
    let snapshot = call.server.store.list(&call.resource.storage, &call.range(None), None, 0);
    let snapshot = snapshot.map_err(|unknown| watch::expired(0, unknown))?;
    let passing = snapshot.objects.into_iter().filter(|stored| options.filter.passes(stored));
    Ok((passing.collect(), snapshot.revision))
}
