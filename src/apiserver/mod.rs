//! An in-memory Kubernetes API server, for `sandbox-manager dev` and for tests without a cluster.
//!
//! A faithful subset: where it answers at all, it answers as kube-apiserver does, which one black-box test suite
//! holds on both. What it has besides is faults on demand.
//!
//! ```text
//!  kube::Client (no socket) ─┐                       ┌─▶ Schema    defaults, pruning, validation
//!                            ├─▶ request ─▶ verbs ───┼─▶ patch     JSON, merge, strategic, apply
//!  kubectl (TCP, loopback) ──┘      │                └─▶ Store     objects, events, one revision
//!                                 Faults                   └─▶ watches
//! ```
//!
//! Objects are kept as JSON text and are typed only at the edges. Everything is in memory and bounded. Imports
//! `api` and `options` (for label selectors) and nothing else of the crate.

mod error;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "called by the request handlers"))]
mod fields;
mod go_format;
mod object;
#[cfg_attr(not(test), expect(dead_code, reason = "called by the request handlers"))]
mod patch;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "called by the request handlers"))]
mod schema;
#[cfg_attr(not(test), expect(dead_code, reason = "called by the request handlers"))]
mod selector;
#[cfg_attr(not(test), expect(dead_code, reason = "called by the request handlers"))]
mod table;
