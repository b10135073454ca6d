//! [`Store`]: the objects of one kind and their indexes. Rule numbers refer to docs/behaviours.md.

mod keyed_slab;
mod postings;
mod store;
mod tombstones;

pub(crate) use keyed_slab::{Keyed, KeyedSlab, Slot};
pub(crate) use store::Store;
pub(crate) use store::{Change, Partition, View, in_predicate};
