//! The end of a namespace: the objects in it are deleted, and then the namespace itself.

use std::sync::Arc;

use serde_json::json;

use super::PAGE;
use super::tasks::Task;
use super::writes::Lifecycle;
use crate::deletion::PODS;
use crate::store::{Key, Location, NAMESPACES, Range};

impl Lifecycle<'_> {
    /// Deletes the next page of the objects in a namespace.
    pub(super) fn drain(&mut self, namespace: &Arc<str>, after: Option<&Location>) {
        let mut storages = self.state.store.storages();
        storages.sort_unstable();
        let next = storages.iter().skip_while(|storage| after.is_some_and(|after| **storage < after.storage));
        for storage in next {
            let after = after.filter(|after| after.storage == *storage).map(|after| &after.key);
            let page = self.state.store.page(storage, &Range { namespace: Some(namespace), after }, PAGE);
            let Some(last) = page.last() else { continue };
            for object in &page {
                // Without a kubelet, the grace period of a Pod ends with its namespace.
                let never_ends = &**storage == PODS && !self.state.controllers.ends_pods;
                if !object.deleting || never_ends {
                    self.remove(&Location { storage: Arc::clone(storage), key: object.key.clone() });
                }
            }
            let last = Location { storage: Arc::clone(storage), key: last.key.clone() };
            return self.tasks.push(Task::Drain(Arc::clone(namespace), Some(last)));
        }
        self.tasks.push(Task::FinishNamespace(Arc::clone(namespace)));
    }

    /// Lets a namespace go that holds no object.
    pub(super) fn finish_namespace(&mut self, namespace: &Arc<str>) {
        if self.state.store.is_empty_namespace(namespace) {
            let location = Location { storage: NAMESPACES.into(), key: Key::new("", namespace) };
            self.edit(&location, |namespace| namespace["spec"]["finalizers"] = json!([]));
        }
    }
}
