//! [`Claims`]: takes sandboxes out of pools for users, and pauses, resumes, extends and releases them.
//!
//! ```text
//!  watch of sandboxes ──▶ ReadyQueue, one per pool         ClaimRequest
//!                             │ next candidate, O(1)            │
//!                             ▼                                 ▼
//!                         lock: one patch with resourceVersion, which writes everything of the claim
//!                             │ 409: the next candidate         │ no stock: create, already claimed
//!                             ▼                                 ▼
//!                         ready? runtime initialised? ──▶ Claimed, or deleted again
//! ```
//!
//! This is the library: it serves no HTTP. The E2B server and the SandboxClaim controller use it.
//!
//! # Guarantees
//!
//! - No sandbox is given to two owners, however many processes claim. The lock carries the resource version of the
//!   candidate, so the API server accepts one lock only (Q5). Processes need not know one another.
//! - A claim is whole or not at all. One write makes a sandbox a claimed one: labels, annotations, times (Q2).
//! - A claim whose caller is gone is undone. Each claim runs in its own task. The result of a claim that nobody takes is
//!   deleted, and so is a sandbox that fails after its lock (Q4).
//! - A lock whose answer was lost is found by a live read of its value (Q2). A lock that the API server writes later than
//!   that is found by the watch, and undone.
//! - Of a caller that asks to [return when it is locked](ClaimRequest::return_when_locked), nothing is undone: that caller
//!   knows its sandboxes by what the lock says. The controller of `SandboxClaim`s is one. A lock whose answer is lost is
//!   returned to it, and no other sandbox is tried until the caller asks for that.
//!
//! # Caveats
//!
//! - A process that is killed between the lock and its answer leaves an ordinary claim behind as it is: claimed by its
//!   owner, who sees the sandbox in lists, until its time is over. A claim that needs more steps than the lock carries the
//!   annotation [`ANNOTATION_CLAIM_UNFINISHED_UNTIL`], and the [sweep](Claims::sweeper) removes it.
//!
//! Rule numbers Q refer to docs/claims.md.

mod add;
mod catch_up;
mod change;
mod claimed;
mod claiming;
mod claims;
mod deadline;
mod engine;
mod error;
mod joint_resume;
mod keyed;
mod lock;
mod lookup;
mod lost;
mod mark;
mod member;
mod metrics;
mod pause;
mod per_second;
mod ready_queue;
mod recent;
mod release;
mod request;
mod resume;
mod runtime;
mod sweep;
mod target;
mod timeout;
mod undo;
mod unfinished;
#[cfg(test)]
mod unsent_tests;
mod write;

pub use add::add;
pub use claimed::{Claimed, Connected, LockType};
pub use claims::{Claims, ClaimsBuilder};
pub use deadline::{TimeoutChange, ends_at};
pub use error::{ClaimError, ConflictReason, Step, WriteOutcome};
pub use keyed::ANNOTATION_IDEMPOTENCY_KEY;
pub use lost::{Fate, LostLock};
pub(crate) use ready_queue::is_claimable;
pub use request::{ClaimRequest, Retention, RuntimeInit};
pub(crate) use runtime::{clear_pending, gave_up, pause_after, pending_init, try_initialise};
pub use sweep::Sweeper;
pub use target::Target;

pub use crate::api::v1alpha1::ANNOTATION_CLAIM_UNFINISHED_UNTIL;
