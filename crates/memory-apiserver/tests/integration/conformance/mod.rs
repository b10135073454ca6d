//! Conformance tests: the behaviour of a Kubernetes API server as a client sees it.
//!
//! The tests use only requests and answers, so the same tests run on kube-apiserver and on any other server. They
//! assert only behaviour of kube-apiserver, and compare only texts that a client or a person relies on.
//!
//! A test is an `async fn name(server: &Server)`. Its module names it in `on_every_server![...]`, which makes one test
//! of it for each server; the compiler reports a function that is not named there as dead code. All tests use one
//! server at the same time, so each has a namespace of its own, and none asserts anything about objects of others.
//!
//! Another server needs a `Target` and a function of its name in `server`, and a line in `on_every_server`.

/// Makes tests of the functions of a module: for each server a module of its name, with each test in it.
macro_rules! on_every_server {
    ($($test:ident),+ $(,)?) => {
        on_server!(in_memory [] $($test)+);
        on_server!(real [#[ignore = "needs the control plane: tests/e2e.sh"]] $($test)+);
    };
}

/// As `on_every_server`, for tests that need the garbage collector: that of kube-controller-manager, or that of the
/// server in memory.
macro_rules! on_every_collecting_server {
    ($($test:ident),+ $(,)?) => {
        on_server!(in_memory_collecting [] $($test)+);
        on_server!(real_collecting [#[ignore = "needs the control plane: tests/e2e.sh"]] $($test)+);
    };
}

/// The tests on one server, which the function of this name in `server` returns.
macro_rules! on_server {
    ($server:ident [$($attribute:tt)*] $($test:ident)+) => {
        mod $server {
            on_server!(@each $server [$($attribute)*] $($test)+);
        }
    };
    (@each $server:ident $attributes:tt $($test:ident)+) => {
        $( on_server!(@one $server $attributes $test); )+
    };
    (@one $server:ident [$($attribute:tt)*] $test:ident) => {
        #[tokio::test]
        $($attribute)*
        async fn $test() {
            super::$test(&crate::conformance::server::$server().await).await;
        }
    };
}

mod answer;
mod collection;
mod kinds;
mod server;
mod watching;

mod access;
mod apply;
mod bookmarks;
mod builtin;
mod crds;
mod crud;
mod delete;
mod discovery;
mod endings;
mod errors;
mod events;
mod expired;
mod garbage;
mod invalid_crds;
mod kube_client;
mod limits;
mod list;
mod managed_fields;
mod patch;
mod protobuf;
mod replace;
mod reviews;
#[cfg(feature = "cel")]
mod rules;
mod schema;
mod selectors;
mod status_and_scale;
mod strategic;
mod tables;
mod validation;
mod watch;
