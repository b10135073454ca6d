//! Follows up a write: definitions are served, dependents go with their owners, namespaces drain.
//!
//! In a cluster, several controllers do this some time later. Here it is done before the write is answered, so that no
//! client has to wait for it. Tasks are queued and carried out one after another, so that a long chain of owners needs
//! no deep stack, and many objects are deleted by pages, so that few of them are in memory twice.

mod definitions;
mod garbage;
mod namespaces;
mod owners;
mod run;
mod tasks;
#[cfg(test)]
mod tests;
mod writes;

pub(crate) use run::{after_write, check_owners, put, remove_now};

/// Objects that one task deletes. What follows from their deletion is done before the next page.
const PAGE: usize = 256;
