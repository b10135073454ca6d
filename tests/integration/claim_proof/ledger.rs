//! [`Ledger`]: what the API server's history says of each sandbox, beside what clients were told. Pure.
//!
//! The history is the authority: the ledger finds a fault in it alone (two locks), or between it and what clients were
//! told (an answer that names no sandbox of that client). No counter of the product is asked.

use std::collections::{BTreeMap, BTreeSet};

/// A state of a sandbox in the history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) uid: String,
    pub(super) id: String,
    pub(super) version: u64,
    pub(super) lock: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) is_claimed: bool,
    pub(super) is_deleting: bool,
    /// The client whose create has claimed it, as its metadata says.
    pub(super) client: Option<usize>,
}

/// The history of one sandbox.
#[derive(Clone, Debug, Default)]
struct Life {
    last: State,
    /// Its locks with their owners, and the versions at which they came.
    locks: Vec<(String, String, u64)>,
    /// The version at which it was deleted or began to be.
    ended: Option<u64>,
}

/// A sandbox that a client was given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    id: String,
    key: String,
    /// The client has begun to kill it.
    is_killed: bool,
}

/// The history of all sandboxes, and the answers.
#[derive(Default)]
pub(super) struct Ledger {
    lives: BTreeMap<String, Life>,
    /// The UIDs of the sandboxes that the creates of a client have locked.
    of_clients: BTreeMap<usize, Vec<String>>,
    answers: BTreeMap<usize, Answer>,
    /// Clients that may have been given a sandbox without their knowledge: their connection broke before the answer.
    lost: BTreeSet<usize>,
    faults: Vec<String>,
}

/// What a run was, in numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) sandboxes: usize,
    pub(super) locked: usize,
    pub(super) answered: usize,
    /// Sandboxes that are locked now and that their clients know of.
    pub(super) kept: usize,
    /// Sandboxes that are locked now because the connection of their client broke.
    pub(super) lost: usize,
}

impl Ledger {
    /// Sees the next state of a sandbox.
    pub(super) fn see(&mut self, state: State) {
        let life = self.lives.entry(state.uid.clone()).or_default();
        let id = &state.id;
        if state.version <= life.last.version {
            self.faults.push(format!("{id}: version {} after {}", state.version, life.last.version));
        }
        let owner = || state.owner.clone().unwrap_or_default();
        match (life.locks.last(), &state.lock) {
            (None, Some(lock)) => life.locks.push((lock.clone(), owner(), state.version)),
            (Some((old, old_owner, _)), Some(lock)) if old != lock || *old_owner != owner() => {
                self.faults.push(format!("{id} was given twice: to {old_owner} and to {}", owner()));
                life.locks.push((lock.clone(), owner(), state.version));
            }
            (Some((_, old_owner, _)), None) => {
                self.faults.push(format!("{id} has lost its lock of {old_owner}"));
            }
            _ => {}
        }
        if state.is_claimed && state.lock.is_none() {
            self.faults.push(format!("{id} is claimed without a lock"));
        }
        if state.is_deleting {
            life.ended.get_or_insert(state.version);
        }
        if let (None, Some(client)) = (life.last.client, state.client) {
            self.of_clients.entry(client).or_default().push(state.uid.clone());
        }
        life.last = state;
    }

    /// Sees that a sandbox is gone.
    pub(super) fn gone(&mut self, uid: &str, version: u64) {
        if let Some(life) = self.lives.get_mut(uid) {
            life.ended.get_or_insert(version);
        }
    }

    /// A client was given a sandbox.
    pub(super) fn answered(&mut self, client: usize, id: &str, key: &str) {
        let answer = Answer { id: id.to_owned(), key: key.to_owned(), is_killed: false };
        match self.answers.get(&client) {
            Some(earlier) if earlier.id != id => {
                self.faults.push(format!("client {client} was given {} and {id} for one key", earlier.id));
            }
            Some(_) => {}
            None => drop(self.answers.insert(client, answer)),
        }
    }

    /// A client is about to kill its sandbox, which must be there until then.
    pub(super) fn kill_begins(&mut self, client: usize) {
        let Some(answer) = self.answers.get_mut(&client) else { return };
        answer.is_killed = true;
        let id = answer.id.clone();
        if self.lives_of(client).any(|life| life.last.id == id && life.ended.is_some()) {
            self.faults.push(format!("{id} has ended before its client {client} killed it"));
        }
    }

