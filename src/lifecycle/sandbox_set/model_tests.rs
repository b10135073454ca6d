//! Random schedules of passes, claims, deaths and lost answers on a model of the API server and of a cache that lags.
//!
//! Checked after each pass: no claimed or locked sandbox is deleted, and no limit is exceeded. Checked at the end: once
//! the faults stop, the set comes to rest with exactly the members and the status that its spec asks for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use shared_cache::version_of;
use tokio::time::Instant;

use super::decide::{Decision, Observed, decide};
use super::members::{Counts, Member, Unseen};
use super::memory::Memory;
use super::rollout::{self, Cause};
use super::template::Template;
use super::test_support::{self, SandboxChanges as _, member, sandbox_template, wall};
use super::{blueprint, revision};
use crate::api::v1alpha1::{
    ANNOTATION_LOCK, ANNOTATION_OWNER, OWNER_SCALE_DOWN, Sandbox, SandboxSet, SandboxTemplate, StateKind,
};

/// The revision of another controller.
const FOREIGN: &str = "5844467cf5";

/// The replicas at the beginning.
const REPLICAS: i32 = 5;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    /// Executed, but the answer is lost.
    AnswerLost,
    /// Not executed, and nobody knows.
    Lost,
    /// Refused by the API server.
    Refused,
}

#[derive(Clone, Debug)]
enum Step {
    /// One pass, and what becomes of its creations in turn.
    Pass(Vec<Fate>),
    /// The cache sees everything.
    Sync,
    /// The cache sees the n-th sandbox.
    SyncOne(usize),
    Claim(usize),
    LockByClaimant(usize),
    /// Somebody removes the lock of the n-th member that the set has locked.
    Rescue(usize),
    Ready(usize),
    Die(usize),
    Replicas(i32),
    /// The template of the set changes, or the SandboxTemplate that the set refers to.
    Template(usize),
    /// The SandboxTemplate is deleted.
    LoseTemplate,
    /// Another process goes on.
    Restart,
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        6 => Just(Fate::Done),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::Lost),
        1 => Just(Fate::Refused),
    ];
    let which = || 0..12_usize;
    prop_oneof![
        8 => prop::collection::vec(fate, 1..4).prop_map(Step::Pass),
        4 => Just(Step::Sync),
        2 => which().prop_map(Step::SyncOne),
        3 => which().prop_map(Step::Claim),
        1 => which().prop_map(Step::LockByClaimant),
        2 => which().prop_map(Step::Rescue),
        6 => which().prop_map(Step::Ready),
        2 => which().prop_map(Step::Die),
        1 => (0..10_i32).prop_map(Step::Replicas),
        1 => (0..3_usize).prop_map(Step::Template),
        1 => Just(Step::LoseTemplate),
        1 => Just(Step::Restart),
        2 => (1..20_u64).prop_map(Step::Advance),
    ]
}

/// The API server, the cache, and the memory of the set.
struct World {
    set: SandboxSet,
    /// The SandboxTemplate that the set may refer to.
    gold: Option<SandboxTemplate>,
    /// True if the SandboxTemplate was edited since the last pass.
    is_edit_unseen: bool,
    /// True if the process has seen the SandboxTemplate.
    is_adopted: bool,
    /// True if a process has first seen the SandboxTemplate after an edit that no process has seen: it takes the foreign
    /// members for up to date.
    has_missed_edit: bool,
    server: BTreeMap<String, Arc<Sandbox>>,
    cache: BTreeMap<String, Arc<Sandbox>>,
    memory: Memory,
    now: Instant,
    version: u64,
    /// Number of deletions of dead and locked members. Every fifth is refused.
    deletions: u64,
    /// The version up to which the cache has seen everything.
    synced: u64,
}

