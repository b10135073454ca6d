//! The stream of one watch: what it tells next, and when it ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};
use futures::{Stream, stream};
use rand::Rng;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::lines::{expired, line, put_line};
use crate::faults::{Interference, WatchFault};
use crate::filter::Filter;
use crate::form::Presenter;
use crate::state::ServerState;
use crate::store::{Event, EventKind, Stored, Unknown};

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_mins(1);

/// How long before its end a watch gets a last bookmark.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long a watch lasts if the request does not say it, in seconds.
const LIFETIME: std::ops::Range<u64> = 1800..3600;

/// Bytes after which a chunk is sent.
const CHUNK: usize = 64 << 10;

/// Events that are read from the store at once.
const BATCH: usize = 256;

/// What a client asked a watch for.
pub(crate) struct WatchRequest {
    pub(crate) storage: Arc<str>,
    pub(crate) filter: Filter,
    pub(crate) presenter: Presenter,
    /// The watch tells the events after this revision.
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
    state: Arc<ServerState>,
    request: WatchRequest,
    /// The initial objects that are not told yet.
    initial: vec::IntoIter<Arc<Stored>>,
    /// The events up to this revision are told.
    position: u64,
    /// Changes with each event of the collection.
    changed: Receiver<u64>,
    /// Changes when connections are cut.
    cut: Receiver<u64>,
    /// Changes when a bookmark is wanted now.
    nudged: Receiver<u64>,
    /// The revision at which the resource ceased to be served.
    retired: Receiver<Option<u64>>,
    bookmarks: bool,
    end: Instant,
    next_bookmark: Option<Instant>,
    phase: Phase,
    kept: Option<Kept>,
}

/// How a watch goes on after the lines that it has written.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// It ends cleanly.
    Over,
    /// Its connection breaks.
    Broken,
    /// It tells nothing until connections are cut.
    Silent,
}

/// A line that a fault keeps back.
struct Kept {
    line: Bytes,
    /// `None`: until the next line is written.
    until: Option<Instant>,
}

/// The lines of a watch until its end. Dropping the stream ends the watch.
pub(crate) fn lines(
    state: Arc<ServerState>,
    mut request: WatchRequest,
    interference: &Interference,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let lifetime =
        request.lifetime.unwrap_or_else(|| Duration::from_secs(rand::rng().random_range(LIFETIME)));
    let now = Instant::now();
    let end = now + lifetime;
    let bookmarks = request.bookmarks && !interference.withholds_bookmarks();
    let watch = Watch {
        changed: state.store.subscribe(&request.storage),
        cut: state.cuts(),
        nudged: state.nudges(),
        retired: request.presenter.resource.retired.subscribe(),
        bookmarks,
        position: request.from,
        initial: std::mem::take(&mut request.initial).into_iter(),
        next_bookmark: bookmarks.then(|| next_bookmark(end)).flatten(),
        end: interference.cut_after().map_or(end, |after| end.min(now + after)),
        phase: Phase::Open,
        kept: None,
        state,
        request,
    };
    let begun = watch.state.store.check_watchable(&watch.request.storage, watch.position);
    stream::unfold((watch, begun.err()), |(mut watch, unknown)| async move {
        let chunk = match unknown {
            Some(unknown) => Some(Ok(watch.refuse(unknown))),
            None => watch.next_chunk().await,
        };
        chunk.map(|chunk| (chunk, (watch, None)))
    })
}

/// A watch that is shorter than the time before its end gets no bookmark.
fn next_bookmark(end: Instant) -> Option<Instant> {
    let now = Instant::now();
    let last = end.checked_sub(BOOKMARK_BEFORE_END).filter(|last| *last > now)?;
    Some(last.min(now + BOOKMARK_INTERVAL))
}

