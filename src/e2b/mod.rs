//! The E2B API: an HTTP face of the [claim engine](crate::claims), which the official SDKs speak. Off by default.
//!
//! ```text
//!  E2B SDK ──HTTP──▶ frame: request id, key, limits, log ──▶ route ──▶ create, sandboxes, templates, admin
//!                                                                          │             │
//!                                                                       claims         cache
//! ```
//!
//! | File | What it holds |
//! |---|---|
//! | `frame.rs` | what every request goes through |
//! | `route.rs` | the table of endpoints |
//! | `dispatch.rs`, `api.rs` | the choice of the operation, and what a request needs |
//! | `create.rs`, `sandboxes.rs`, `templates.rs`, `admin.rs` | the operations |
//! | `view.rs`, `types.rs`, `list.rs`, `metadata.rs`, `query.rs` | pure: objects and queries on the wire |
//! | `errors.rs`, `failures.rs` | every error in the form that the SDKs read |
//! | `keys.rs`, `key.rs`, `entry.rs`, `store.rs` | API keys: who calls, their text, their Secret |
//! | `first_key.rs` | the first key of an installation |
//! | `creates.rs`, `idempotency.rs` | the creates that are under way; repeated creates |
//! | `openapi.rs`, `metrics.rs` | the document of the API, its metrics |
//! | `server.rs`, `tls.rs` | adds the API to a manager |
//!
//! # Guarantees
//!
//! - Every answer with a body is JSON, and every error has `code` and `message`.
//! - A sandbox of another key is answered exactly as one that does not exist. A team is a namespace; the owner of a sandbox
//!   is a key.
//! - An answer asks for a repetition (`Should-Retry: true`) only if nothing was done.
//! - A key with a quota or an end manages no keys, and no metadata passes a limit of the operator.
//! - No key, token, environment variable or metadata is logged or is a label of a metric.
//! - Every input has a limit: head, body, time, number of creates at once, length of a page.
//!
//! # Caveats
//!
//! - Two creates with one `Idempotency-Key` that reach two replicas within the time of one write may both create a sandbox.
//! - Keys are in clear in their Secret, as OpenKruise Agents has them. Who can read that Secret can use every key.

mod admin;
mod api;
mod create;
mod creates;
mod dispatch;
mod entry;
mod errors;
mod failures;
mod first_key;
mod frame;
#[cfg(test)]
mod frame_tests;
mod idempotency;
mod key;
mod keys;
mod list;
mod metadata;
mod metrics;
mod openapi;
mod query;
mod route;
mod sandboxes;
mod server;
mod store;
mod templates;
mod tls;
mod types;
mod view;

pub use self::entry::{ADMIN_TEAM, NewEntry};
pub use self::first_key::FIRST_KEY;
pub use self::server::{E2bError, LISTENER, add};
pub use self::store::{AddedKey, KeyInfo, KeyStore, KeyStoreError};
pub use self::tls::TlsError;
