//! [`answer()`]: the way of a request to the function of its verb.

use axum::body::Body;
use http::Response;

use super::write_request::Part;
use super::{delete, pages, read, review, scale, write};
use crate::answer;
use crate::call::Call;
use crate::error::ApiError;
use crate::request::{Target, Verb};

/// Answers a request for a resource that is served.
pub(crate) fn answer(call: &Call) -> Result<Response<Body>, ApiError> {
    if !is_in_place(call) {
        return not_there(call);
    }
    match (call.target.subresource.as_deref(), call.verb) {
        (None, _) => main(call),
        (Some("status"), verb) if call.resource.status => part(call, verb, Part::Status),
        (Some("resize"), verb) if call.resource.resize().is_some() => part(call, verb, Part::Resize),
        (Some("scale"), verb) if call.resource.scale.is_some() => match verb {
            Verb::Get | Verb::Update | Verb::Patch => scale::answer(call, verb),
            _ => Err(not_supported(call)),
        },
        (Some(_), _) if call.resource.is_custom() => Err(call.not_found()),
        (Some(_), _) => Err(ApiError::no_such_resource()),
    }
}

/// Answers a request for a subresource that has the form of its object.
fn part(call: &Call, verb: Verb, part: Part) -> Result<Response<Body>, ApiError> {
    match verb {
        Verb::Get => read::get(call),
        Verb::Update => write::replace(call, part),
        Verb::Patch => write::patch(call, part),
        _ => Err(not_supported(call)),
    }
}

fn main(call: &Call) -> Result<Response<Body>, ApiError> {
    let verb = call.verb;
    if !call.resource.verbs().contains(&verb) || (verb == Verb::Create && call.target.name.is_some()) {
        return Err(ApiError::method_not_allowed());
    }
    match verb {
        Verb::Create if let Some(review) = review::of(&call.resource.storage) => review(call),
        Verb::Get => read::get(call),
        Verb::List => pages::list(call),
        Verb::Watch => read::watch(call),
        Verb::Create => write::create(call),
        Verb::Update => write::replace(call, Part::Main),
        Verb::Patch => write::patch(call, Part::Main),
        Verb::Delete => delete::one(call),
        Verb::DeleteCollection => delete::collection(call),
    }
}

/// Whether the path has a namespace exactly if the kind has one. Lists and watches of all namespaces need none.
fn is_in_place(call: &Call) -> bool {
    let all = call.target.name.is_none() && matches!(call.verb, Verb::List | Verb::Watch);
    let in_namespace = call.target.namespace.is_some();
    let has_objects = call.target.name.is_none() || call.resource.verbs().contains(&Verb::Get);
    has_objects && (call.resource.namespaced == in_namespace || (call.resource.namespaced && all))
}

/// The answer to a path whose namespace does not fit the kind.
fn not_there(call: &Call) -> Result<Response<Body>, ApiError> {
    let Target { name, namespace, .. } = &call.target;
    if call.resource.is_custom() {
        Ok(answer::not_served())
    } else if name.is_none() && namespace.is_none() {
        // The collection of all namespaces can only be listed and watched.
        Err(ApiError::method_not_allowed())
    } else {
        Err(ApiError::no_such_resource())
    }
}

fn not_supported(call: &Call) -> ApiError {
    if call.resource.is_custom() {
        ApiError::not_supported(&call.resource.about(""), call.verb.as_str())
    } else {
        ApiError::method_not_allowed()
    }
}
