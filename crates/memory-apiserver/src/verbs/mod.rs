//! Processes a request for a resource, by its verb.

mod admit;
mod decode;
mod delete;
mod dispatch;
mod options;
mod pages;
mod read;
mod review;
mod scale;
mod write;
mod write_request;

pub(crate) use dispatch::answer;
pub(crate) use write::load;
