//! Faults on demand: a [`FaultPlan`] says which requests and events go wrong, and how.
//!
//! A plan is a value. It prints what it holds, and one made by [`FaultPlan::random`] can be made again from
//! its seed, so that what it broke can be broken again. Faults of a plan count by themselves: the *n*-th request
//! that a trigger matches is counted since the plan was injected.

mod plan;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::Response;
use parking_lot::RwLock;

pub use plan::{Fault, FaultPlan, On, RequestFault, Times, WatchFault};

use super::error::ApiError;
use super::request::{Target, Verb};
use super::server::Server;
use super::store::Stored;

/// Why a request gets no answer that it asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It is refused.
    Refused(ApiError),
    /// Its connection ends without a word.
    Dropped,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for io::Error {
    fn from(_: Failure) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, "connection dropped")
    }
}

/// The faults that are in force.
#[derive(Default)]
pub(crate) struct Faults {
    active: RwLock<Vec<Arc<Active>>>,
}

/// A fault and how often its trigger has matched.
struct Active {
    fault: Fault,
    matched: AtomicU64,
    fired: AtomicU64,
}

impl Active {
    /// Counts a match; whether it is one at which the fault happens.
    fn fires(&self, times: &Times) -> bool {
        let number = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        let fires = times.include(number);
        self.fired.fetch_add(u64::from(fires), Ordering::Relaxed);
        fires
    }
}

impl Faults {
    pub(crate) fn inject(&self, plan: &FaultPlan) {
        let new = plan.faults.iter().map(|fault| {
            Arc::new(Active { fault: fault.clone(), matched: AtomicU64::new(0), fired: AtomicU64::new(0) })
        });
        self.active.write().extend(new);
    }

    pub(crate) fn clear(&self) {
        self.active.write().clear();
    }

    /// Each fault in force and how often it has happened.
    pub(crate) fn fired(&self) -> Vec<(Fault, u64)> {
        let fired = |active: &Arc<Active>| (active.fault.clone(), active.fired.load(Ordering::Relaxed));
        self.active.read().iter().map(fired).collect()
    }

    /// What is to happen to a request.
    pub(crate) fn on_request(&self, verb: Option<Verb>, target: &Target) -> Interference {
        let mut interference = Interference::default();
        let active = self.active.read();
        for active in active.iter() {
            let Fault::Request { on, times, then } = &active.fault else { continue };
            if on.is_request(verb, target) && active.fires(times) {
                interference.0.push(then.clone());
            }
        }
        interference
    }

    /// What is to happen to an event on its way to one watch.
    pub(crate) fn on_event(&self, plural: &str, stored: &Stored) -> Option<WatchFault> {
        let active = self.active.read();
        let mut first = None;
        for active in active.iter() {
            let Fault::Event { on, times, then } = &active.fault else { continue };
            if on.is_event(plural, stored) && active.fires(times) {
                first.get_or_insert_with(|| then.clone());
            }
        }
        first
    }
}

/// What happens to one request, in the order of the plan.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interference(Vec<RequestFault>);

impl Interference {
    /// What happens before anything is done.
    pub(crate) async fn before(&self, server: &Server) -> Result<(), Failure> {
        for fault in &self.0 {
            match fault {
                RequestFault::Delay(delay) => tokio::time::sleep(*delay).await,
                RequestFault::Answer { code, retry_after } => {
                    return Err(ApiError::of_code(*code, *retry_after).into());
                }
                RequestFault::Drop => return Err(Failure::Dropped),
                RequestFault::Silence => {
                    // Until connections are cut, as by a restart.
                    let _ = server.cuts().changed().await;
                    return Err(Failure::Dropped);
                }
                RequestFault::DropAnswer
                | RequestFault::OldList { .. }
                | RequestFault::NoBookmarks
                | RequestFault::CutAfter(_) => {}
            }
        }
        Ok(())
    }

    /// What becomes of an answer.
    pub(crate) fn after(&self, answer: Response<Body>) -> Result<Response<Body>, Failure> {
        let dropped = self.0.iter().any(|fault| matches!(fault, RequestFault::DropAnswer));
        if dropped { Err(Failure::Dropped) } else { Ok(answer) }
    }

    /// The revision that a list is served from instead of the newest one.
    pub(crate) fn list_revision(&self, newest: u64) -> Option<u64> {
        self.0.iter().find_map(|fault| match fault {
            RequestFault::OldList { behind } => Some(newest.saturating_sub(*behind).max(1)),
            _ => None,
        })
    }

    /// Whether a watch is to send no bookmarks.
    pub(crate) fn withholds_bookmarks(&self) -> bool {
        self.0.iter().any(|fault| matches!(fault, RequestFault::NoBookmarks))
    }

    /// After which time a watch is cut off.
    pub(crate) fn cut_after(&self) -> Option<Duration> {
        self.0.iter().find_map(|fault| match fault {
            RequestFault::CutAfter(time) => Some(*time),
            _ => None,
        })
    }
}
