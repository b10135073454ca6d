//! Keeps every agent sandbox of a Kubernetes cluster in one shared, indexed, watch-driven cache, and runs
//! controllers on it.
//!
//! The `sandbox-manager` binary is this library with handlers that keep metrics of all sandboxes. A program of your own
//! links the library, adds its handlers, and looks up sandboxes in memory: by id, by pool, by user.
//!
//! # Data flow
//!
//! ```text
//!                  list + watch, one a kind
//!  kube-apiserver ──────────────────────────▶ Informer<K> ──▶ Store<K>   objects and indexes
//!                                                  │              ▲
//!                                                  │ changes      │ reads, no I/O
//!                                                  ▼              ├──── Reader<K>    any kind, any index
//!                                             WorkQueue<K>        └──── Provider     the questions above
//!                                                  │ one entry a key
//!                                                  ▼
//!                                            Controller<K> ──▶ your ReconcileHandlers, in order
//!
//!  /livez  /healthz  /readyz  ◀── the health of every watch          /metrics  ◀── all of the above
//! ```
//!
//! Data flows one way. An informer knows no controller, and a controller never writes into a store. Each kind has one
//! watch, however many readers it has.
//!
//! # Quick start
//!
//! A program with the flags, files and exit codes of the binary, and a handler of its own:
//!
//! ```no_run
//! use sandbox_manager::api::v1alpha1::Sandbox;
//! use sandbox_manager::{Action, Observed};
//!
//! fn main() -> std::process::ExitCode {
//!     sandbox_manager::main(|manager| {
//!         manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
//!             match &observed {
//!                 Observed::Present(sandbox) => println!("{}: {:?}", observed.key(), sandbox.phase()),
//!                 Observed::Deleted { key, reason, .. } => println!("{key}: {reason}"),
//!             }
//!             Ok(Action::await_change())
//!         });
//!     })
//! }
//! ```
//!
//! Lookups alone need no manager. [`SharedCache::start`](shared_cache::SharedCache::start) returns once every kind is
//! synced:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use sandbox_manager::api::v1alpha1::Sandbox;
//! use sandbox_manager::cache::{GetClaimedSandboxOptions, indexes};
//! use sandbox_manager::{Cache, Provider as _};
//!
//! let cache = Cache::builder(kube::Client::try_default().await?).build();
//! cache.start().await?;
//!
//! let by_id = GetClaimedSandboxOptions { sandbox_id: "default--my-sandbox", ..Default::default() };
//! let mine = cache.get_claimed_sandbox(by_id)?;
//! // The first ready member of a pool; nothing else is copied.
//! let free = cache.reader::<Sandbox>().find(indexes::SANDBOX_POOL, "code-interpreter", Sandbox::is_ready)?;
//! println!("{:?} {:?}", mine.status, free.map(|sandbox| sandbox.metadata.name.clone()));
//!
//! cache.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/custom_handler.rs` is a whole program.
//!
//! # Dependencies
//!
//! The public API contains types of [`kube`] 5 and [`k8s_openapi`] 0.29: depend on the same major versions, and leave
//! kube's `default-features` off unless you want a second TLS stack. The library runs on a multi-threaded tokio runtime.
//! The cache needs `list` and `watch` of each kind in its scope; live reads, and waits during an outage, also need `get`.
//! A missing permission is named in `/readyz?verbose` of the [`Manager`], and in the error of a start.
//!
//! # Where to begin
//!
//! | You want to | Begin with |
//! |---|---|
//! | react to changes and deletions | [`ReconcileHandler`], then [`main`] or [`Manager::builder`] |
//! | find sandboxes by id, owner or pool | [`Provider`] |
//! | find any cached object, by any index | [`Reader`] and [`cache::indexes`] |
//! | receive every change as a stream | [`SharedCache::subscribe`](shared_cache::SharedCache::subscribe) |
//! | wait until a sandbox is ready, paused or resumed | [`Provider::sandbox_wait_ready_task`] |
//! | wait for anything else | [`SharedCache::wait_for`](shared_cache::SharedCache::wait_for), [`SharedCache::wait_until`](shared_cache::SharedCache::wait_until) |
//! | change an object that you have read | [`SharedCache::patch`](shared_cache::SharedCache::patch) |
//! | read your own writes | [`SharedCache::expect`](shared_cache::SharedCache::expect), [`SandboxCache::refresh_sandbox`] |
//! | know what a sandbox is doing | [`Sandbox::state`](api::v1alpha1::Sandbox::state) |
//! | read options from a file, variables and flags | [`SandboxManagerOptions`] |
//!
//! In the repository, `docs/embedding.md` explains these one by one, and `docs/migration.md` lists the names of the Go
//! package beside those here.
//!
//! # Modules and crates
//!
//! A module uses only those below it in this table.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`cli`] | the command line of the binary |
//! | [`e2b`] | the HTTP API that the E2B SDKs speak; off by default |
//! | [`lifecycle`] | the controllers that turn sandboxes into pods; off by default |
//! | [`claims`] | [`claims::Claims`]: takes sandboxes out of pools for users, pauses, resumes and releases them |
//! | [`manager`] | [`Manager`]: the cache, the controllers and the listeners as the options describe them |
//! | [`options`] | [`SandboxManagerOptions`]: read from a file, variables and flags, and validated |
//! | [`cache`] | [`SandboxCache`]: the kinds, their indexes, their scope; [`Provider`] and the waits |
//! | [`api`] | the custom resources, and what their fields say about the state of a sandbox |
//!
//! With the features of these names:
//!
//! | Module | What it holds |
//! |---|---|
//! | `dev` | everything on one machine without a cluster; on by default |
//! | `testing` | [`SandboxCache`] on an API server in memory, and objects, for your own tests |
//!
//! The machinery is in crates that know no sandbox and can be used for any kind: [`shared_cache`] (informers, store,
//! lookups, waits), [`controller_manager`] (work queue, controllers, manager, client), `memory-apiserver` (the API server
//! in memory) and `label-selector`. The first two are re-exported here.

#[macro_use]
pub mod api;
mod blueprint;
pub mod cache;
pub mod claims;
pub mod cli;
#[cfg(feature = "dev")]
pub mod dev;
pub mod e2b;
pub mod lifecycle;
pub mod manager;
pub mod options;
#[cfg(feature = "testing")]
pub mod testing;
mod version;

pub use cache::{Cache, Provider, Reader, SandboxCache};
pub use cli::main;
pub use controller_manager::{self, Action, Controller, Observed, ReconcileHandler, signals, telemetry};
pub use manager::Manager;
pub use options::SandboxManagerOptions;
pub use shared_cache;

/// Compiles the README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the examples of the guide to the library.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

/// Compiles the examples of the guide for users of the Go package.
#[cfg(doctest)]
#[doc = include_str!("../docs/migration.md")]
struct Migration;
