//! [`signals`]: the first SIGTERM or SIGINT asks the process to exit, the second makes it exit at once.
//!
//! Some programs send a signal twice, such as a terminal and a wrapper that both forward Ctrl-C. So a second signal
//! counts only if it comes some time after the first.

use std::io;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long after the first signal a further signal is part of the first.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// A signal that asks the process to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExitSignal {
    Interrupt,
    Terminate,
}

impl ExitSignal {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code that a shell reports for a process that the signal killed: 128 and the number of the signal.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Returns a token that is cancelled by the first SIGTERM or SIGINT. At the second one the process exits at once, with
/// exit code 143 or 130, if it comes at least one second after the first.
///
/// Call it once, inside of a tokio runtime, before anything is started. From then on these signals do not end the
/// process by themselves.
///
/// # Errors
///
/// If the system rejects the signal handlers.
pub fn signals() -> io::Result<CancellationToken> {
    let received = stream::select(
        receive(SignalKind::interrupt(), ExitSignal::Interrupt)?,
        receive(SignalKind::terminate(), ExitSignal::Terminate)?,
    );
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        let code = wait_for_second(received, &first).await;
        #[allow(clippy::exit, reason = "the second signal must not wait for anything that still runs")]
        std::process::exit(code);
    });
    Ok(token)
}

fn receive(kind: SignalKind, exit: ExitSignal) -> io::Result<impl Stream<Item = ExitSignal> + Unpin> {
    let signal = signal(kind)?;
    Ok(Box::pin(stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((exit, signal))
    })))
}

/// Cancels `token` at the first signal. Returns the exit code of the second.
async fn wait_for_second(
    mut received: impl Stream<Item = ExitSignal> + Unpin,
    token: &CancellationToken,
) -> i32 {
    let first = next(&mut received).await;
    tracing::info!(signal = first.name(), "shutting down; a second signal makes the process exit at once");
    token.cancel();
    let received_first = Instant::now();
    loop {
        let second = next(&mut received).await;
        if received_first.elapsed() >= SAME_SIGNAL {
            tracing::warn!(signal = second.name(), "exiting at once");
            return second.exit_code();
        }
        tracing::debug!(signal = second.name(), "ignored, because it came right after the first signal");
    }
}

/// The next signal. The stream does not end; if it did, no signal would come.
async fn next(received: &mut (impl Stream<Item = ExitSignal> + Unpin)) -> ExitSignal {
    match received.next().await {
        Some(signal) => signal,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn y7_a_second_signal_counts_from_one_second_after_the_first() {
        let (signals, received) = mpsc::unbounded();
        let token = CancellationToken::new();
        let mut second = Box::pin(wait_for_second(received, &token));

        assert!(futures::poll!(&mut second).is_pending());
        assert!(!token.is_cancelled());
        for _ in 0..2 {
            signals.unbounded_send(ExitSignal::Terminate).unwrap();
            assert!(futures::poll!(&mut second).is_pending());
            assert!(token.is_cancelled());
            tokio::time::advance(Duration::from_millis(999)).await;
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        signals.unbounded_send(ExitSignal::Interrupt).unwrap();
        assert_eq!(second.await, 130);
    }
}
