//! `get` and `watch`.

use std::sync::Arc;

use axum::body::Body;
use http::{Response, StatusCode};

use super::options::{self, WatchOptions};
use super::pages::check_reached;
use crate::answer;
use crate::call::Call;
use crate::error::ApiError;
use crate::store::Stored;
use crate::watch::{self, WatchRequest};

/// Answers with one object.
pub(super) fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    if let Some(asked) = options::version(call)? {
        check_reached(call, asked)?;
    }
    Ok(answer::json(StatusCode::OK, presenter.object(&*call.find()?)))
}

/// Answers with the events of a collection.
pub(super) fn watch(call: &Call) -> Result<Response<Body>, ApiError> {
    let presenter = call.presenter()?;
    let options = WatchOptions::of(call)?;
    let asked = options.version;
    // Without a version, or with 0, the present objects come first, as in kube-apiserver.
    let wants_initial = options.initial_events.unwrap_or(matches!(asked, None | Some(0)));
    let (initial, from) = if wants_initial {
        match initial(call, &options) {
            Ok(initial) => initial,
            // kube-apiserver reports the error in the stream.
            Err(error) => return Ok(answer::json(StatusCode::OK, watch::refusal(&error))),
        }
    } else {
        (Vec::new(), asked.filter(|asked| *asked > 0).unwrap_or_else(|| call.state.store.revision()))
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
    Ok(answer::stream(watch::lines(Arc::clone(&call.state), request, &call.interference)))
}

/// The present objects, and their version.
fn initial(call: &Call, options: &WatchOptions) -> Result<(Vec<Arc<Stored>>, u64), ApiError> {
    if let Some(asked) = options.version {
        check_reached(call, asked)?;
    }
    let snapshot = call.state.store.list(&call.resource.storage, &call.range(None), None, 0);
    let snapshot = snapshot.map_err(|unknown| watch::expired(0, unknown))?;
    let passing = snapshot.objects.into_iter().filter(|stored| options.filter.passes(stored));
    Ok((passing.collect(), snapshot.revision))
}
