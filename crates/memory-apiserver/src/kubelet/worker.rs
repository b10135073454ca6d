//! [`Worker`]: the task that carries out the steps of all Pods.

use std::sync::{Arc, Weak};

use serde_json::Value;
use tokio::runtime::{Handle, TryCurrentError};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::agenda::Agenda;
use super::control::{Kubelet, Orders};
use super::course::{self, Situation, Step};
use super::known::{Facts, KnownPods};
use super::nodes::{self, Nodes};
use super::outcome::PodOutcome;
use crate::deletion::PODS;
use crate::lifecycle;
use crate::state::ServerState;
use crate::store::{EventKind, Key, Range, Stored};

/// Pods that are looked at before other tasks get their turn.
const TURN: usize = 32;

/// Events that are read from the store at once.
const BATCH: usize = 256;

/// Starts the task of a kubelet. It ends when the server is dropped.
///
/// # Errors
///
/// If there is no runtime to run it.
pub(crate) fn start(kubelet: &Kubelet, state: &Arc<ServerState>) -> Result<(), TryCurrentError> {
    let runtime = Handle::try_current()?;
    let storage: Arc<str> = PODS.into();
    let (mut cuts, mut changes) = (state.cuts(), kubelet.changes());
    // The first turn lists all Pods and takes all orders over.
    cuts.mark_changed();
    changes.mark_changed();
    let worker = Worker {
        server: Arc::downgrade(state),
        events: state.store.subscribe(&storage),
        cuts,
        changes,
        storage,
        default: PodOutcome::ReadyAfter(kubelet.settings.delay),
        orders: Orders::default(),
        kubelet: kubelet.clone(),
        position: 0,
        known: KnownPods::default(),
        agenda: Agenda::default(),
    };
    runtime.spawn(worker.run());
    Ok(())
}

struct Worker {
    server: Weak<ServerState>,
    kubelet: Kubelet,
    storage: Arc<str>,
    /// Changes with each event of Pods. It is closed when the server is dropped.
    events: Receiver<u64>,
    /// Changes when events may have been lost, because the server was set back.
    cuts: Receiver<u64>,
    /// Changes with each order.
    changes: Receiver<u64>,
    /// The outcome of Pods for which there is no rule.
    default: PodOutcome,
    /// The orders that are carried out.
    orders: Orders,
    /// The events up to this revision are read.
    position: u64,
    known: KnownPods,
    agenda: Agenda,
}

impl Worker {
    async fn run(mut self) {
        while let Some(state) = self.server.upgrade() {
            while self.work(&state) {
                tokio::task::yield_now().await;
            }
            drop(state);
            self.wait().await;
        }
    }