impl World {
    fn new(scale_limit: Option<i32>, update_limit: Option<i32>, is_referring: bool) -> Self {
        let mut set = if is_referring {
            test_support::referring_set(REPLICAS)
        } else {
            test_support::set(REPLICAS, "image-0")
        };
        let strategy = |limit: Option<i32>| serde_json::json!({ "maxUnavailable": limit });
        set.spec.scale_strategy = serde_json::from_value(strategy(scale_limit)).unwrap();
        set.spec.update_strategy = serde_json::from_value(strategy(update_limit)).unwrap();
        let now = Instant::now();
        let memory = Memory::new(&set, now);
        let gold = Some(sandbox_template("image-0"));
        Self {
            set,
            gold,
            is_edit_unseen: false,
            is_adopted: false,
            has_missed_edit: false,
            server: BTreeMap::new(),
            cache: BTreeMap::new(),
            memory,
            now,
            version: 1,
            deletions: 0,
            synced: 0,
        }
    }

    /// Fills the pool as another controller has done it, and lets the set take it over.
    fn take_over(&mut self) {
        for i in 0..REPLICAS {
            let mut sandbox = blueprint::prototype(&self.set, FOREIGN).ready();
            sandbox.metadata.name = Some(format!("foreign-{i}"));
            sandbox.metadata.uid = Some(format!("uid-foreign-{i}"));
            self.write(sandbox);
        }
        let status = self.set.status.get_or_insert_default();
        (status.update_revision, status.observed_generation) = (Some(FOREIGN.to_owned()), Some(1));
        self.sync();
        let decision = self.pass(&[]).unwrap();
        assert!(decision.is_idle(), "ls7: {decision:?}");
        assert_eq!(decision.status.update_revision.as_deref(), Some(FOREIGN), "ls4");
        assert_eq!(decision.status.updated_available_replicas, Some(REPLICAS));
    }

    fn template(&self) -> Template {
        Template::of(&self.set, self.gold.clone().map(Arc::new))
    }

    /// Writes a sandbox with a new version.
    fn write(&mut self, mut sandbox: Sandbox) -> Arc<Sandbox> {
        self.version += 1;
        sandbox.metadata.resource_version = Some(self.version.to_string());
        let sandbox = Arc::new(sandbox);
        self.server.insert(sandbox.name_or_empty().to_owned(), Arc::clone(&sandbox));
        sandbox
    }

    fn change(&mut self, name: &str, change: impl FnOnce(Sandbox) -> Sandbox) {
        let old = Sandbox::clone(&self.server[name]);
        self.write(change(old));
    }

