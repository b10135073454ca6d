//! [`Store`]: the objects of one kind and their indexes. Rule numbers refer to docs/behaviours.md.

mod hidden;
mod inner;
mod keyed_slab;
mod partition;
mod postings;
mod store;
mod tombstones;
mod view;

pub(crate) use inner::Change;
pub(crate) use keyed_slab::{Keyed, KeyedSlab, Slot};
pub(crate) use partition::Partition;
pub(crate) use store::Store;
pub(crate) use view::{View, in_predicate};
