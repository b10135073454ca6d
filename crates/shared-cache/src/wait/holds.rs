//! [`Holds`]: reserves an object for one of several actions that exclude each other.
//!
//! A caller that is about to write an object takes a hold first, so that no other caller prepares another action
//! meanwhile. Any number of holds of one action may exist at once; another action is rejected until all are released.

use std::collections::HashMap;
use std::sync::Arc;

use super::sync::Mutex;

/// Names of objects by side `S` and the number of holds.
pub(crate) struct Holds<S> {
    held: Mutex<HashMap<String, (S, usize)>>,
}

/// A hold. Dropping it releases it, once.
#[must_use]
pub(crate) struct Hold<S: Copy + Eq> {
    holds: Arc<Holds<S>>,
    object: String,
}

impl<S: Copy + Eq> Holds<S> {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(HashMap::new()) }
    }

    /// Takes a hold of a side on an object, named by its UID; the other side's name if that is held.
    pub(crate) fn acquire(self: &Arc<Self>, object: String, side: S) -> Result<Hold<S>, S> {
        let mut held = self.held.lock();
        let (holder, count) = held.entry(object.clone()).or_insert((side, 0));
        if *holder != side {
            return Err(*holder);
        }
        *count += 1;
        drop(held);
        Ok(Hold { holds: Arc::clone(self), object })
    }

    /// Number of objects that are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.held.lock().len()
    }
}

impl<S: Copy + Eq> Drop for Hold<S> {
    fn drop(&mut self) {
        let mut held = self.holds.held.lock();
        if let Some((_, count)) = held.get_mut(&self.object) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.object);
            }
        }
    }
}
