//! The facts of a real kube-apiserver 1.35 that these functions agree with, and the laws that they keep.

mod applies;
mod laws;
mod support;
mod updates;