    /// A client is told that its sandbox is not there, though no kill of its own can have succeeded. Returns true if that
    /// is so, which is a fault. Otherwise the replica does not see it yet.
    pub(super) fn is_missing(&mut self, client: usize) -> bool {
        let Some(Answer { id, .. }) = self.answers.get(&client).cloned() else { return false };
        let is_missing = self.lives_of(client).any(|life| life.last.id == id && life.ended.is_some());
        if is_missing {
            self.faults.push(format!("{id} has ended, and its client {client} has not killed it yet"));
        }
        is_missing
    }

    /// The connection of a client broke before it had an answer.
    pub(super) fn lost(&mut self, client: usize) {
        self.lost.insert(client);
    }

    fn lives_of(&self, client: usize) -> impl Iterator<Item = &Life> {
        self.of_clients.get(&client).into_iter().flatten().filter_map(|uid| self.lives.get(uid))
    }

    /// The UIDs and versions of the sandboxes that exist.
    pub(super) fn existing(&self) -> BTreeMap<String, u64> {
        let alive = self.lives.iter().filter(|(_, life)| life.ended.is_none());
        alive.map(|(uid, life)| (uid.clone(), life.last.version)).collect()
    }

    /// The locked sandboxes that their clients do not know of and whose connections did not break: what is left.
    pub(super) fn left(&self) -> Vec<String> {
        self.locked().filter(|life| !self.is_kept(life) && !self.is_lost(life)).map(describe).collect()
    }

    /// The ids and owners of the locked sandboxes whose clients were not told because their connections broke.
    pub(super) fn orphans(&self) -> Vec<(String, String)> {
        let orphans = self.locked().filter(|life| self.is_lost(life));
        orphans.map(|life| (life.last.id.clone(), life.last.owner.clone().unwrap_or_default())).collect()
    }

    fn locked(&self) -> impl Iterator<Item = &Life> {
        self.lives.values().filter(|life| life.ended.is_none() && !life.locks.is_empty())
    }

    fn is_kept(&self, life: &Life) -> bool {
        let answer = life.last.client.and_then(|client| self.answers.get(&client));
        answer.is_some_and(|answer| answer.id == life.last.id && !answer.is_killed)
    }

    fn is_lost(&self, life: &Life) -> bool {
        !self.is_kept(life) && life.last.client.is_some_and(|client| self.lost.contains(&client))
    }

    /// All that is wrong with the history, at the end.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let mut given: BTreeMap<&str, usize> = BTreeMap::new();
        for (client, answer) in &self.answers {
            let lives: Vec<_> = self.lives_of(*client).collect();
            let Some(life) = lives.iter().find(|life| life.last.id == answer.id) else {
                faults.push(format!("client {client} was given {}, which was never its own", answer.id));
                continue;
            };
            if let Some(other) = given.insert(&life.last.uid, *client) {
                faults.push(format!("{} was given to the clients {other} and {client}", answer.id));
            }
            if life.locks.iter().any(|(_, owner, _)| *owner != answer.key) {
                faults.push(format!("{} was given to {}: {}", answer.id, answer.key, describe(life)));
            }
            if life.ended.is_some() && !answer.is_killed {
                faults.push(format!("{} has ended, and its client {client} did not kill it", answer.id));
            }
            faults.extend(second_of(*client, life, &lives));
        }
        faults
    }

    pub(super) fn summary(&self) -> Summary {
        Summary {
            sandboxes: self.lives.len(),
            locked: self.lives.values().filter(|life| !life.locks.is_empty()).count(),
            answered: self.answers.len(),
            kept: self.locked().filter(|life| self.is_kept(life)).count(),
            lost: self.orphans().len(),
        }
    }
}

/// A client was given a sandbox while an earlier one of its create was there: it should have been given that one.
fn second_of(client: usize, life: &Life, lives: &[&Life]) -> Option<String> {
    let locked_at = |life: &Life| life.locks.first().map(|(_, _, version)| *version);
    let own = locked_at(life)?;
    let earlier = lives.iter().find(|other| {
        locked_at(other).is_some_and(|at| at < own) && other.ended.is_none_or(|ended| ended > own)
    })?;
    let (id, first) = (&life.last.id, &earlier.last.id);
    Some(format!("client {client} was given {id}, a second sandbox, while {first} was there"))
}

