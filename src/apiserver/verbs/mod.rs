//! What is done with a request for a resource, by its verb.

mod admit;
mod decode;
mod delete;
mod read;
mod review;
mod scale;
mod write;

use axum::body::Body;
use http::Response;

use super::error::ApiError;
use super::request::Verb;
use super::server::Call;

/// The part of an object that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The object itself.
    Main,
    /// Its status.
    Status,
    /// The number of replicas.
    Scale,
    /// The object with its status, which no request can write.
    Whole,
}

pub(crate) use write::load;

/// Answers a request for a resource that is served.
pub(crate) fn answer(call: Call) -> Result<Response<Body>, ApiError> {
    check_place(&call)?;
    let subresource = call.target.subresource.clone();
    match (subresource.as_deref(), call.verb) {
        (None, verb) => main(call, verb),
        (Some("status"), Verb::Get) if call.resource.status => read::get(&call),
        (Some("status"), Verb::Update) if call.resource.status => write::replace(&call, Part::Status),
        (Some("status"), Verb::Patch) if call.resource.status => write::patch(&call, Part::Status),
        (Some("scale"), verb) if call.resource.scale.is_some() => scale::answer(&call, verb),
        (Some("status" | "scale"), Verb::Create | Verb::Delete) => Err(ApiError::method_not_allowed()),
        (Some(_), _) => Err(ApiError::no_such_resource()),
    }
}

fn main(call: Call, verb: Verb) -> Result<Response<Body>, ApiError> {
    if &*call.resource.storage == review::STORAGE {
        return if verb == Verb::Create {
            review::create(&call)
        } else {
            Err(ApiError::method_not_allowed())
        };
    }
    match verb {
        Verb::Get => read::get(&call),
        Verb::List => read::list(&call),
        Verb::Watch => read::watch(call),
        Verb::Create if call.target.name.is_none() => write::create(&call),
        Verb::Create => Err(ApiError::method_not_allowed()),
        Verb::Update => write::replace(&call, Part::Main),
        Verb::Patch => write::patch(&call, Part::Main),
        Verb::Delete => delete::one(&call),
        Verb::DeleteCollection => delete::collection(&call),
    }
}

/// Whether the path has a namespace where, and only where, the kind has one.
fn check_place(call: &Call) -> Result<(), ApiError> {
    let single = call.target.name.is_some() || call.verb == Verb::Create;
    match (call.resource.namespaced, &call.target.namespace) {
        (false, Some(_)) => Err(ApiError::no_such_resource()),
        (true, None) if single => Err(ApiError::no_such_resource()),
        _ => Ok(()),
    }
}
