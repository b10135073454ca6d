//! [`HeadDeadline`]: a connection whose clients must send the head of a request without delay, and may be idle before it.
//!
//! The HTTP library has one timeout for both. With that of an idle connection, a client could send a byte a minute and
//! hold its place for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// No request is under way: the next byte begins one.
const IDLE: u8 = 0;
/// A head is under way.
const HEAD: u8 = 1;
/// The head is complete: the request is being answered.
const ANSWERING: u8 = 2;

/// Tells a [`HeadDeadline`] what the server does. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct HeadState(Arc<AtomicU8>);

impl HeadState {
    /// The head of a request is complete.
    pub(super) fn complete(&self) {
        self.0.store(ANSWERING, Ordering::Relaxed);
    }

    /// The request was answered.
    pub(super) fn answered(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

/// A connection that fails if the head of a request takes longer than its limit.
pub(super) struct HeadDeadline<S> {
    inner: S,
    state: HeadState,
    limit: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl<S> HeadDeadline<S> {
    pub(super) fn new(inner: S, limit: Duration) -> (Self, HeadState) {
        let state = HeadState(Arc::new(AtomicU8::new(IDLE)));
        let deadline = Box::pin(tokio::time::sleep(limit));
        (Self { inner, state: state.clone(), limit, deadline }, state)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadDeadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let has_more = buffer.filled().len() > before;
        if has_more && self.state.0.load(Ordering::Relaxed) == IDLE {
            let end = Instant::now() + self.limit;
            self.deadline.as_mut().reset(end);
            self.state.0.store(HEAD, Ordering::Relaxed);
        }
        if self.state.0.load(Ordering::Relaxed) == HEAD
            && read.is_pending()
            && self.deadline.poll_unpin(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn y7_an_idle_connection_may_wait_and_a_slow_head_may_not() {
        let (mut client, server) = duplex(64);
        let (mut server, state) = HeadDeadline::new(server, LIMIT);
        let mut byte = [0];
        // Idle for far longer than the limit of a head.
        let idle = tokio::time::timeout(10 * LIMIT, server.read(&mut byte)).await;
        assert!(idle.is_err(), "{idle:?}");
        client.write_all(b"G").await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        // Another byte does not begin the time again.
        tokio::time::sleep(LIMIT / 2).await;
        client.write_all(b"E").await.unwrap();
        server.read_exact(&mut byte).await.unwrap();
        let begun = Instant::now();
        let error = server.read(&mut byte).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), LIMIT / 2);
        // While a request is answered, its body and its client may take their time.
        state.complete();
        assert!(tokio::time::timeout(10 * LIMIT, server.read(&mut byte)).await.is_err());
        state.answered();
        assert!(tokio::time::timeout(10 * LIMIT, server.read(&mut byte)).await.is_err());
    }
}