impl Watch {
    async fn next_chunk(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.phase {
                Phase::Open => {}
                Phase::Over => return None,
                Phase::Broken => {
                    self.phase = Phase::Over;
                    return Some(Err(io::ErrorKind::ConnectionReset.into()));
                }
                Phase::Silent => {
                    // The sender lives as long as `state`.
                    let _ = self.cut.changed().await;
                    self.phase = Phase::Broken;
                    continue;
                }
            }
            // Looked at before each chunk, so that a watch that always has something to tell ends, too.
            if self.cut.has_changed().unwrap_or(true) {
                self.phase = Phase::Broken;
                continue;
            }
            if Instant::now() >= self.end {
                return None;
            }
            let mut chunk = BytesMut::new();
            let is_idle = self.fill(&mut chunk);
            if chunk.is_empty() && is_idle && self.phase == Phase::Open {
                self.pause(&mut chunk).await;
            }
            if !chunk.is_empty() {
                return Some(Ok(chunk.freeze()));
            }
        }
    }

    /// Writes the lines that are to be told now; none if there is nothing to tell. Returns whether all events are read:
    /// many events may not pass the filter.
    fn fill(&mut self, chunk: &mut BytesMut) -> bool {
        self.initial(chunk);
        if self.initial.len() > 0 {
            return false;
        }
        self.changed.borrow_and_update();
        let is_retired = self.retired.borrow_and_update().is_some();
        let mut is_idle = false;
        match self.unread() {
            Err(unknown) => self.expire(chunk, unknown),
            Ok(events) if events.is_empty() => {
                is_idle = true;
                if is_retired && self.holds_until().is_none() {
                    self.phase = Phase::Over;
                }
            }
            Ok(events) => self.events(chunk, &events),
        }
        if self.phase == Phase::Open && self.next_bookmark.is_some_and(|due| due <= Instant::now()) {
            self.bookmark(chunk);
        }
        is_idle
    }

    /// The next events; none while a line is held back.
    fn unread(&self) -> Result<Vec<Arc<Event>>, Unknown> {
        if self.holds_until().is_some() {
            return Ok(Vec::new());
        }
        let mut events = self.state.store.events_after(&self.request.storage, self.position, BATCH)?;
        if let Some(last) = *self.retired.borrow() {
            events.retain(|event| event.new.revision <= last);
        }
        Ok(events)
    }

    fn holds_until(&self) -> Option<Instant> {
        self.kept.as_ref().and_then(|kept| kept.until)
    }

    /// Tells the next initial objects, and after the last of them that it was the last.
    fn initial(&mut self, chunk: &mut BytesMut) {
        while chunk.len() < CHUNK
            && let Some(stored) = self.initial.next()
        {
            put_line(chunk, "ADDED", &self.request.presenter.event_object(&stored));
        }
        if self.initial.len() == 0 && std::mem::take(&mut self.request.marks_end_of_initial) {
            let object = self.request.presenter.bookmark(self.request.from, true);
            put_line(chunk, "BOOKMARK", &object);
        }
    }

    fn events(&mut self, chunk: &mut BytesMut, events: &[Arc<Event>]) {
        for event in events {
            self.position = event.new.revision;
            if let Some(line) = self.line_of(event) {
                self.tell(chunk, line, &event.new);
            }
            // Events that do not fit are read from the store again.
            if self.phase != Phase::Open || self.holds_until().is_some() || chunk.len() >= CHUNK {
                return;
            }
        }
    }

    /// The line of an event; `None` if the filter passes the object neither before nor after it.
    fn line_of(&self, event: &Event) -> Option<Bytes> {
        let passes = |stored: &Stored| self.request.filter.passes(stored);
        let before = event.old.as_deref().is_some_and(passes);
        let presenter = &self.request.presenter;
        let line = |kind, stored: &Stored| Some(line(kind, &presenter.event_object(stored)));
        match (event.kind, before, passes(&event.new)) {
            (EventKind::Deleted, true, _) => line("DELETED", &event.new),
            (EventKind::Deleted, false, _) | (_, false, false) => None,
            (_, true, true) => line("MODIFIED", &event.new),
            (_, false, true) => line("ADDED", &event.new),
            (_, true, false) => {
                // The object has left the selection: the client gets it as it was, in the version in which it left.
                let left = event.old.as_ref()?.at_revision(event.new.revision);
                line("DELETED", &left)
            }
        }
    }

    /// Writes a line, or does with it what a fault says.
    fn tell(&mut self, chunk: &mut BytesMut, line: Bytes, about: &Stored) {
        let plural = &self.request.presenter.resource.names.plural;
        let mut kept = self.kept.take();
        let fault = self.state.faults.on_event(plural, about);
        let goes_on =
            matches!(fault, None | Some(WatchFault::Duplicate | WatchFault::Reorder | WatchFault::Hold(_)));
        if !goes_on && let Some(kept) = kept.take() {
            // No line follows with which the kept one could change places.
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
            Some(WatchFault::End) => self.phase = Phase::Over,
            Some(WatchFault::Reset) => self.phase = Phase::Broken,
            Some(WatchFault::MidLine) => {
                chunk.put_slice(&line[..line.len() / 2]);
                self.phase = Phase::Broken;
            }
            Some(WatchFault::Expire) => self.expire(chunk, Unknown::Expired { oldest: about.revision }),
            Some(WatchFault::Silence) => self.phase = Phase::Silent,
        }
        if let Some(kept) = kept {
            chunk.put_slice(&kept.line);
        }
    }

    fn expire(&mut self, chunk: &mut BytesMut, unknown: Unknown) {
        chunk.put_slice(&self.refuse(unknown));
    }

    /// The line that ends a watch whose version has expired.
    fn refuse(&mut self, unknown: Unknown) -> Bytes {
        self.phase = Phase::Over;
        line("ERROR", expired(self.position, unknown).status().to_string().as_bytes())
    }

    /// Waits until there is something to tell or to do, and writes what a time limit calls for.
    async fn pause(&mut self, chunk: &mut BytesMut) {
        let holds_until = self.holds_until();
        let wake = self.next_bookmark.into_iter().chain(holds_until).fold(self.end, Instant::min);
        tokio::select! {
            biased;
            // Each of these senders lives as long as `state` or the resource.
            _ = self.cut.changed() => self.phase = Phase::Broken,
            _ = self.changed.changed(), if holds_until.is_none() => {}
            _ = self.retired.changed() => {}
            _ = self.nudged.changed(), if self.bookmarks => self.bookmark(chunk),
            () = sleep_until(wake) => {
                if holds_until == Some(wake) {
                    chunk.extend(self.kept.take().into_iter().flat_map(|kept| kept.line));
                }
            }
        }
    }

    /// Tells the version up to which every event was told: that of the store if there is nothing left to tell. After
    /// a rewind that may be older than the version at which the watch began.
    fn bookmark(&mut self, chunk: &mut BytesMut) {
        if self.holds_until().is_none() {
            let revision = self.state.store.revision();
            let is_caught_up = self.unread().is_ok_and(|events| events.is_empty());
            let reached = if is_caught_up { revision } else { self.position };
            chunk.extend(self.kept.take().into_iter().flat_map(|kept| kept.line));
            put_line(chunk, "BOOKMARK", &self.request.presenter.bookmark(reached, false));
            self.position = reached.max(self.position);
        }
        self.next_bookmark = next_bookmark(self.end);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.state.store.unsubscribe(&self.request.storage);
    }
}
