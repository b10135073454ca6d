//! [`serve_on_own_thread`]: serves probes however busy the runtime of the program is; [`on_runtime`]: what may take
//! longer still runs there.
//!
//! A probe that waits for a worker thread of a busy runtime times out, and Kubernetes restarts a process that works.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::thread;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tower::{Service, ServiceExt};

use super::server::{Limits, serve};

/// Serves as [`serve`] does, on a new thread with its own runtime. Returns what resolves when the thread has ended.
///
/// # Errors
///
/// If the system refuses the thread or its runtime.
pub(crate) async fn serve_on_own_thread(
    name: &str,
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()> + use<>> {
    let listener = listener.into_std()?;
    let (started, is_started) = oneshot::channel();
    let (running, ended) = oneshot::channel::<Infallible>();
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _running = running;
        let runtime = Builder::new_current_thread().enable_all().build();
        let listener = runtime.and_then(|runtime| {
            let entered = runtime.enter();
            let listener = TcpListener::from_std(listener)?;
            drop(entered);
            Ok((runtime, listener))
        });
        match listener {
            Ok((runtime, listener)) => {
                // If nobody waits any more, `stop` is cancelled.
                let _ = started.send(Ok(()));
                runtime.block_on(serve(listener, router, limits, stop));
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    is_started.await.unwrap_or_else(|_| Err(io::Error::other("the thread ended")))?;
    Ok(async {
        // Never sent; the sender is dropped at the end of the thread.
        let _ = ended.await;
    })
}

/// Answers by `router` on `runtime`, whichever runtime asks.
pub(super) fn on_runtime(
    router: Router,
    runtime: Handle,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + Sync {
    tower::service_fn(move |request: Request| {
        let answering = AbortOnDropHandle::new(runtime.spawn(router.clone().oneshot(request)));
        async move {
            let failed = |_| (StatusCode::INTERNAL_SERVER_ERROR, "the handler has failed\n").into_response();
            Ok(answering.await.map_or_else(failed, |Ok(response)| response))
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::routing::get;

    use super::super::test_support;
    use super::*;

    fn current_thread() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn y7_probes_are_answered_while_the_runtime_of_the_program_is_blocked() {
        use std::io::{Read as _, Write as _};

        let main = Builder::new_current_thread().enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/thread", get(async || current_thread()));
        let (address, ended) = main.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let served = serve_on_own_thread("probes", listener, router, Limits::probes(), stop.clone());
            (address, served.await.unwrap())
        });
        // Nothing drives the main runtime now.
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /thread HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nprobes"), "{answer}");
        stop.cancel();
        main.block_on(ended);
        std::net::TcpStream::connect(address).unwrap_err();
    }

    #[test]
    fn y7_other_routes_run_on_the_runtime_of_the_program() {
        let main = Builder::new_multi_thread().worker_threads(1).thread_name("main").build().unwrap();
        let router = Router::new()
            .route("/thread", get(async || current_thread()))
            .route("/panic", get(async || -> &str { panic!("a panic that belongs to the test") }));
        let router = Router::new().fallback_service(on_runtime(router, main.handle().clone()));
        let probes = Builder::new_current_thread().build().unwrap();
        probes.block_on(async {
            assert_eq!(test_support::get(&router, "/thread").await, (StatusCode::OK, "main".to_owned()));
            assert_eq!(test_support::get(&router, "/none").await.0, StatusCode::NOT_FOUND);
            assert_eq!(test_support::get(&router, "/panic").await.0, StatusCode::INTERNAL_SERVER_ERROR);
        });
    }
}
