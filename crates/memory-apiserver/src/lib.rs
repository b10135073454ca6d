#![doc = include_str!("../README.md")]

mod access;
mod answer;
mod api_server;
mod bootstrap;
mod builder;
mod builtin;
mod call;
mod clock;
mod conversion;
mod crds;
mod deletion;
mod discovery;
mod error;
mod events;
mod faults;
mod fields;
mod filter;
mod form;
#[cfg(test)]
mod fuzz;
mod go_format;
#[cfg(test)]
mod harness;
mod interfere;
mod kubelet;
mod lifecycle;
mod load;
mod metadata;
mod names;
mod object;
mod openapi;
mod openapi_v2;
mod patch;
mod protobuf;
mod registry;
mod request;
mod requests;
mod resource;
mod router;
mod schema;
mod selector;
#[cfg(feature = "__serve")]
mod serve;
mod served;
#[cfg(feature = "__serve")]
mod serving;
mod state;
mod store;
mod table;
#[cfg(feature = "__serve")]
mod tls;
mod verbs;
mod watch;

pub use api_server::{ApiServer, RewindError};
pub use builder::{ApiServerBuilder, BuildError};
pub use faults::{Fault, FaultPlan, On, RequestFault, Times, WatchFault};
pub use jiff::Timestamp;
pub use kubelet::{Kubelet, PodOutcome, Pods};
pub use load::LoadError;
pub use request::Verb;
pub use requests::SeenRequest;
#[cfg(feature = "__serve")]
pub use serving::Serving;