    /// Waits until there may be work, or until the server is dropped.
    async fn wait(&mut self) {
        let next = self.agenda.next();
        let timer = async {
            match next {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        // Clones, as only the code that acts on a change marks it as seen.
        let (mut cuts, mut changes) = (self.cuts.clone(), self.changes.clone());
        // A receiver whose server is dropped returns an error at once. The caller then finds no server.
        tokio::select! {
            _ = self.events.changed() => {}
            _ = cuts.changed() => {}
            _ = changes.changed() => {}
            () = timer => {}
        }
    }

    /// Does a part of the work that is due. Returns whether there may be more.
    fn work(&mut self, state: &ServerState) -> bool {
        self.obey(state);
        if take_change(&mut self.cuts) {
            self.list(state);
        }
        let has_read = self.read(state);
        let now = Instant::now();
        let mut looked = 0;
        while looked < TURN
            && let Some(key) = self.agenda.pop(now)
        {
            self.look(state, &key);
            looked += 1;
        }
        has_read || looked > 0
    }

    /// Takes new orders over: the nodes get their state, and every Pod is looked at again.
    fn obey(&mut self, state: &ServerState) {
        if !take_change(&mut self.changes) {
            return;
        }
        self.orders = self.kubelet.orders();
        self.nodes().show(state);
        let now = Instant::now();
        for key in self.known.keys() {
            self.agenda.add(key, now);
        }
    }

    /// Looks at every Pod, and reads the events from now on. A known Pod that is gone is forgotten: after the server was
    /// set back, a Pod of its name may have a smaller revision.
    fn list(&mut self, state: &ServerState) {
        self.position = state.store.revision();
        let now = Instant::now();
        for key in self.known.keys() {
            self.agenda.add(key, now);
        }
        for stored in state.store.page(PODS, &Range::default(), usize::MAX) {
            self.agenda.add(&stored.key, now);
        }
    }

    /// Reads the next events. Returns whether there were some.
    fn read(&mut self, state: &ServerState) -> bool {
        let Ok(events) = state.store.events_after(PODS, self.position, BATCH) else {
            self.list(state);
            return true;
        };
        let now = Instant::now();
        for event in &events {
            let key = &event.new.key;
            self.position = event.new.revision;
            // The events of the kubelet's own writes call for nothing.
            let is_done = self.known.is_done(key, self.position);
            if event.kind == EventKind::Deleted || !is_done {
                self.agenda.add(key, now);
            }
        }
        !events.is_empty()
    }

    /// Carries out the steps of one Pod that are due.
    fn look(&mut self, state: &ServerState, key: &Key) {
        while let Some(stored) = state.store.get(PODS, key) {
            // An order that was given before this version of the Pod holds for it.
            self.obey(state);
            let pod = stored.value();
            let now = Instant::now();
            let facts = self.known.facts(key, &pod, now, self.orders.restarts.len());
            let step = self.next(&pod, facts, now, state);
            if let Step::Rest | Step::Wait(_) = step {
                self.known.done(key, stored.revision, self.orders.restarts.len(), None);
                if let Step::Wait(due) = step {
                    self.agenda.add(key, due);
                }
                return;
            }
            self.carry_out(state, &stored, step, now);
        }
        self.known.remove(key);
    }

    /// Writes a Pod. A Pod that has changed meanwhile is looked at again.
    fn carry_out(&mut self, state: &ServerState, stored: &Arc<Stored>, step: Step, now: Instant) {
        let restarted = matches!(step, Step::Restart(_)).then_some(now);
        let is_written = match step {
            Step::Rest | Step::Wait(_) => false,
            Step::Write(pod) | Step::Restart(pod) => lifecycle::put(state, &self.storage, stored, pod),
            Step::Remove => lifecycle::remove_now(state, &self.storage, stored),
        };
        if is_written {
            self.known.done(&stored.key, stored.revision, self.orders.restarts.len(), restarted);
        }
    }

    fn nodes(&self) -> Nodes<'_> {
        Nodes { names: &self.kubelet.settings.nodes, stopped: &self.orders.stopped }
    }

    fn next(&self, pod: &Value, facts: Facts, now: Instant, state: &ServerState) -> Step {
        let nodes = self.nodes();
        let (node, position) = nodes.of(pod);
        let mut restarts = self.orders.restarts.iter().skip(facts.restarts);
        course::next(
            pod,
            &Situation {
                outcome: self.orders.outcome(pod).unwrap_or(&self.default),
                free_node: nodes.free(facts.number),
                node,
                addresses: &nodes::addresses(position, facts.number, self.kubelet.settings.pod_address),
                since: facts.since,
                deleted: facts.deleted,
                delay: self.kubelet.settings.delay,
                ending: self.kubelet.settings.ending,
                restart: restarts.any(|pods| pods.selects(pod)),
                now,
                time: state.clock.now(),
            },
        )
    }
}

/// Whether a value has changed since the last call. A value that changes no more has not.
fn take_change(receiver: &mut Receiver<u64>) -> bool {
    let has_changed = receiver.has_changed().unwrap_or(false);
    if has_changed {
        receiver.mark_unchanged();
    }
    has_changed
}
