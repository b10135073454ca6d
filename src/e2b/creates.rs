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
    pub(super) idempotency: Idempotency,
    /// Number of creates under way by key, so that a burst cannot pass a quota.
    by_key: Arc<Mutex<HashMap<String, i64>>>,
}

impl Creates {
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(most)),
            idempotency: Idempotency::default(),
            by_key: Arc::default(),
        }
    }

    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.slots.clone().try_acquire_owned().map_err(|_| {
            ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many sandboxes are being created")
                .retry(Retry::After(1))
        })
    }

    /// Counts a create of a key until the result is dropped.
    pub(super) fn count(&self, key_id: &str) -> (i64, Counted) {
        let mut by_key = self.by_key.lock();
        let count = by_key.entry(key_id.to_owned()).or_default();
        *count += 1;
        (*count, Counted { by_key: Arc::clone(&self.by_key), key_id: key_id.to_owned() })
    }
}

/// A create that is counted.
pub(super) struct Counted {
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
        let creates = Creates::new(1);
        let (first, one) = creates.count("k");
        let (second, two) = creates.count("k");
        assert_eq!((first, second), (1, 2));
        drop((one, two));
        assert!(creates.by_key.lock().is_empty());
        let slot = creates.slot().unwrap();
        assert_eq!(creates.slot().unwrap_err().status(), StatusCode::TOO_MANY_REQUESTS);
        drop(slot);
        drop(creates.slot().unwrap());
    }
}
