//! What the health endpoints say: one check for each watch, and one for the process itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cache::{Cache, CachedObject};
use crate::http::{Check, DebugDump, DebugItem, DebugSource, HealthSource};

/// The health of a manager: alive as long as it answers, ready while every watch is fresh and no shutdown has
/// begun.
pub(super) struct ManagerHealth {
    cache: Cache,
    shutting_down: AtomicBool,
}

impl ManagerHealth {
    pub(super) fn new(cache: Cache) -> Arc<Self> {
        Arc::new(Self { cache, shutting_down: AtomicBool::new(false) })
    }

    /// From here on the process is not ready any more.
    pub(super) fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Release);
    }

    /// Name and problem of each check that fails now.
    pub(super) fn problems(&self) -> Vec<(String, String)> {
        self.ready().into_iter().filter_map(|check| Some((check.name, check.result.err()?))).collect()
    }
}

fn ping() -> Check {
    Check { name: "ping".into(), result: Ok(()) }
}

impl HealthSource for ManagerHealth {
    fn live(&self) -> Vec<Check> {
        vec![ping()]
    }

    fn ready(&self) -> Vec<Check> {
        let shutdown = if self.shutting_down.load(Ordering::Acquire) {
            Err("the process is shutting down".to_owned())
        } else {
            Ok(())
        };
        let watches = self
            .cache
            .kinds()
            .into_iter()
            .map(|kind| Check { name: format!("informer/{}", kind.plural()), result: kind.report().ready() });
        [ping(), Check { name: "shutdown".into(), result: shutdown }].into_iter().chain(watches).collect()
    }
}

/// What the cache holds, for comparison with the API server.
pub(super) struct CacheDump(pub(super) Cache);

impl DebugSource for CacheDump {
    fn plurals(&self) -> Vec<&'static str> {
        let plural = |plural| match plural {
            std::borrow::Cow::Borrowed(plural) => plural,
            std::borrow::Cow::Owned(_) => "",
        };
        self.0.kinds().into_iter().map(|kind| plural(kind.plural())).collect()
    }

    fn dump(&self, plural: &str) -> Option<DebugDump> {
        let kind = self.0.kinds().into_iter().find(|kind| kind.plural() == plural)?;
        Some(DebugDump {
            kind: kind.kind().into_owned(),
            resource_version: kind.version().to_string(),
            items: kind.dump().into_iter().map(item).collect(),
        })
    }
}

fn item(object: CachedObject) -> DebugItem {
    let CachedObject { namespace, name, uid, resource_version, indexes } = object;
    let indexes = indexes.into_iter().map(|(index, values)| (index.to_owned(), values)).collect();
    DebugItem { namespace, name, uid, resource_version, indexes }
}
