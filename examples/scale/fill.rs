//! `fill`: how fast the lifecycle controllers fill a pool, and empty it.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use sandbox_manager::api::v1alpha1::{Sandbox, SandboxSet};
use sandbox_manager::cache::{Cache, indexes};
use sandbox_manager::controller_manager::prometheus::proto::{Metric, MetricFamily};
use sandbox_manager::controller_manager::{Connector, Metrics};
use sandbox_manager::options::BindAddress;
use sandbox_manager::{Manager, SandboxManagerOptions};
use sandbox_manager::{claims, lifecycle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::pool::{FEW, Pool, PoolArguments, TIMEOUT, is_full, template};
use crate::report::Report;
use crate::{ClusterArguments, process};

/// Name of the set that is created.
const SET: &str = "scale-fill";

/// Label of the sandboxes that are created without controllers.
const BARE: &str = "scale.example.com/bare";

#[derive(Args)]
pub(crate) struct FillArguments {
    /// Number of sandboxes.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(10..=20_000))]
    count: u16,
    /// Number of concurrent requests of the bare creations.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    writers: u16,
    #[command(flatten)]
    pool: PoolArguments,
}

/// What `--help` says about the keys.
pub(crate) const HELP: &str = "\
Keys:
  bare_creates_s        time of N creations of the same sandboxes without controllers, s
  fill_s                from the creation of the set until availableReplicas is N, s
  fill_over_bare        fill_s / bare_creates_s
  requests_per_member   requests that write, of all controllers, for each sandbox
  fill_cpu_s            CPU time of this process during the fill, s
  scale_down_s          from the change of the replicas to 10 until 10 sandboxes are left and the status says so, s
  cpu_s                 CPU time of this process for all of it, s
  rss_base_mib          resident memory before the start, MiB
  rss_mib               resident memory when the pool is full, MiB

Nothing else may act on the sandboxes of the cluster meanwhile. The client has no rate limit.";

/// Fills a pool, scales it down and removes it.
pub(crate) async fn run(cluster: &ClusterArguments, arguments: &FillArguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (cluster, server) = arguments.pool.cluster(cluster, folder.path())?;
    let metrics = Metrics::new()?;
    let connector = cluster.connector_with(&metrics)?;
    let pool = arguments.pool.of(connector.client()?, SET);
    let mut fill = Fill { pool, arguments, report: Report::new(arguments.pool.json) };
    let measured = fill.measure(&connector, metrics).await;
    // Also after an error.
    let cleaned = fill.clean_up().await;
    measured?;
    cleaned?;
    fill.report.finish();
    drop(server);
    Ok(())
}

struct Fill<'a> {
    pool: Pool,
    arguments: &'a FillArguments,
    report: Report,
}

impl Fill<'_> {
    fn count(&self) -> usize {
        self.arguments.count.into()
    }

    async fn measure(&mut self, connector: &Connector, metrics: Metrics) -> anyhow::Result<()> {
        self.pool.ensure_absent().await?;
        let bare = self.create_bare().await?;
        self.report.add("members", f64::from(self.arguments.count), 0);
        self.report.add("bare_creates_s", bare.as_secs_f64(), 2);

        let rss_base = process::memory()?.resident;
        let writes = || writes(&metrics);
        let manager = Running::start(connector, metrics.clone(), &self.pool.namespace).await?;
        let (cpu, before, started) = (process::cpu()?, writes(), Instant::now());
        self.pool.create(self.count()).await?;
        manager.wait_for(&self.pool.namespace, self.count()).await?;
        let filled = started.elapsed();
        self.report.add("fill_s", filled.as_secs_f64(), 2);
        self.report.add("fill_over_bare", filled.as_secs_f64() / bare.as_secs_f64(), 2);
        self.report.add("requests_per_member", (writes() - before) / f64::from(self.arguments.count), 2);
        self.report.add("fill_cpu_s", (process::cpu()?.saturating_sub(cpu)).as_secs_f64(), 2);
        let resident = process::memory()?.resident;

        let started = Instant::now();
        self.pool.scale(FEW).await?;
        manager.wait_for(&self.pool.namespace, FEW).await?;
        self.report.add("scale_down_s", started.elapsed().as_secs_f64(), 2);
        self.report.add("cpu_s", process::cpu()?.saturating_sub(cpu).as_secs_f64(), 2);
        self.report.add("rss_base_mib", rss_base, 1);
        self.report.add("rss_mib", resident, 1);
        manager.stop().await
    }

    /// Creates sandboxes like those of the pool. No controller runs meanwhile.
    async fn create_bare(&self) -> anyhow::Result<Duration> {
        let api = self.pool.sandboxes();
        let started = Instant::now();
        stream::iter(0..self.count())
            .map(Ok)
            .try_for_each_concurrent(usize::from(self.arguments.writers), |i| {
                let api = api.clone();
                async move {
                    let metadata = json!({ "name": format!("{SET}-bare-{i:05}"), "labels": { BARE: "true", "app": "fill" } });
                    let object = json!({ "metadata": metadata, "spec": { "template": template() } });
                    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
                    anyhow::Ok(())
                }
            })
            .await?;
        let took = started.elapsed();
        self.pool.remove(&ListParams::default().labels(BARE)).await?;
        Ok(took)
    }

    /// Removes everything that was created.
    async fn clean_up(&self) -> anyhow::Result<()> {
        self.pool.remove(&ListParams::default().labels(BARE)).await?;
        self.pool.clean_up().await
    }
}

