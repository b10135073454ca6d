//! `load`: creates the workload.

use anyhow::{Context, bail};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use sandbox_manager::api::v1alpha1::Sandbox;
use sandbox_manager::controller_manager::Connector;
use sandbox_manager::dev::workload::{self, Templates};
use serde_json::json;

#[derive(Args)]
pub(crate) struct LoadArguments {
    /// Number of sandboxes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    count: u32,
    /// Maximum number of concurrent requests.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    writers: u32,
    /// Write labels of the user and the sandbox into the template metadata of each claimed sandbox, as claims do.
    #[arg(long, conflicts_with = "distinct_templates")]
    claimed_templates: bool,
    /// Make metadata and spec of each template differ from those of every other template.
    #[arg(long)]
    distinct_templates: bool,
}

impl LoadArguments {
    fn templates(&self) -> Templates {
        match (self.distinct_templates, self.claimed_templates) {
            (true, _) => Templates::Distinct,
            (false, true) => Templates::Claimed,
            (false, false) => Templates::PerPool,
        }
    }
}

/// Creates the missing sandboxes.
pub(crate) async fn run(connector: &Connector, arguments: &LoadArguments) -> anyhow::Result<()> {
    let client = connector.client()?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, workload::NAMESPACE, &ApiResource::erase::<Sandbox>(&()));
    if let Err(kube::Error::Api(status)) = api.list(&ListParams::default().limit(1)).await
        && status.code == 404
    {
        bail!("sandboxes are not served; install the CRDs: sandbox-manager crd apply");
    }
    let bar = ProgressBar::new(u64::from(arguments.count)).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} sandboxes, {per_sec}, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let templates = arguments.templates();
    // Several connections are created as needed, because HTTP/1.1 sends one request at a time on a
    // connection.
    stream::iter(0..arguments.count as usize)
        .map(Ok)
        .try_for_each_concurrent(arguments.writers as usize, |i| {
            let (api, bar) = (api.clone(), bar.clone());
            async move {
                create(&api, i, templates).await.with_context(|| format!("sandbox {}", workload::name(i)))?;
                bar.inc(1);
                anyhow::Ok(())
            }
        })
        .await?;
    bar.finish();
    eprintln!("{} sandboxes exist (namespace {})", arguments.count, workload::NAMESPACE);
    Ok(())
}

async fn create(api: &Api<DynamicObject>, i: usize, templates: Templates) -> anyhow::Result<()> {
    let mut object = workload::sandbox_with(i, templates);
    workload::add_history(&mut object);
    let object: DynamicObject = serde_json::from_value(object)?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => {}
        // Created by an earlier run, which may have ended before it wrote the status.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error.into()),
    }
    let status = Patch::Merge(json!({"status": workload::status(i)}));
    api.patch_status(&workload::name(i), &PatchParams::default(), &status).await?;
    Ok(())
}