fn describe(life: &Life) -> String {
    let (id, client) = (&life.last.id, life.last.client);
    format!("{id} of client {client:?}, locked {:?}", life.locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lock `lock` of client 1 with the key `key` in a sandbox.
    fn locked(uid: &str, version: u64, lock: &str) -> State {
        State {
            lock: Some(lock.to_owned()),
            owner: Some("key".to_owned()),
            is_claimed: true,
            client: Some(1),
            ..free(uid, version)
        }
    }

    fn free(uid: &str, version: u64) -> State {
        State { uid: uid.to_owned(), id: format!("ns--{uid}"), version, ..State::default() }
    }

    fn deleting(state: State) -> State {
        State { is_deleting: true, ..state }
    }

    fn ledger(states: impl IntoIterator<Item = State>) -> Ledger {
        let mut ledger = Ledger::default();
        states.into_iter().for_each(|state| ledger.see(state));
        ledger
    }

    #[track_caller]
    fn assert_fault(ledger: &Ledger, text: &str) {
        let faults = ledger.faults();
        assert!(faults.len() == 1 && faults[0].contains(text), "{faults:?}");
    }

    #[test]
    fn a_claim_that_is_answered_and_killed_has_no_fault_and_leaves_nothing() {
        let mut ledger = ledger([free("a", 1), locked("a", 2, "l"), locked("a", 3, "l")]);
        ledger.answered(1, "ns--a", "key");
        assert_eq!((ledger.faults().len(), ledger.left().len(), ledger.summary().kept), (0, 0, 1));
        ledger.kill_begins(1);
        assert_eq!(ledger.left().len(), 1, "until it is deleted");
        ledger.see(deleting(locked("a", 4, "l")));
        ledger.gone("a", 5);
        assert_eq!((ledger.faults().len(), ledger.left().len()), (0, 0));
    }

    #[test]
    fn a_second_lock_or_owner_is_found() {
        assert_fault(&ledger([locked("a", 1, "l"), locked("a", 2, "m")]), "given twice");
        let stolen = State { owner: Some("other".to_owned()), ..locked("a", 2, "l") };
        assert_fault(&ledger([locked("a", 1, "l"), stolen]), "given twice");
    }

    #[test]
    fn a_lock_that_vanishes_and_a_claim_without_lock_are_found() {
        assert_fault(&ledger([locked("a", 1, "l"), free("a", 2)]), "lost its lock");
        assert_fault(&ledger([State { is_claimed: true, ..free("a", 1) }]), "without a lock");
    }

    #[test]
    fn states_in_the_wrong_order_are_found() {
        assert_fault(&ledger([free("a", 2), free("a", 2)]), "version 2 after 2");
    }

    #[test]
    fn an_answer_must_name_a_sandbox_of_its_client_and_key() {
        let mut of_nobody = ledger([free("a", 1)]);
        of_nobody.answered(1, "ns--a", "key");
        assert_fault(&of_nobody, "never its own");
        let mut of_another = ledger([locked("a", 1, "l")]);
        of_another.answered(2, "ns--a", "key");
        assert_fault(&of_another, "never its own");
        let mut of_another_key = ledger([locked("a", 1, "l")]);
        of_another_key.answered(1, "ns--a", "other");
        assert_fault(&of_another_key, "was given to other");
    }

    #[test]
    fn a_sandbox_that_ends_before_its_client_kills_it_is_found() {
        let mut killed_late = ledger([locked("a", 1, "l"), deleting(locked("a", 2, "l"))]);
        killed_late.answered(1, "ns--a", "key");
        assert_fault(&killed_late, "did not kill it");
        killed_late.kill_begins(1);
        assert_fault(&killed_late, "before its client 1 killed it");
    }

    #[test]
    fn a_lock_that_nobody_was_told_of_is_left_unless_a_connection_broke() {
        let mut ledger = ledger([locked("a", 1, "l")]);
        assert_eq!(ledger.left().len(), 1);
        ledger.lost(1);
        assert_eq!((ledger.left().len(), ledger.orphans().len()), (0, 1));
    }

    #[test]
    fn a_second_sandbox_of_one_create_is_found_only_while_the_first_is_there() {
        let mut second = ledger([locked("a", 1, "l"), locked("b", 2, "m")]);
        second.lost(1);
        second.answered(1, "ns--b", "key");
        assert_fault(&second, "a second sandbox");
        let mut undone = ledger([locked("a", 1, "l"), deleting(locked("a", 2, "l")), locked("b", 3, "m")]);
        undone.answered(1, "ns--b", "key");
        assert_eq!(undone.faults(), Vec::<String>::new());
        undone.answered(1, "ns--a", "key");
        assert_fault(&undone, "for one key");
    }
}
