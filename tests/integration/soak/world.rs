//! [`World`]: the API server of a soak, the network to it, and the faults of both.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use memory_apiserver::{RequestFault, WatchFault};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use sandbox_manager::api::v1alpha1::crds;

use super::interceptor::Interceptor;
use crate::support::{ADMIN, Cluster, Proxy, SOON, eventually};

/// Name of the CRD of sandboxes.
const CRD: &str = "sandboxes.agents.kruise.io";

/// One fault. It lasts for the time that is given to [`World::strike`].
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// Connections break, and new ones are refused.
    Cut,
    /// All connections are silent, then go on.
    Stall,
    /// The present connections are silent for good. New ones work.
    HalfOpen,
    /// The API server is killed and restarted.
    Kill,
    /// The API server process is stopped, then goes on. Only a real one.
    Pause,
    /// The CRD has `served: false`.
    Unserved,
    /// Requests fail.
    Requests(RequestFault),
    /// Events fail.
    Events(WatchFault),
}

impl Fault {
    /// Returns true if watches live on and are silent. A consistency check may find that before the watch does, and then
    /// repairs the cache.
    pub(super) fn silences_watches(&self) -> bool {
        matches!(
            self,
            Self::Stall
                | Self::HalfOpen
                | Self::Pause
                | Self::Events(WatchFault::Silence | WatchFault::Hold(_))
        )
    }

    /// Returns each fault once, in random order.
    fn shuffled(chance: &mut StdRng, is_real: bool) -> Vec<Self> {
        let answer = |code, retry_after| Self::Requests(RequestFault::Answer { code, retry_after });
        let mut faults = vec![
            Self::Cut,
            Self::Stall,
            Self::HalfOpen,
            Self::Kill,
            Self::Unserved,
            answer(403, None),
            answer(404, None),
            answer(410, None),
            answer(429, Some(1)),
            answer(500, None),
            answer(503, Some(2)),
            answer(504, None),
            Self::Requests(RequestFault::Delay(Duration::from_millis(chance.random_range(1..3000)))),
            Self::Requests(RequestFault::Drop),
            Self::Events(WatchFault::End),
            Self::Events(WatchFault::Reset),
            Self::Events(WatchFault::MidLine),
            Self::Events(WatchFault::Expire),
            Self::Events(WatchFault::Hold(Duration::from_millis(chance.random_range(1..500)))),
            Self::Events(WatchFault::Silence),
            Self::Events(WatchFault::Duplicate),
            Self::Events(WatchFault::Reorder),
        ];
        if is_real {
            faults.push(Self::Pause);
        }
        faults.shuffle(chance);
        faults
    }
}

/// What a soak runs on.
pub(super) struct World {
    cluster: Cluster,
    proxy: Proxy,
    faults: Interceptor,
}

impl World {
    pub(super) async fn start(seed: u64) -> Self {
        let cluster = Cluster::start().await;
        cluster.install_crds(crds()).await;
        let proxy = Proxy::to(&cluster).await;
        Self { cluster, proxy, faults: Interceptor::new(seed) }
    }

    /// Returns a client that meets no fault but the end of the server.
    pub(super) async fn client(&self) -> Client {
        self.cluster.client().await
    }

    /// Returns a client that meets every fault.
    pub(super) async fn faulty_client(&self) -> Client {
        let client = Cluster::connect(self.proxy.lead(self.cluster.kubeconfig(ADMIN).await)).await;
        self.faults.wrap(&client)
    }

    /// Returns each fault that is possible here once, in random order.
    pub(super) fn shuffled_faults(&self, chance: &mut StdRng) -> Vec<Fault> {
        Fault::shuffled(chance, matches!(self.cluster, Cluster::Real(_)))
    }

    /// Lets a fault happen for a time. Afterwards everything is as before.
    pub(super) async fn strike(&self, fault: &Fault, time: Duration) {
        match fault {
            Fault::Cut => self.proxy.cut(),
            Fault::Stall | Fault::HalfOpen => self.proxy.stall(),
            Fault::Kill => self.cluster.kill_api_server().await,
            Fault::Pause => self.pause(true).await,
            Fault::Unserved => self.serve(false).await,
            Fault::Requests(fault) => self.faults.strike_requests(fault.clone()),
            Fault::Events(fault) => self.faults.strike_events(fault.clone()),
        }
        tokio::time::sleep(time).await;
        match fault {
            Fault::Cut => self.proxy.restore(),
            Fault::Stall => self.proxy.resume(),
            Fault::HalfOpen => {}
            Fault::Kill => self.cluster.start_api_server().await,
            Fault::Pause => self.pause(false).await,
            Fault::Unserved => self.serve(true).await,
            Fault::Requests(_) | Fault::Events(_) => self.faults.clear(),
        }
    }

    async fn pause(&self, pause: bool) {
        let Cluster::Real(server) = &self.cluster else { return };
        if pause {
            server.pause_api_server().await;
        } else {
            server.resume_api_server().await;
        }
    }

    /// Serves sandboxes, or not.
    async fn serve(&self, served: bool) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client().await);
        eventually(&format!("served: {served}"), SOON, async || {
            let mut crd = definitions.get(CRD).await?;
            crd.spec.versions[0].served = served;
            definitions.replace(CRD, &PostParams::default(), &crd).await?;
            Ok(())
        })
        .await;
    }
}
