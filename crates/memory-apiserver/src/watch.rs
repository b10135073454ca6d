//! One watch: what was there, if asked for, then every event that passes its filter, bookmarks, and its end.
//!
//! A watch has no buffer of its own: it reads the store's events from where it is, so a slow one costs nothing and
//! is told that its place has expired once the store has forgotten it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, stream};
use rand::Rng;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::error::ApiError;
use super::faults::{Interference, WatchFault};
use super::filter::Filter;
use super::form::Presenter;
use super::server::Server;
use super::store::{Event, EventKind, Stored, Unknown};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_mins(1);

/// How long before its end a watch gets a last bookmark.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long a watch lasts unless it says so itself, in seconds.
const LIFETIME: std::ops::Range<u64> = 1800..3600;

/// Bytes after which a chunk is sent.
const CHUNK: usize = 64 << 10;

/// Events that are read from the store at once.
const BATCH: usize = 256;

/// What a watch was asked to do.
pub(crate) struct WatchRequest {
    pub(crate) storage: Arc<str>,
    pub(crate) filter: Filter,
    pub(crate) presenter: Presenter,
    /// Where it begins: what happened after this revision is told.
    pub(crate) from: u64,
    /// Objects that are told as additions first.
    pub(crate) initial: Vec<Arc<Stored>>,
    /// Whether a bookmark tells the end of the initial objects.
    pub(crate) marks_end_of_initial: bool,
    pub(crate) bookmarks: bool,
    pub(crate) lifetime: Option<Duration>,
}

/// An open watch.
struct Watch {
    server: Arc<Server>,
    request: WatchRequest,
    /// How many of the initial objects have been told.
    told: usize,
    position: u64,
    changed: Receiver<u64>,
    /// Changes when connections are to be cut.
    cut: Receiver<u64>,
    /// Changes when a bookmark is wanted now.
    nudged: Receiver<u64>,
    bookmarks: bool,
    end: Instant,
    next_bookmark: Option<Instant>,
    mood: Mood,
    /// A line that a fault keeps back, until the next one or for a while.
    kept: Option<Kept>,
}

/// How a watch goes on after what it is telling now.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Open,
    /// It ends cleanly.
    Over,
    /// Its connection breaks.
    Broken,
    /// It says nothing until connections are cut.
    Silent,
}

struct Kept {
    line: Bytes,
    /// `None`: until the next line has been told.
    until: Option<Instant>,
}

/// The lines of a watch until it ends. Dropping it ends it too.
pub(crate) fn lines(
    server: Arc<Server>,
    request: WatchRequest,
    interference: &Interference,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let lifetime =
        request.lifetime.unwrap_or_else(|| Duration::from_secs(rand::rng().random_range(LIFETIME)));
    let now = Instant::now();
    let end = now + lifetime;
    let bookmarks = request.bookmarks && !interference.withholds_bookmarks();
    let watch = Watch {
        changed: server.store.subscribe(&request.storage),
        cut: server.cuts(),
        nudged: server.nudges(),
        bookmarks,
        position: request.from,
        told: 0,
        next_bookmark: bookmarks.then(|| next_bookmark(end)).flatten(),
        end: interference.cut_after().map_or(end, |after| end.min(now + after)),
        mood: Mood::Open,
        kept: None,
        server,
        request,
    };
    stream::unfold(watch, |mut watch| async move {
        let chunk = watch.next_chunk().await?;
        Some((chunk, watch))
    })
}

/// A watch that is shorter than the time before its end gets no bookmark.
fn next_bookmark(end: Instant) -> Option<Instant> {
    let now = Instant::now();
    let last = end.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now)?;
    Some(last.min(now + BOOKMARK_EVERY))
}

