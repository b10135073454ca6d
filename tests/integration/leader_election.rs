//! Two processes with leader election: the follower takes over, and the old leader has written its last by then.
//!
//! The processes are this test binary, which runs only [`child`]: the binary itself has no leader-only work yet. Every
//! write creates an object, so the resource versions show the order in which the API server has executed the writes.

use std::error::Error;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, ResourceExt as _};
use sandbox_manager::api::v1alpha1::crds;
use sandbox_manager::controller_manager::CancellationToken;
use sandbox_manager::{Manager, cli};

use crate::support::{ADMIN, CONFIG, Cluster, KUBECONFIG, Process, Proxy, SOON, eventually};

/// Pause between two writes of a leader.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);

/// Label with the name of the process that has written.
const WRITER: &str = "writer";

/// Not a test by itself: returns at once without the variable.
#[test]
fn child() {
    let (Ok(config), Ok(kubeconfig)) = (std::env::var(CONFIG), std::env::var(KUBECONFIG)) else { return };
    let arguments = ["program", "--config", &config, "--kubeconfig", &kubeconfig];
    let code = cli::run(arguments, |manager: &mut Manager| {
        let client = manager.leader_only_cache().client().clone();
        manager.add_leader_only_runnable(move |stop| write_until(stop, client));
    });
    eprintln!("ended with {code:?}");
}

/// Writes all the time, as the user of the kubeconfig's context. Goes on after an error: only the fence must stop it.
async fn write_until(stop: CancellationToken, client: Client) -> Result<(), Box<dyn Error + Send + Sync>> {
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let process = std::process::id().to_string();
    for number in 0_u64.. {
        let metadata = ObjectMeta {
            name: Some(format!("{process}-{number}")),
            labels: Some([(WRITER.to_owned(), process.clone())].into()),
            ..ObjectMeta::default()
        };
        if let Err(error) =
            api.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await
        {
            eprintln!("not written: {error}");
        }
        let _ = tokio::time::timeout(WRITE_INTERVAL, stop.cancelled()).await;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
    Ok(())
}

struct Fixture {
    cluster: Cluster,
    client: Client,
    namespace: String,
}

impl Fixture {
    async fn new() -> Self {
        let cluster = Cluster::shared().await;
        cluster.install_crds(crds()).await;
        let (client, namespace) = (cluster.client().await, cluster.namespace("election").await);
        Self { cluster, client, namespace }
    }

    async fn kubeconfig(&self) -> Kubeconfig {
        let mut kubeconfig = self.cluster.kubeconfig(ADMIN).await;
        for context in kubeconfig.contexts.iter_mut().filter_map(|named| named.context.as_mut()) {
            context.namespace = Some(self.namespace.clone());
        }
        kubeconfig
    }

    /// The times are short, and long enough for a busy machine.
    async fn start(&self, kubeconfig: &Kubeconfig) -> Process {
        let namespace = &self.namespace;
        let config = format!(
            "sandboxNamespace: {namespace}\nleaderElection: {{ enabled: true, namespace: {namespace}, \
             leaseDuration: 6s, renewDeadline: 4s, retryPeriod: 1s }}\n"
        );
        Process::start_test("leader_election::child", kubeconfig, &config).await
    }

    /// A leader that writes, and a follower that is ready.
    async fn leader_and_follower(&self, leader: &Kubeconfig) -> (Process, Process) {
        let leader = self.start(leader).await;
        self.writes(&leader).await;
        let follower = self.start(&self.kubeconfig().await).await;
        follower.becomes_ready().await;
        says(&follower, " leads\n").await;
        (leader, follower)
    }

    /// The resource versions of all writes of a process, in order.
    async fn versions(&self, process: &Process) -> Vec<u64> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let written = ListParams::default().labels(&format!("{WRITER}={}", process.id()));
        let written = api.list(&written).await.unwrap();
        let mut versions: Vec<u64> =
            written.iter().map(|map| map.resource_version().unwrap().parse().unwrap()).collect();
        versions.sort_unstable();
        versions
    }

    /// Waits until a process has written several times more.
    async fn writes(&self, process: &Process) {
        let before = self.versions(process).await.len();
        eventually("it writes", 2 * SOON, async || {
            let written = self.versions(process).await.len();
            ensure!(written > before + 5, "{written} writes, {before} before; it says: {}", process.log());
            Ok(())
        })
        .await;
    }

    /// No write of the old leader comes after the first one of the new leader.
    async fn is_handed_over(&self, old: &Process, new: &Process) {
        let (old, new) = (self.versions(old).await, self.versions(new).await);
        assert!(old.last().unwrap() < new.first().unwrap(), "{old:?} {new:?}");
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let spec = leases.get("sandbox-manager").await.unwrap().spec.unwrap();
        assert_eq!(spec.lease_transitions, Some(1));
    }
}

/// Waits until `/readyz?verbose` has this text in the line on the election. All the while the process must be ready.
async fn says(process: &Process, text: &str) {
    eventually(text, SOON, async || {
        let answer = process.get("/readyz?verbose").await?;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let line = answer.body.split_inclusive('\n').find(|line| line.starts_with("[+]leader-election ok: "));
        ensure!(line.context(answer.body.clone())?.ends_with(text), "{line:?}");
        Ok(())
    })
    .await;
}

/// Waits until a process has ended because it has lost the lease.
async fn has_lost(process: &mut Process) {
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.log());
    let log = process.log();
    let errors: Vec<_> = log.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: lost the lease election"), "{errors:?}");
    assert!(log.contains("ended with ExitCode(unix_exit_status(1))"), "{log}");
}

#[tokio::test]
async fn lc1_the_follower_takes_over_when_the_leader_is_killed() {
    let fixture = Fixture::new().await;
    let (mut leader, follower) = fixture.leader_and_follower(&fixture.kubeconfig().await).await;
    leader.signal("KILL").await;
    leader.ended().await;
    fixture.writes(&follower).await;
    fixture.is_handed_over(&leader, &follower).await;
    let status = follower.samples().await.unwrap();
    let labels = [("name", "sandbox-manager")];
    assert!(status.value("leader_election_master_status", &labels).unwrap() > 0.5);
}

#[tokio::test]
async fn lc1_a_leader_that_was_stopped_past_its_lease_writes_no_more() {
    let fixture = Fixture::new().await;
    let (mut leader, follower) = fixture.leader_and_follower(&fixture.kubeconfig().await).await;
    leader.signal("STOP").await;
    fixture.writes(&follower).await;
    leader.signal("CONT").await;
    has_lost(&mut leader).await;
    fixture.writes(&follower).await;
    fixture.is_handed_over(&leader, &follower).await;
}

#[tokio::test]
async fn lc1_a_leader_whose_network_is_frozen_ends_and_the_follower_takes_over() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::to(&fixture.cluster).await;
    let (mut leader, follower) = fixture.leader_and_follower(&proxy.lead(fixture.kubeconfig().await)).await;
    proxy.freeze();
    has_lost(&mut leader).await;
    fixture.writes(&follower).await;
    fixture.is_handed_over(&leader, &follower).await;
}

#[tokio::test]
async fn lc1_a_leader_that_is_asked_to_end_hands_over_at_once() {
    let fixture = Fixture::new().await;
    let (mut leader, follower) = fixture.leader_and_follower(&fixture.kubeconfig().await).await;
    leader.terminate().await;
    assert!(leader.log().contains("ended with ExitCode(unix_exit_status(0))"), "{}", leader.log());
    assert!(leader.log().contains("released the lease"), "{}", leader.log());
    fixture.writes(&follower).await;
    fixture.is_handed_over(&leader, &follower).await;
}
