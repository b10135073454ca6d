//! Random runs of several candidates with frozen networks, pauses, and a failing API server.

use std::time::Duration;

use memory_apiserver::{ApiServer, Fault, FaultPlan, On, RequestFault, Times};
use proptest::prelude::*;
use tokio::time::sleep;

use super::support::{Candidate, SECOND, lease, options};

/// How often the candidates are looked at.
const STEP: Duration = Duration::from_millis(200);

const CANDIDATES: usize = 4;

/// What happens to a candidate, or to the API server.
#[derive(Clone, Debug)]
enum Act {
    Freeze(usize),
    Thaw(usize),
    /// The process is stopped.
    Pause(usize),
    Continue(usize),
    /// The process is killed and started again.
    Restart(usize),
    /// The process stops in order and is started again.
    Release(usize),
    /// The API server fails some requests from now on.
    Fail(RequestFault, u64),
    Heal,
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop_oneof![
        (1..8000u64).prop_map(|millis| RequestFault::Delay(Duration::from_millis(millis))),
        Just(RequestFault::Drop),
        Just(RequestFault::DropAnswer),
        Just(RequestFault::Silence),
        Just(RequestFault::Answer { code: 500, retry_after: None }),
        Just(RequestFault::Answer { code: 409, retry_after: None }),
    ];
    let who = 0..CANDIDATES;
    prop_oneof![
        2 => who.clone().prop_map(Act::Freeze),
        2 => who.clone().prop_map(Act::Thaw),
        2 => who.clone().prop_map(Act::Pause),
        2 => who.clone().prop_map(Act::Continue),
        1 => who.clone().prop_map(Act::Restart),
        1 => who.prop_map(Act::Release),
        2 => (fault, 1..4u64).prop_map(|(fault, every)| Act::Fail(fault, every)),
        2 => Just(Act::Heal),
    ]
}

struct Run {
    server: ApiServer,
    candidates: Vec<Candidate>,
    started: usize,
}

impl Run {
    fn new() -> Self {
        let mut run = Self { server: ApiServer::new(), candidates: Vec::new(), started: 0 };
        for _ in 0..CANDIDATES {
            let candidate = run.start();
            run.candidates.push(candidate);
        }
        run
    }

    fn start(&mut self) -> Candidate {
        self.started += 1;
        // Clocks have nothing in common.
        let offset = 1000 * SECOND * u32::try_from(self.started).unwrap();
        Candidate::start_with(self.server.client(), options(&format!("candidate-{}", self.started)), offset)
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Freeze(who) => self.candidates[*who].network.freeze(true),
            Act::Thaw(who) => self.candidates[*who].network.freeze(false),
            Act::Pause(who) => self.candidates[*who].process.pause(true),
            Act::Continue(who) => self.candidates[*who].process.pause(false),
            Act::Restart(who) => self.candidates[*who] = self.start(),
            Act::Release(who) => {
                let new = self.start();
                let old = std::mem::replace(&mut self.candidates[*who], new);
                tokio::spawn(old.leadership.release());
            }
            Act::Fail(fault, every) => {
                let (on, times) = (On::kind("leases"), Times::Every(*every));
                self.server.inject(&FaultPlan::new(vec![Fault::Request { on, times, then: fault.clone() }]));
            }
            Act::Heal => self.server.clear_faults(),
        }
    }

    fn writers(&self) -> usize {
        self.candidates.iter().filter(|candidate| candidate.may_write()).count()
    }

    /// At most one candidate may write at any moment of this time. Those that have lost are started anew.
    async fn watch(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            assert!(self.writers() <= 1, "{} leaders", self.writers());
            for who in 0..CANDIDATES {
                let lost = tokio::time::timeout(Duration::ZERO, self.candidates[who].leadership.lost()).await;
                if lost.is_ok() {
                    self.candidates[who] = self.start();
                }
            }
            sleep(STEP.min(left)).await;
            left = left.saturating_sub(STEP);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_any_moment_at_most_one_candidate_may_write_and_in_the_end_one_does(
        acts in prop::collection::vec((act(), 0..12_000u64), 1..24)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut run = Run::new();
            for (act, millis) in &acts {
                run.act(act);
                run.watch(Duration::from_millis(*millis)).await;
            }
            run.server.clear_faults();
            for candidate in &run.candidates {
                candidate.network.freeze(false);
                candidate.process.pause(false);
            }
            run.watch(60 * SECOND).await;
            assert_eq!(run.writers(), 1, "{:?}", lease(&run.server).await);
        });
    }
}
