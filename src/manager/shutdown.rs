//! SIGTERM and SIGINT: the first asks the process to end, the second ends it.

use std::io;

use futures::{Stream, StreamExt as _, stream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A signal that asks the process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a shell reports for a process that such a signal killed: 128 and the signal's number.
    fn exit_code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// A token that is cancelled by the first SIGTERM or SIGINT; the second ends the process at once, with exit code
/// 143 or 130.
///
/// Must be called inside a tokio runtime, once, before anything is started. From then on these signals no longer
/// end the process by themselves.
///
/// # Errors
///
/// When the system refuses the signal handlers.
pub fn signals() -> io::Result<CancellationToken> {
    let endings = stream::select(
        deliveries(SignalKind::interrupt(), Ending::Interrupt)?,
        deliveries(SignalKind::terminate(), Ending::Terminate)?,
    );
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        let code = second_of(endings, &first).await;
        #[allow(
            clippy::exit,
            reason = "a second signal means now: nothing that is still running may delay it"
        )]
        std::process::exit(code);
    });
    Ok(token)
}

fn deliveries(kind: SignalKind, ending: Ending) -> io::Result<impl Stream<Item = Ending> + Unpin> {
    let signal = signal(kind)?;
    Ok(Box::pin(stream::unfold(signal, move |mut signal| async move {
        signal.recv().await?;
        Some((ending, signal))
    })))
}

/// Cancels `token` at the first of `endings`; the exit code of the second.
async fn second_of(mut endings: impl Stream<Item = Ending> + Unpin, token: &CancellationToken) -> i32 {
    let first = next_of(&mut endings).await;
    tracing::info!(signal = first.name(), "shutting down; a second signal ends the process at once");
    token.cancel();
    let second = next_of(&mut endings).await;
    tracing::warn!(signal = second.name(), "ending at once");
    second.exit_code()
}

/// Signals never end; if they did, none would ever come.
async fn next_of(endings: &mut (impl Stream<Item = Ending> + Unpin)) -> Ending {
    match endings.next().await {
        Some(ending) => ending,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;

    use super::*;

    #[tokio::test]
    async fn the_first_signal_cancels_and_the_second_ends_the_process() {
        let (signals, endings) = mpsc::unbounded();
        let token = CancellationToken::new();
        let mut ended = Box::pin(second_of(endings, &token));

        assert!(futures::poll!(&mut ended).is_pending());
        assert!(!token.is_cancelled());
        signals.unbounded_send(Ending::Terminate).unwrap();
        assert!(futures::poll!(&mut ended).is_pending());
        assert!(token.is_cancelled());
        signals.unbounded_send(Ending::Interrupt).unwrap();
        assert_eq!(ended.await, 130);
    }
}
