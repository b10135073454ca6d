//! [`Creates`]: the creates that are under way in this process, and their limits.

use std::collections::HashMap;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::{ApiError, Retry};
use super::idempotency::Idempotency;

/// The creates that are under way in this process, and their limits.
pub(super) struct Creates {
    slots: Arc<Semaphore>,
    most_per_key: i64,
    pub(super) idempotency: Idempotency,
    /// Number of creates under way by key, so that a burst cannot pass a quota, and no key takes the slots of all others.
    by_key: Arc<Mutex<HashMap<String, i64>>>,
}

impl Creates {
    /// Allows so many at the same time, and so many of one key.
    pub(super) fn new(most: usize, most_per_key: u16) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most)),
            most_per_key: most_per_key.into(),
            idempotency: Idempotency::default(),
            by_key: Arc::default(),
        }
    }

    /// Begins a create of a key. It ends when the result is dropped.
    ///
    /// # Errors
    ///
    /// 429 if there are too many, of this key or of all keys. Nothing was done then.
    pub(super) fn begin(&self, key_id: &str) -> Result<Begun, ApiError> {
        let counted = self.count(key_id);
        if counted.number > self.most_per_key {
            return Err(too_many("too many sandboxes are being created with this API key"));
        }
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| too_many("too many sandboxes are being created"))?;
        Ok(Begun { _slot: slot, counted })
    }

    fn count(&self, key_id: &str) -> Counted {
        let mut by_key = self.by_key.lock();
        let count = by_key.entry(key_id.to_owned()).or_default();
        *count += 1;
        Counted { number: *count, by_key: Arc::clone(&self.by_key), key_id: key_id.to_owned() }
    }
}

fn too_many(text: &str) -> ApiError {
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).retry(Retry::After(1))
}

/// A create that is under way.
pub(super) struct Begun {
    _slot: OwnedSemaphorePermit,
    counted: Counted,
}

impl Begun {
    /// Returns the number of creates of this key that were under way when this one began, with itself.
    pub(super) fn underway(&self) -> i64 {
        self.counted.number
    }
}

/// A create that is counted.
struct Counted {
    number: i64,
    by_key: Arc<Mutex<HashMap<String, i64>>>,
    key_id: String,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_key = self.by_key.lock();
        if let Some(count) = by_key.get_mut(&self.key_id) {
            *count -= 1;
            if *count <= 0 {
                by_key.remove(&self.key_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_of_a_key_are_counted_while_they_are_under_way() {
        let creates = Creates::new(2, 9);
        let (one, two) = (creates.begin("k").unwrap(), creates.begin("k").unwrap());
        assert_eq!((one.underway(), two.underway()), (1, 2));
        drop((one, two));
        assert!(creates.by_key.lock().is_empty());
    }

    #[test]
    fn neither_one_key_nor_all_begin_more_than_their_limits() {
        let creates = Creates::new(3, 2);
        let refused = |key| creates.begin(key).err();
        let begun = [creates.begin("a").unwrap(), creates.begin("a").unwrap()];
        assert_eq!(refused("a"), Some(too_many("too many sandboxes are being created with this API key")));
        let last = creates.begin("b").unwrap();
        assert_eq!(refused("c"), Some(too_many("too many sandboxes are being created")));
        drop(begun);
        assert_eq!(creates.begin("a").unwrap().underway(), 1, "a refused create is not counted");
        drop(last);
        assert!(creates.by_key.lock().is_empty());
    }
}
