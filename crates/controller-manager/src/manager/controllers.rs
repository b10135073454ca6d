//! [`Controllers`]: the controllers of a manager, whatever their kinds.

use std::any::Any;
use std::borrow::Cow;

use futures::FutureExt;
use futures::future::BoxFuture;
use shared_cache::CacheObject;
use tokio_util::sync::CancellationToken;

use super::error::ManagerError;
use crate::controller::{Controller, ControllerError};

/// A controller without its kind.
pub(super) trait ErasedController: Any + Send {
    fn name(&self) -> &str;
    fn kind(&self) -> Cow<'static, str>;
    fn has_handlers(&self) -> bool;
    fn is_leader_only(&self) -> bool;
    fn check(&self) -> Result<(), ControllerError>;
    fn run(
        self: Box<Self>,
        stop: CancellationToken,
        abort: CancellationToken,
    ) -> BoxFuture<'static, Result<(), ControllerError>>;
}

impl<K: CacheObject> ErasedController for Controller<K> {
    fn name(&self) -> &str {
        self.name()
    }

    fn kind(&self) -> Cow<'static, str> {
        K::kind(&())
    }

    fn has_handlers(&self) -> bool {
        self.has_handlers()
    }

    fn is_leader_only(&self) -> bool {
        self.is_leader_only()
    }

    fn check(&self) -> Result<(), ControllerError> {
        self.check()
    }

    fn run(
        self: Box<Self>,
        stop: CancellationToken,
        abort: CancellationToken,
    ) -> BoxFuture<'static, Result<(), ControllerError>> {
        self.run_until(stop, abort).boxed()
    }
}

/// Controllers in the order in which they were created.
#[derive(Default)]
pub(super) struct Controllers(Vec<Box<dyn ErasedController>>);

impl Controllers {
    /// The controller of a kind and a name; created if there is none.
    pub(super) fn get_or_create<K: CacheObject>(
        &mut self,
        name: &str,
        create: impl FnOnce() -> Controller<K>,
    ) -> &mut Controller<K> {
        let is_it = |controller: &dyn ErasedController| {
            let any: &dyn Any = controller;
            controller.name() == name && any.is::<Controller<K>>()
        };
        let position = self.0.iter().position(|controller| is_it(&**controller)).unwrap_or_else(|| {
            self.0.push(Box::new(create()));
            self.0.len() - 1
        });
        let any: &mut dyn Any = &mut *self.0[position];
        any.downcast_mut().expect("the controller at this position has this type")
    }

    /// Checks names and kinds.
    pub(super) fn check(&self) -> Result<(), ManagerError> {
        for (position, controller) in self.0.iter().enumerate() {
            if let Some(first) = self.0[..position].iter().find(|first| first.name() == controller.name()) {
                return Err(ManagerError::ControllerNameInUse {
                    name: controller.name().to_owned(),
                    first: first.kind(),
                    second: controller.kind(),
                });
            }
            controller.check()?;
        }
        Ok(())
    }

    /// The controllers that have something to do.
    pub(super) fn into_runnable(self) -> impl Iterator<Item = Box<dyn ErasedController>> {
        self.0.into_iter().filter(|controller| controller.has_handlers())
    }
}
