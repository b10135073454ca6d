//! The leader of two replicas of the binary goes while a pool grows: the other one goes on where it was, and by the log of
//! the API server no write of the old leader comes after the first one of the new leader, but for what a stopped process
//! has under way.
//!
//! Each replica is a user of its own, so that the log tells them apart. The new one is started again when it ends, as a
//! Deployment does: on a machine that is too busy to renew a lease in time, it loses its own, too.

use anyhow::ensure;
use kube::config::Kubeconfig;
use sandbox_manager::api::v1alpha1::Sandbox;

use super::super::pool_rig::spec;
use super::outage::{SLOW, has_begun};
use super::pool::{DEADLINE, Pool};
use crate::support::{AuditedRequest, Process, Proxy, eventually};

const REPLICAS: usize = 200;

/// Writes that a process may have handed to its connection when it is stopped. They are sent when it goes on, before it
/// can look at the time.
const MOST_UNDER_WAY: usize = 3;

/// A leader in the middle of a scale-up, and a follower.
struct Replicas {
    pool: Pool,
    old: Process,
    new: Process,
}

impl Replicas {
    /// Starts both, the leader with the kubeconfig that `lead` makes of its own, and returns in the middle of a scale-up.
    async fn start(pool: Pool, lead: impl FnOnce(Kubeconfig) -> Kubeconfig) -> Self {
        let kubeconfig = user_with_kubeconfig(&pool, "old").await;
        let old = start(&pool, &lead(kubeconfig)).await;
        eventually("the first replica leads", DEADLINE, async || ensure_leads(&old).await).await;
        let new = start(&pool, &user_with_kubeconfig(&pool, "new").await).await;

        pool.create_set(spec(0, "first")).await;
        pool.is_full(0).await;
        pool.scale(i32::try_from(REPLICAS).unwrap()).await;
        has_begun(&pool, 30).await;
        Self { pool, old, new }
    }

    /// Waits until the new leader has filled the pool, which was not full when it took over.
    async fn is_taken_over(&mut self) {
        let ready = self.pool.list::<Sandbox>().await.unwrap();
        let ready = ready.iter().filter(|sandbox| sandbox.is_ready()).count();
        assert!(ready < REPLICAS, "the pool was full before the leader went");
        tokio::select! {
            () = self.pool.is_full(REPLICAS) => {}
            () = keep_running(&self.pool, &mut self.new) => {}
        }
    }

    /// No write of the old leader after the first one of the new but so many, exactly so many members, and never more.
    async fn is_exact(&self, most_late: usize) {
        let [old, new] = ["old", "new"].map(|name| self.writes(name));
        let first = new.first().expect("writes of the new leader");
        let late: Vec<_> = old.iter().filter(|write| write.place >= first.place).collect();
        assert!(late.len() <= most_late, "after {first:?}, the old leader wrote {late:?}");
        for (name, writes) in [("old", &old), ("new", &new)] {
            let created =
                writes.iter().filter(|write| write.verb == "create" && write.resource == "sandboxes");
            assert!(created.count() > 0, "the {name} leader created nothing: {writes:?}");
        }
        self.pool.is_full(REPLICAS).await;
        let most = self.pool.observer.take_most();
        assert!((REPLICAS..=REPLICAS + late.len()).contains(&most), "{most} members at one time");
    }

    /// What a replica has written, without its events and the Lease, for which a follower tries, too.
    fn writes(&self, name: &str) -> Vec<AuditedRequest> {
        let all = self.pool.cluster.requests(&user(&self.pool, name)).into_iter();
        all.filter(|request| request.is_write() && !matches!(request.resource.as_str(), "leases" | "events"))
            .collect()
    }
}

fn user(pool: &Pool, name: &str) -> String {
    format!("{name}-of-{}", pool.namespace)
}

/// Creates a user who may do everything in the namespace.
async fn user_with_kubeconfig(pool: &Pool, name: &str) -> Kubeconfig {
    let user = user(pool, name);
    pool.cluster.grant_all_in(&user, &pool.namespace).await;
    pool.cluster.kubeconfig(&user).await
}

async fn start(pool: &Pool, kubeconfig: &Kubeconfig) -> Process {
    let election = format!("leaderElection: {{ enabled: true, namespace: {} }}", pool.namespace);
    let process = Process::start(kubeconfig, &pool.config(&format!("{SLOW}\n{election}"))).await;
    process.becomes_ready().await;
    process
}

/// Starts the new replica again whenever it has ended. Never returns.
async fn keep_running(pool: &Pool, new: &mut Process) {
    loop {
        eventually("the new replica ends", 2 * DEADLINE, async || {
            ensure!(new.has_ended(), "it runs");
            Ok(())
        })
        .await;
        *new = start(pool, &pool.cluster.kubeconfig(&user(pool, "new")).await).await;
    }
}

async fn ensure_leads(process: &Process) -> anyhow::Result<()> {
    let labels = [("name", "sandbox-manager")];
    let leads = process.samples().await?.value("leader_election_master_status", &labels)?;
    ensure!(leads > 0.5, "it does not lead");
    Ok(())
}

/// Waits until a replica has ended because it has lost the lease.
async fn has_lost(process: &mut Process) {
    let status = process.ended().await;
    assert_eq!(status.code(), Some(1), "{}", process.log());
    let log = process.log();
    assert!(log.contains("error: lost the lease "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lc1_lc2_a_scale_up_ends_with_the_exact_number_when_the_leader_is_killed_meanwhile() {
    let mut replicas = Replicas::start(Pool::shared().await, |own| own).await;
    replicas.old.signal("KILL").await;
    replicas.old.ended().await;
    replicas.is_taken_over().await;
    replicas.is_exact(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lc1_lc2_a_scale_up_ends_with_the_exact_number_when_the_leader_is_stopped_past_its_lease() {
    let mut replicas = Replicas::start(Pool::shared().await, |own| own).await;
    replicas.old.signal("STOP").await;
    replicas.is_taken_over().await;
    replicas.old.signal("CONT").await;
    has_lost(&mut replicas.old).await;
    replicas.is_exact(MOST_UNDER_WAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lc1_lc2_a_scale_up_ends_with_the_exact_number_when_the_network_of_the_leader_is_frozen() {
    let pool = Pool::shared().await;
    let proxy = Proxy::to(&pool.cluster).await;
    let mut replicas = Replicas::start(pool, |own| proxy.lead(own)).await;
    proxy.freeze();
    has_lost(&mut replicas.old).await;
    replicas.is_taken_over().await;
    replicas.is_exact(0).await;
}