    /// Returns the n-th of the sandboxes of a state that nobody has locked.
    fn pick(&self, n: usize, kind: StateKind) -> Option<String> {
        let free = |sandbox: &&Arc<Sandbox>| {
            sandbox.state(wall()).kind == kind && sandbox.owner().is_none() && !sandbox.is_claimed()
        };
        let names: Vec<_> =
            self.server.values().filter(free).map(|sandbox| sandbox.name_or_empty()).collect();
        (!names.is_empty()).then(|| names[n % names.len()].to_owned())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Pass(fates) => {
                self.pass(&fates);
            }
            Step::Sync => self.sync(),
            Step::SyncOne(n) => {
                let names: Vec<_> = self.server.keys().chain(self.cache.keys()).cloned().collect();
                if let Some(name) = names.get(n % names.len().max(1)) {
                    match self.server.get(name) {
                        Some(sandbox) => self.cache.insert(name.clone(), Arc::clone(sandbox)),
                        None => self.cache.remove(name),
                    };
                }
            }
            Step::Claim(n) => self.change_one(n, StateKind::Available, Sandbox::claimed),
            Step::LockByClaimant(n) => {
                self.change_one(n, StateKind::Available, |sandbox| sandbox.locked_by("user"));
            }
            Step::Rescue(n) => self.rescue(n),
            Step::Ready(n) => self.change_one(n, StateKind::Creating, Sandbox::ready),
            Step::Die(n) => {
                let kind = if n % 2 == 0 { StateKind::Available } else { StateKind::Creating };
                self.change_one(n, kind, |sandbox| sandbox.failed("m"));
            }
            Step::Replicas(replicas) => {
                self.set.spec.replicas = Some(replicas);
                self.new_generation();
            }
            Step::Template(n) => self.edit(&format!("image-{n}")),
            Step::LoseTemplate => self.gold = None,
            Step::Restart => self.restart(),
            Step::Advance(seconds) => self.now += Duration::from_secs(seconds),
        }
    }

    /// Removes a lock of the set. The cache sees that at once: meanwhile the set would rightly create another member.
    fn rescue(&mut self, n: usize) {
        let locked = self.server.values().filter(|sandbox| sandbox.owner() == Some(OWNER_SCALE_DOWN));
        let names: Vec<_> = locked.map(|sandbox| sandbox.name_or_empty().to_owned()).collect();
        let Some(name) = names.get(n % names.len().max(1)) else { return };
        self.change(name, |mut sandbox| {
            sandbox
                .metadata
                .annotations
                .as_mut()
                .unwrap()
                .retain(|key, _| key != ANNOTATION_LOCK && key != ANNOTATION_OWNER);
            sandbox
        });
        self.cache.insert(name.clone(), Arc::clone(&self.server[name]));
    }

    fn edit(&mut self, image: &str) {
        self.gold = Some(sandbox_template(image));
        self.is_edit_unseen = true;
        self.has_missed_edit |= !self.is_adopted;
        if self.set.spec.template.is_some() {
            self.set.spec.template = test_support::set(0, image).spec.template;
            self.new_generation();
        }
    }

    /// Another process begins with what the API server has: it reads the members before it creates the first one.
    fn restart(&mut self) {
        self.has_missed_edit |= self.is_edit_unseen || self.gold.is_none();
        self.is_adopted = false;
        self.memory = Memory::new(&self.set, self.now);
        self.sync();
    }

    fn sync(&mut self) {
        self.cache = self.server.clone();
        self.synced = self.version;
    }

    fn change_one(&mut self, n: usize, kind: StateKind, change: impl FnOnce(Sandbox) -> Sandbox) {
        if let Some(name) = self.pick(n, kind) {
            self.change(&name, change);
        }
    }

    fn new_generation(&mut self) {
        self.set.metadata.generation = self.set.metadata.generation.map(|generation| generation + 1);
    }

    /// One pass, as the reconciler does it. Returns the decision, if it came to one.
    fn pass(&mut self, fates: &[Fate]) -> Option<Decision> {
        let (cache, synced) = (&self.cache, self.synced);
        self.memory.creations.forget_seen(|name, creation| {
            let version = creation.created().and_then(|created| version_of(&**created));
            cache.contains_key(name) || version.is_some_and(|version| version <= synced)
        });
        let is_member = |sandbox: &&Arc<Sandbox>| sandbox.is_controlled_by_sandbox_set();
        let sandboxes: Vec<_> = self.cache.values().filter(is_member).cloned().collect();
        let template = self.template();
        let members = sandboxes.iter().map(|sandbox| &**sandbox);
        let revision = self.memory.revision(&self.set, &template, members);
        self.is_adopted |= self.gold.is_some();
        let members = self.memory.members(sandboxes, &revision, (self.now, wall()));
        let unseen = self.memory.creations.unseen(&members, &revision);
        if self.settle(&revision, Counts::of(&members, unseen)) {
            return None;
        }
        let refusals = self.memory.refusals.clone();
        let observed = Observed {
            set: &self.set,
            template: &template,
            revision: &revision,
            members: &members,
            unseen,
            refusals: &refusals,
            trouble: None,
            is_out_of_scope: false,
            now: self.now,
            wall: wall(),
        };
        let decision = decide(&observed, &mut self.memory.budget);
        self.check(&decision, &members, unseen);
        let before = self.counted();
        self.apply(&decision, &revision, fates);
        let replicas = usize::try_from(self.set.spec.replicas.unwrap()).unwrap();
        let after = self.counted();
        assert!(after <= replicas.max(before), "{before} members became {after}, of {replicas} replicas");
        self.set.status = Some(decision.status.clone());
        self.is_edit_unseen &= self.gold.is_none();
        Some(decision)
    }

    /// Number of sandboxes on the server that have a place in the pool.
    fn counted(&self) -> usize {
        let members = self.server.values().filter(|sandbox| sandbox.is_controlled_by_sandbox_set());
        members.filter(|sandbox| Member::new(Arc::clone(sandbox), "", wall()).is_counted()).count()
    }

    /// Checks the limits against what was observed.
    fn check(&self, decision: &Decision, members: &[Member], unseen: Unseen) {
        let counts = Counts::of(members, unseen);
        let replicas = usize::try_from(self.set.spec.replicas.unwrap()).unwrap();
        let most = rollout::max_unavailable_of_scale(&self.set, replicas);
        assert!(
            decision.create == 0 || counts.creating + decision.create <= most,
            "lp2: {} more than {} of {most}",
            decision.create,
            counts.creating
        );
        assert!(decision.create == 0 || counts.total() + decision.create <= replicas, "lp7");
        let replaces = decision.take_down.iter().any(|what| what.cause == Cause::Rollout);
        assert!(!self.template().is_absent() || (decision.create == 0 && !replaces), "ls2: {decision:?}");
        let limit =
            self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.max_unavailable.clone());
        let Some(k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(limit)) = limit else {
            return;
        };
        let floor = replicas.saturating_sub(usize::try_from(limit).unwrap()).min(counts.available);
        let rollouts = decision.take_down.iter().filter(|what| what.cause == Cause::Rollout);
        let available: usize =
            rollouts.filter(|what| what.candidates[0].is_ready()).map(|what| what.count).sum();
        assert!(counts.available - available >= floor, "lp5: {available} of {counts:?}");
    }

    /// Finds out what became of lost creations.
    fn settle(&mut self, revision: &Arc<str>, counts: Counts) -> bool {
        let replicas = usize::try_from(self.set.spec.replicas.unwrap()).unwrap();
        let unknown = self.memory.creations.unknown();
        // Passes in between must count them.
        if self.memory.settle_at.is_some_and(|at| self.now < at) {
            return false;
        }
        self.memory.settle_at = Some(self.now + Duration::from_secs(1));
        let mut did = false;
        for name in unknown {
            if let Some(sandbox) = self.server.get(&name) {
                self.memory.creations.created(&Arc::clone(sandbox));
                did = true;
            } else if counts.total() <= replicas
                && !self.template().is_absent()
                && self.memory.creations.revision(&name).as_ref() == Some(revision)
            {
                let sandbox = self.create(&name, revision);
                self.memory.creations.created(&sandbox);
                did = true;
            } else if !self.memory.creations.may_arrive(&name, self.now) {
                self.memory.creations.refused(&name);
                did = true;
            }
        }
        did
    }

    fn create(&mut self, name: &str, revision: &Arc<str>) -> Arc<Sandbox> {
        let mut sandbox = blueprint::prototype(&self.set, revision);
        sandbox.metadata.name = Some(name.to_owned());
        sandbox.metadata.uid = Some(format!("uid-{name}"));
        self.write(sandbox)
    }

    fn apply(&mut self, decision: &Decision, revision: &Arc<str>, fates: &[Fate]) {
        for sandbox in decision.finish.iter().chain(&decision.bury) {
            self.deletions += 1;
            let live = self.server.get(sandbox.name_or_empty());
            match live {
                Some(live) if live.metadata.resource_version != sandbox.metadata.resource_version => {
                    self.memory.outdated(sandbox);
                }
                Some(_) if self.deletions.is_multiple_of(5) => {
                    self.memory.deletion_refused(sandbox, self.now, "policy".to_owned());
                }
                _ => self.delete(sandbox),
            }
        }
        for what in &decision.take_down {
            let mut left = what.count;
            for sandbox in &what.candidates {
                if left == 0 {
                    break;
                }
                left -= usize::from(self.lock_and_delete(sandbox));
            }
        }
        for i in 0..decision.create {
            let name = blueprint::new_name(&self.set);
            self.memory.creations.send(&name, revision, self.now);
            match fates.get(i % fates.len().max(1)).copied().unwrap_or(Fate::Done) {
                Fate::Done => {
                    let sandbox = self.create(&name, revision);
                    self.memory.creations.created(&sandbox);
                    self.memory.refusals.reset();
                }
                Fate::AnswerLost => drop(self.create(&name, revision)),
                Fate::Lost => {}
                Fate::Refused => {
                    self.memory.creations.refused(&name);
                    self.memory.refusals.failed(self.now, "quota".to_owned());
                }
            }
        }
    }

    /// Returns false if somebody has changed the sandbox.
    fn lock_and_delete(&mut self, sandbox: &Arc<Sandbox>) -> bool {
        let Some(live) = self.server.get(sandbox.name_or_empty()) else {
            self.memory.deleted(sandbox);
            return true;
        };
        if live.metadata.resource_version != sandbox.metadata.resource_version {
            self.memory.outdated(sandbox);
            return false;
        }
        self.change(sandbox.name_or_empty(), |sandbox| sandbox.locked_by(OWNER_SCALE_DOWN));
        // Every fourth deletion is lost.
        if self.version.is_multiple_of(4) {
            self.memory.locked(&self.server[sandbox.name_or_empty()], self.now);
        } else {
            self.delete(sandbox);
        }
        true
    }

    fn delete(&mut self, sandbox: &Arc<Sandbox>) {
        if let Some(live) = self.server.remove(sandbox.name_or_empty()) {
            assert!(!live.is_claimed(), "a claimed sandbox is deleted");
            assert_ne!(live.owner(), Some("user"), "a sandbox that a claimant has locked is deleted");
        }
        self.memory.deleted(sandbox);
    }

    /// Lets everything end well: the cache sees everything, members become ready, claimants finish their claims.
    fn come_to_rest(&mut self) -> bool {
        self.gold.get_or_insert_with(|| sandbox_template("image-0"));
        for _ in 0..200 {
            for sandbox in self.server.values().cloned().collect::<Vec<_>>() {
                let name = sandbox.name_or_empty();
                if sandbox.owner() == Some("user") && !sandbox.is_claimed() {
                    self.change(name, Sandbox::claimed);
                } else if sandbox.owner().is_none() && sandbox.state(wall()).kind == StateKind::Creating {
                    self.change(name, Sandbox::ready);
                }
            }
            self.sync();
            self.now += Duration::from_mins(1);
            let known = self.set.status.clone();
            let decision = self.pass(&[Fate::Done]);
            let rests = decision.is_some_and(|decision| decision.is_idle() && decision.requeue.is_none());
            if rests && self.set.status == known {
                return true;
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn lp_every_schedule_keeps_the_limits_and_comes_to_rest(
        scale_limit in prop::option::of(1..4_i32),
        update_limit in prop::option::of(1..4_i32),
        (is_referring, is_foreign) in any::<(bool, bool)>(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let mut world = World::new(scale_limit, update_limit, is_referring);
            let first = revision::own(&world.set, &world.template());
            if is_foreign {
                world.take_over();
            }
            for step in steps {
                world.step(step);
            }
            assert!(world.come_to_rest(), "it never rests: {:?}", world.set.status);
            let replicas = world.set.spec.replicas.unwrap();
            let revision = revision::own(&world.set, &world.template());
            let status = world.set.status.clone().unwrap();
            let numbers = (status.replicas, status.available_replicas);
            assert_eq!(numbers, (replicas, replicas));
            let updated = (status.updated_replicas, status.updated_available_replicas);
            assert_eq!(updated, (Some(replicas), Some(replicas)), "all have the current revision");
            // What another controller has made stays as long as it is what the set describes.
            let may_be_foreign = is_foreign && (revision == first || world.has_missed_edit);
            let shown = status.update_revision.as_deref().unwrap();
            assert!(shown == &*revision || (shown == FOREIGN && may_be_foreign), "{shown}");
            assert_eq!(world.counted(), usize::try_from(replicas).unwrap());
        });
    }
}

/// The claimed sandboxes of the model are really not members.
#[test]
fn a_claimed_sandbox_of_the_model_is_no_member() {
    let set = test_support::set(1, "i");
    let sandbox = member(&set, "a").ready().claimed();
    assert!(!sandbox.is_controlled_by_sandbox_set() && sandbox.is_claimed());
}