impl Watch {
    async fn next_chunk(&mut self) -> Option<io::Result<Bytes>> {
        match self.mood {
            Mood::Open => {}
            Mood::Over => return None,
            Mood::Broken => {
                self.mood = Mood::Over;
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Mood::Silent => {
                let _ = self.cut.changed().await;
                self.mood = Mood::Over;
                return Some(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        let mut chunk = BytesMut::new();
        self.initial(&mut chunk);
        while chunk.is_empty() {
            if self.mood != Mood::Open {
                return Box::pin(self.next_chunk()).await;
            }
            self.changed.borrow_and_update();
            match self.unread() {
                Err(unknown) => self.expire(&mut chunk, unknown),
                Ok(events) if events.is_empty() => {
                    if !self.pause(&mut chunk).await {
                        return None;
                    }
                }
                Ok(events) => self.events(&mut chunk, &events),
            }
        }
        Some(Ok(chunk.freeze()))
    }

    /// The next events; none while one is held back.
    fn unread(&self) -> Result<Vec<Arc<Event>>, Unknown> {
        if self.holds_until().is_some() {
            return Ok(Vec::new());
        }
        self.server.store.events_after(&self.request.storage, self.position, BATCH)
    }

    fn holds_until(&self) -> Option<Instant> {
        self.kept.as_ref().and_then(|kept| kept.until)
    }

    /// Tells the next of the initial objects, and after the last one that it was the last.
    fn initial(&mut self, chunk: &mut BytesMut) {
        let total = self.request.initial.len();
        while self.told < total && chunk.len() < CHUNK {
            let stored = &self.request.initial[self.told];
            put_line(chunk, "ADDED", &self.request.presenter.event_object(stored));
            self.told += 1;
        }
        if self.told == total {
            self.request.initial = Vec::new();
            self.told = 0;
            if std::mem::take(&mut self.request.marks_end_of_initial) {
                let object = self.request.presenter.bookmark(self.request.from, true);
                put_line(chunk, "BOOKMARK", &object);
            }
        }
    }

    fn events(&mut self, chunk: &mut BytesMut, events: &[Arc<Event>]) {
        for event in events {
            self.position = event.new.revision;
            if let Some(line) = self.line_of(event) {
                self.tell(chunk, line, &event.new);
            }
            // What does not fit any more is read from the ring again.
            if self.mood != Mood::Open || self.holds_until().is_some() || chunk.len() >= CHUNK {
                return;
            }
        }
    }

    /// An event as this watch tells it; `None` when it does not concern it.
    fn line_of(&self, event: &Event) -> Option<Bytes> {
        let passes = |stored: &Stored| self.request.filter.passes(stored);
        let before = event.old.as_deref().is_some_and(passes);
        let presenter = &self.request.presenter;
        let line = |kind, stored: &Stored| {
            let mut line = BytesMut::new();
            put_line(&mut line, kind, &presenter.event_object(stored));
            Some(line.freeze())
        };
        match (event.kind, before, passes(&event.new)) {
            (EventKind::Deleted, true, _) => line("DELETED", &event.new),
            (EventKind::Deleted, false, _) | (_, false, false) => None,
            (_, true, true) => line("MODIFIED", &event.new),
            (_, false, true) => line("ADDED", &event.new),
            (_, true, false) => {
                // It has left the selection: told as it was, in the version in which it left.
                let left = event.old.as_ref()?.at_revision(event.new.revision);
                line("DELETED", &left)
            }
        }
    }

    /// Writes a line, unless a fault has other plans with it.
    fn tell(&mut self, chunk: &mut BytesMut, line: Bytes, about: &Stored) {
        let plural = &self.request.presenter.resource.names.plural;
        let mut kept = self.kept.take();
        let fault = self.server.faults.on_event(plural, about);
        let goes_on =
            matches!(fault, None | Some(WatchFault::Duplicate | WatchFault::Reorder | WatchFault::Hold(_)));
        if !goes_on && let Some(kept) = kept.take() {
            // Nothing comes after this one that it could change places with.
            chunk.put_slice(&kept.line);
        }
        match fault {
            None => chunk.put_slice(&line),
            Some(WatchFault::Duplicate) => {
                chunk.put_slice(&line);
                chunk.put_slice(&line);
            }
            Some(WatchFault::Reorder) => self.kept = Some(Kept { line, until: None }),
            Some(WatchFault::Hold(time)) => {
                self.kept = Some(Kept { line, until: Some(Instant::now() + time) });
            }
            Some(WatchFault::End) => self.mood = Mood::Over,
            Some(WatchFault::Reset) => self.mood = Mood::Broken,
            Some(WatchFault::MidLine) => {
                chunk.put_slice(&line[..line.len() / 2]);
                self.mood = Mood::Broken;
            }
            Some(WatchFault::Expire) => self.expire(chunk, Unknown::Expired { oldest: about.revision }),
            Some(WatchFault::Silence) => self.mood = Mood::Silent,
        }
        if let Some(kept) = kept {
            chunk.put_slice(&kept.line);
        }
    }

    fn expire(&mut self, chunk: &mut BytesMut, unknown: Unknown) {
        let error = expired(self.position, unknown);
        put_line(chunk, "ERROR", error.status().to_string().as_bytes());
        self.mood = Mood::Over;
    }

    /// Waits until there is something to tell; `false` at the end.
    async fn pause(&mut self, chunk: &mut BytesMut) -> bool {
        let holds_until = self.holds_until();
        let wake = self.next_bookmark.into_iter().chain(holds_until).fold(self.end, Instant::min);
        tokio::select! {
            biased;
            _ = self.cut.changed() => {
                self.mood = Mood::Broken;
                return true;
            }
            // Once the collection is closed, only what it still has is told.
            changed = self.changed.changed(), if holds_until.is_none() => return changed.is_ok() || self.has_unread(),
            _ = self.nudged.changed(), if self.bookmarks => {
                self.bookmark(chunk);
                return true;
            }
            () = sleep_until(wake) => {}
        }
        if wake >= self.end {
            return false;
        }
        if holds_until == Some(wake) {
            chunk.extend(self.kept.take().into_iter().flat_map(|kept| kept.line));
        } else {
            self.bookmark(chunk);
        }
        true
    }

    fn has_unread(&self) -> bool {
        // Events that were lost are still to be told of.
        self.unread().map_or(true, |events| !events.is_empty())
    }

    /// Tells the version that has been reached, which may be past the last event of this kind.
    fn bookmark(&mut self, chunk: &mut BytesMut) {
        let revision = self.server.store.revision();
        // Whatever happened before is told first.
        if self.holds_until().is_none() && !self.has_unread() {
            chunk.extend(self.kept.take().into_iter().flat_map(|kept| kept.line));
            put_line(chunk, "BOOKMARK", &self.request.presenter.bookmark(revision, false));
            self.position = revision.max(self.position);
        }
        self.next_bookmark = next_bookmark(self.end);
    }
}

/// What is said of a version whose events have been forgotten.
pub(crate) fn expired(asked: u64, unknown: Unknown) -> ApiError {
    match unknown {
        Unknown::Expired { oldest } => {
            ApiError::expired(format!("too old resource version: {asked} ({oldest})"))
        }
        Unknown::Future { current } => ApiError::version_too_large(asked, current),
    }
}

/// What a watch that can't begin tells instead of events.
pub(crate) fn refusal(error: &ApiError) -> Bytes {
    let mut line = BytesMut::new();
    put_line(&mut line, "ERROR", error.status().to_string().as_bytes());
    line.freeze()
}

fn put_line(chunk: &mut BytesMut, kind: &str, object: &[u8]) {
    chunk.reserve(object.len() + 40);
    chunk.put_slice(b"{\"type\":\"");
    chunk.put_slice(kind.as_bytes());
    chunk.put_slice(b"\",\"object\":");
    chunk.put_slice(object);
    chunk.put_slice(b"}\n");
}
