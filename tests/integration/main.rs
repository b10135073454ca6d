//! Integration tests in one binary: a module per area, and `support` for shared code.
//!
//! They run on an API server in memory. `tests/e2e.sh` builds a real API server and runs the same tests on
//! it. Tests of the real server itself are ignored by default. `cfg(test)` is always set here; on a module,
//! it tells clippy that its helpers are test code.
//!
//! Rule numbers refer to docs/behaviours.md.

/// The same allocator as in the binary, whose memory the soak measures.
#[cfg(all(test, feature = "jemalloc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod chart;
#[cfg(test)]
mod claim_proof;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod control_plane;
#[cfg(test)]
mod controllers;
#[cfg(test)]
mod crd_apply;
#[cfg(test)]
mod crds;
#[cfg(test)]
mod dev;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod e2b;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod leader_election;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod own_main;
#[cfg(test)]
mod process;
#[cfg(test)]
mod proxies;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod runtime;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod waits;
