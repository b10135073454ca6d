//! Runs the binary with the lifecycle controllers on a cluster with nodes, and counts what is there in the end.
//!
//! `cargo test` takes the server in memory with its kubelet and its garbage collector. `tests/e2e.sh` takes the real ones:
//! kube-apiserver, kube-controller-manager, kube-scheduler, and kwok, which plays the nodes. The tests are the same, and
//! each has a namespace of its own, to which its manager is limited. The server in memory runs on the runtime of the test,
//! which therefore has several threads.

mod garbage;
mod outage;
mod pause;
pub(crate) mod pool;
mod scale;
mod takeover;
