//! Keeps every agent sandbox of a Kubernetes cluster in one shared, indexed, watch-driven cache, and runs
//! controllers on it.
//!
//! The `sandbox-manager` binary is this library with handlers that keep metrics of the fleet. A program of your own
//! links the library, adds its handlers and asks its questions: which sandbox belongs to this id, which member of
//! this pool is free, what does this user have. Answers come from memory.
//!
//! # How data flows
//!
//! ```text
//!                  list + watch, one a kind
//!  kube-apiserver ──────────────────────────▶ Informer<K> ──▶ Store<K>   objects and indexes
//!                                                  │              ▲
//!                                                  │ what changed │ reads, no I/O
//!                                                  ▼              ├──── Reader<K>    any kind, any index
//!                                           Subscription<K>       └──── Provider     the questions above
//!                                                  │ one entry a key
//!                                                  ▼
//!                                            Controller<K> ──▶ your ReconcileHandlers, in order
//!
//!  /livez  /healthz  /readyz  ◀── the health of every watch          /metrics  ◀── all of the above
//! ```
//!
//! It flows one way. An informer knows no controller, a controller writes into no store, and however many read a
//! kind, there is one watch of it.
//!
//! # Quick start
//!
//! A handler, the manager, and a token that the first SIGTERM or SIGINT cancels:
//!
//! ```no_run
//! use sandbox_manager::api::v1alpha1::Sandbox;
//! use sandbox_manager::manager::shutdown;
//! use sandbox_manager::{Action, Manager, Observed, SandboxManagerOptions};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = kube::Client::try_default().await?;
//!     let options = SandboxManagerOptions {
//!         sandbox_namespace: "team-a".to_owned(),
//!         ..SandboxManagerOptions::default()
//!     };
//!     let mut manager = Manager::builder(options).client(client).build()?;
//!     manager.sandbox_controller().add_reconcile_handler(|observed: Observed<Sandbox>| async move {
//!         match &observed {
//!             Observed::Present(sandbox) => println!("{}: {:?}", observed.key(), sandbox.phase()),
//!             Observed::Deleted { key, .. } => println!("{key}: gone"),
//!         }
//!         Ok(Action::await_change())
//!     });
//!     manager.run(shutdown::signals()?).await?;
//!     Ok(())
//! }
//! ```
//!
//! Lookups alone need no manager. [`Cache::start`] returns once all is there to be looked up:
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
//! # Add it to a program
//!
//! Its interface speaks of [`kube`] 5 and [`k8s_openapi`] 0.29: depend on the same major versions, and leave kube's
//! `default-features` off unless a second TLS stack is wanted. It runs on a multi-threaded tokio runtime. The cache
//! needs `list` and `watch` of each kind in its scope, live reads and waits through an outage `get` besides; what the
//! API server refuses is named by [`Manager`] in `/readyz?verbose`, and by [`Cache::start`] in its error.
//!
//! # Where to begin
//!
//! | You want to | Begin with |
//! |---|---|
//! | react to changes and deletions | [`ReconcileHandler`], then [`Manager::builder`] |
//! | find sandboxes by id, owner or pool | [`Provider`] |
//! | find any cached object, by any index | [`Reader`] and [`cache::indexes`] |
//! | hear of every change as a stream | [`Cache::subscribe`] |
//! | wait until a sandbox is ready, paused or resumed | [`Provider::sandbox_wait_ready_task`] and [`wait`] |
//! | read your own writes | [`Cache::expect`], [`Cache::refresh_sandbox`], [`Cache::await_version`] |
//! | know what a sandbox is doing | [`Sandbox::state`](api::v1alpha1::Sandbox::state) |
//! | take options from a file, variables and flags | [`SandboxManagerOptions`] |
//!
//! In the repository, `docs/embedding.md` goes through these one by one, and `docs/migration.md` has the names of the
//! Go package beside those here.
//!
//! # Modules
//!
//! Imports point one way: in this table, a module uses only those below it.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`cli`] | the command line of the binary |
//! | [`manager`] | [`Manager`]: start order, shutdown, health, metrics of the fleet |
//! | [`controller`] | [`Controller`] calls each [`ReconcileHandler`] for what has changed |
//! | [`cache`] | [`Cache`]: the watched kinds, their indexes, [`Reader`] and [`Provider`] |
//! | [`wait`] | waiting until an object is as one wants it |
//! | [`informer`] | one list and watch of any kind, its store and its subscriptions |
//! | [`api`] | the custom resources, and what their fields say about a sandbox's state |
//! | [`client`] | the client of the API server: found, limited, counted |
//! | [`http`] | the listeners and what they serve |
//! | [`options`] | [`SandboxManagerOptions`]: read from a file, variables and flags, and checked |
//! | [`metrics`], [`telemetry`] | the metrics registry; logging |
//!
//! Besides, where the features of these names are on:
//!
//! | Module | What it holds |
//! |---|---|
//! | `dev` | everything on one machine without a cluster; on by default |
//! | `testing` | [`Cache`] on that server, and objects, for your own tests |

pub mod api;
pub mod cache;
pub mod cli;
pub mod client;
pub mod controller;
#[cfg(feature = "dev")]
pub mod dev;
mod error_text;
pub mod http;
pub mod informer;
pub mod manager;
pub mod metrics;
pub mod options;
mod rate_limit;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod version;
pub mod wait;

pub use cache::{Cache, Provider, Reader};
pub use controller::{Action, Controller, Observed, ReconcileHandler};
pub use manager::Manager;
pub use options::SandboxManagerOptions;

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
