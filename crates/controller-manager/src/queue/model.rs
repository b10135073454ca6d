//! A model of the queue: the same rules over plain lists, without order, priorities or shared memory.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// What the model expects of one key.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the model is not the state machine that it checks")]
pub(super) struct KeyModel {
    /// UID of the object whose deletion is owed.
    pub(super) owed: Option<u32>,
    /// The object has to be shown once no deletion is owed.
    pub(super) show: bool,
    pub(super) queued: bool,
    pub(super) running: bool,
    /// An event came during the run.
    pub(super) again: bool,
    pub(super) due: Option<Instant>,
    /// UID that handlers were shown as present, and whose deletion they were not told of to the end.
    pub(super) known: Option<u32>,
}

/// All keys by name.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) keys: BTreeMap<usize, KeyModel>,
}

impl Model {
    pub(super) fn key(&mut self, key: usize) -> &mut KeyModel {
        self.keys.entry(key).or_default()
    }

    /// Keys whose run is due.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        let due = |model: &KeyModel| model.queued || model.due.is_some_and(|due| due <= now);
        self.keys.iter().filter(|(_, model)| due(model)).map(|(key, _)| *key).collect()
    }
}

impl KeyModel {
    pub(super) fn changed(&mut self) {
        self.show = true;
        self.event();
    }

    pub(super) fn deleted(&mut self, uid: u32) {
        self.show = false;
        if self.owed.is_none() {
            self.owed = Some(uid);
            self.event();
        } else {
            assert_ne!(self.known, Some(uid), "a deletion that handlers must know is merged away");
        }
    }

    fn event(&mut self) {
        if self.running {
            self.again = true;
        } else {
            self.queued = true;
            self.due = None;
        }
    }

    /// A run begins.
    pub(super) fn begins(&mut self) {
        assert!(!self.running, "r5: two at once");
        (self.running, self.queued, self.due, self.again) = (true, false, None, false);
        if self.owed.is_none() {
            self.show = false;
        }
    }

    /// Handlers are shown an object.
    pub(super) fn shows(&mut self, uid: u32) {
        assert_eq!(self.owed, None, "x1: an object is shown while a deletion is owed");
        assert!(
            self.known.is_none_or(|known| known == uid),
            "order: the successor of {:?} is shown",
            self.known
        );
        self.known = Some(uid);
    }

    /// Handlers are shown a deletion.
    pub(super) fn shows_deletion(&mut self, uid: u32) {
        assert_eq!(self.owed, Some(uid), "x1: a deletion is shown that is not owed");
        assert!(self.known.is_none_or(|known| known == uid), "order: {uid} before {:?}", self.known);
    }

    /// A run ends; `delay` is when it is to follow again. `deletion` tells whether it has shown one.
    pub(super) fn ends(&mut self, deletion: bool, delay: Option<std::time::Duration>, now: Instant) {
        self.running = false;
        if deletion && delay.is_none() {
            (self.owed, self.known) = (None, None);
        }
        if !deletion && delay.is_some() && self.owed.is_none() {
            self.show = true;
        }
        if self.again || (delay.is_none() && self.show) {
            self.queued = true;
        } else {
            self.due = delay.map(|delay| now + delay);
        }
    }

    /// Nothing is outstanding.
    pub(super) fn is_idle(&self) -> bool {
        self.owed.is_none() && !self.queued && !self.running && self.due.is_none()
    }
}
