//! [`Store`]: the objects of one kind and their indexes. Rule numbers refer to docs/behaviours.md.

mod audit;
mod hidden;
mod inner;
mod keyed_slab;
mod members;
mod partition;
mod postings;
mod sharded_lock;
mod slots;
mod store;
mod sync;
mod thread_number;
mod tombstones;
mod transitions;
mod view;

#[cfg(test)]
mod sharded_lock_tests;
#[cfg(test)]
mod user_code_tests;

pub(crate) use audit::KnownVersion;
pub(crate) use inner::Change;
pub(crate) use keyed_slab::{Keyed, KeyedSlab};
pub(crate) use members::Filter;
pub(crate) use partition::Partition;
pub(crate) use slots::Slot;
pub(crate) use store::Store;
pub(crate) use thread_number::thread_number;
pub(crate) use view::{View, in_predicate};
