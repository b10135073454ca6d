//! [`Holds`]: reserves an object for one of several actions that exclude each other.
//!
//! A caller that will write an object takes a hold first, so that no other caller prepares another action
//! meanwhile. Any number of holds of one action may exist at once. Another action is rejected until all holds
//! are released.

use std::collections::HashMap;
use std::sync::Arc;

use super::sync::Mutex;

/// The side `S` and the number of holds of each held object, by name.
pub(crate) struct Holds<S> {
    held: Mutex<HashMap<String, (S, usize)>>,
}

/// A hold on an object. Dropping the hold releases it once.
#[must_use]
pub(crate) struct Hold<S: Copy + Eq> {
    holds: Arc<Holds<S>>,
    object: String,
}

impl<S: Copy + Eq> Holds<S> {
    pub(crate) fn new() -> Self {
        Self { held: Mutex::new(HashMap::new()) }
    }

    /// Takes a hold of a side on an object, named by its UID. Returns the other side as the error if that
    /// side holds the object.
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

    /// Returns the number of held objects.
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
