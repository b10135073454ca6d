//! [`Page`]: the objects of a list or of a part of it, and the answer that is made of them.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::Response;
use serde_json::{Map, Value, json};

use super::options::{At, Continue, ListOptions};
use crate::answer;
use crate::call::Call;
use crate::error::ApiError;
use crate::form::{Form, Presenter};
use crate::store::{Key, Snapshot, Stored, Unknown};

/// Bytes after which a chunk of a list is sent.
const CHUNK: usize = 256 << 10;

/// Minimum number of objects that are read at once if there are selectors.
const BATCH: usize = 500;

/// Answers with a collection, or a page of it.
pub(super) fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let page = Page::of(call, &ListOptions::of(call)?)?;
    Ok(page.answer(call, presenter))
}

/// The objects of a list, or of a page of it.
pub(super) struct Page {
    pub(super) objects: Vec<Arc<Stored>>,
    revision: u64,
    more: bool,
    /// How many objects follow; `None` if that is not known, as with selectors.
    remaining: Option<usize>,
}

impl Page {
    /// The objects that a request asks for.
    pub(super) fn of(call: &Call, options: &ListOptions) -> Result<Self, ApiError> {
        match &options.token {
            Some(token) => continued(call, options, token),
            None => first(call, options),
        }
    }

    /// The list of the objects as an answer. Its text is made while it is sent.
    pub(super) fn answer(self, call: &Call, presenter: Presenter) -> Response<Body> {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if let (Some(last), true) = (self.objects.last(), self.more) {
            let token = Continue::after(&last.key, self.revision, self.remaining);
            metadata["continue"] = json!(token.encode());
            if let Some(remaining) = self.remaining {
                metadata["remainingItemCount"] = json!(remaining);
            }
        }
        if presenter.form != Form::Object {
            return answer::value(&presenter.small_list(&self.objects, &metadata));
        }
        let mut head = Map::new();
        head.insert("apiVersion".to_owned(), json!(call.resource.api_version()));
        head.insert("kind".to_owned(), json!(call.resource.names.list_kind));
        head.insert("metadata".to_owned(), metadata);
        answer::stream(list_text(presenter, &Value::Object(head).to_string(), self.objects))
    }
}

/// Refuses a version that is not reached yet, instead of waiting for it, and tells the client to retry.
pub(super) fn check_reached(call: &Call, asked: u64) -> Result<(), ApiError> {
    let current = call.state.store.revision();
    if asked > current { Err(ApiError::version_too_large(asked, current)) } else { Ok(()) }
}

fn first(call: &Call, options: &ListOptions) -> Result<Page, ApiError> {
    let revision = match options.at {
        At::Newest => call.interference.list_revision(call.state.store.revision()),
        At::NotOlderThan(asked) => {
            check_reached(call, asked)?;
            let old = call.interference.list_revision(call.state.store.revision());
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
        // The client may go on after the same object in the newest state.
        let fresh = Continue::after(&after, call.state.store.revision(), None).encode();
        let mut error = ApiError::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list: objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
        error.details.continue_token = Some(fresh);
        error
    })
}

/// The next objects that match, at most as many as the client asks for. Reads no more objects than needed.
fn select(call: &Call, options: &ListOptions, after: Option<&Key>, at: Option<u64>) -> Result<Page, Unknown> {
    let limit = if options.limit == 0 { usize::MAX } else { options.limit };
    if !options.filter.is_selective() {
        let Snapshot { objects, revision, more } = snapshot(call, after, at, limit)?;
        let remaining = more.then(|| remaining(call, options, revision, objects.len())).flatten();
        return Ok(Page { objects, revision, more, remaining });
    }
    let (mut selected, mut after, mut at) = (Vec::new(), after.cloned(), at);
    loop {
        let batch = snapshot(call, after.as_ref(), at, limit.max(BATCH))?;
        after = batch.objects.last().map(|last| last.key.clone());
        at = Some(batch.revision);
        selected.extend(batch.objects.into_iter().filter(|stored| options.filter.passes(stored)));
        let more = selected.len() > limit;
        if more || !batch.more {
            selected.truncate(limit);
            return Ok(Page { objects: selected, revision: batch.revision, more, remaining: None });
        }
    }
}

fn snapshot(call: &Call, after: Option<&Key>, at: Option<u64>, limit: usize) -> Result<Snapshot, Unknown> {
    call.state.store.list(&call.resource.storage, &call.range(after), at, limit)
}

/// How many objects follow after a page. A token says how many follow after its page, so that only the first page has
/// to ask the store.
fn remaining(call: &Call, options: &ListOptions, revision: u64, listed: usize) -> Option<usize> {
    let before = match &options.token {
        Some(token) => token.remaining,
        None => {
            call.state.store.count(&call.resource.storage, call.target.namespace.as_deref(), revision).ok()
        }
    };
    before.and_then(|before| before.checked_sub(listed))
}

/// The text of a list in chunks: the head without its closing brace, then the items.
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