/// A manager with the lifecycle controllers, and the metrics of the binary.
struct Running {
    cache: Cache,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), sandbox_manager::manager::ManagerError>>,
}

impl Running {
    async fn start(connector: &Connector, metrics: Metrics, namespace: &str) -> anyhow::Result<Self> {
        let mut options =
            SandboxManagerOptions { sandbox_namespace: namespace.to_owned(), ..Default::default() };
        options.metrics.bind_address = BindAddress::Off;
        options.health.bind_address = BindAddress::Off;
        let (controllers, lifecycle) = (options.controllers.clone(), options.lifecycle.clone());
        let builder = Manager::builder(options).metrics(metrics).connector(connector)?;
        let mut manager = builder.lifecycle(true).build()?;
        manager.add_fleet_metrics()?;
        let claims = claims::add(&mut manager)?;
        lifecycle::add(&mut manager, &controllers, &lifecycle, &claims)?;
        let (cache, stop) = (manager.cache().clone(), CancellationToken::new());
        let task = tokio::spawn(manager.run(stop.clone()));
        if tokio::time::timeout(TIMEOUT, cache.wait_for_cache_sync()).await.is_err() {
            bail!("the cache is not synced: {cache:?}");
        }
        Ok(Self { cache, stop, task })
    }

    /// Waits until the status names exactly this number of available sandboxes, and no others are left.
    async fn wait_for(&self, namespace: &str, count: usize) -> anyhow::Result<()> {
        let number = i32::try_from(count)?;
        let is_full = move |set: Option<&SandboxSet>| set.is_some_and(|set| is_full(set, number));
        let set = self.cache.wait_for::<SandboxSet>((namespace, SET), is_full).timeout(TIMEOUT).await?;
        let uid = set.and_then(|set| set.metadata.uid.clone()).unwrap_or_default();
        let is_left = move |reader: &sandbox_manager::Reader<Sandbox>| {
            let members = reader.count(indexes::SANDBOX_SET, &uid, |_| true);
            members.is_ok_and(|members| members == count).then_some(())
        };
        self.cache.wait_until::<Sandbox, _, _>(is_left).timeout(TIMEOUT).await?;
        Ok(())
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.task.await.context("the manager panicked")??;
        Ok(())
    }
}

/// Number of requests that write, so far.
fn writes(metrics: &Metrics) -> f64 {
    let families = metrics.registry().gather();
    let requests = families.iter().find(|family| family.name() == "rest_client_requests_total");
    let is_write = |metric: &&Metric| {
        let mut labels = metric.get_label().iter();
        labels.any(|label| label.name() == "method" && !matches!(label.value(), "GET" | "HEAD"))
    };
    let metrics = requests.map(MetricFamily::get_metric).unwrap_or_default();
    metrics.iter().filter(is_write).map(|metric| metric.get_counter().get_value()).sum()
}
