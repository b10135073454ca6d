//! Waits until a claimed sandbox is ready, pauses the sandbox and resumes it.
//!
//! ```text
//! cargo run --example pause_resume -- --simulate
//! cargo run --release --example pause_resume -- --simulate --measure 300
//! ```
//!
//! The example creates a sandbox in the namespace of the current kubeconfig and deletes it at the end. With
//! `--simulate` it also writes the statuses of the sandbox controller, for clusters without that controller.
//! With `--measure N` it then waits N times for the sandbox to become ready and prints the times in
//! microseconds. `wait_from_ack` is the time from the response to the status write to the end of the wait; 0
//! if the wait ended first. `wait_from_write` is the time from the sending of the write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use sandbox_manager::Provider;
use sandbox_manager::api::v1alpha1::{Generation, Sandbox};
use sandbox_manager::cache::Cache;
use sandbox_manager::options::Scope;
use sandbox_manager::shared_cache::{Event, WaitError};
use serde_json::{Value, json};

/// Timeout of each wait.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Arguments {
    simulate: bool,
    measure: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = arguments()?;
    let client = Client::try_default().await.context("no usable kubeconfig")?;
    let namespace = client.default_namespace().to_owned();
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), &namespace);

    // Watches only that namespace.
    let scope = Scope { sandbox_namespace: Some(namespace), ..Scope::default() };
    let cache = Cache::builder(client).scope(scope).sync_timeout(TIMEOUT).build();
    cache.start().await.context("are the CRDs installed? sandbox-manager crd apply")?;

    let created = sandboxes.create(&PostParams::default(), &demo_sandbox()?).await?;
    let name = created.name_any();
    println!("created sandbox {name}");
    let result = run(&arguments, &cache, &sandboxes, Arc::new(created)).await;
    sandboxes.delete(&name, &DeleteParams::default()).await?;
    cache.stop().await;
    result
}

async fn run(
    arguments: &Arguments,
    cache: &Cache,
    sandboxes: &Api<Sandbox>,
    created: Arc<Sandbox>,
) -> anyhow::Result<()> {
    let controller = arguments
        .simulate
        .then(|| tokio::spawn(simulate(cache.clone(), sandboxes.clone(), created.name_any())));
    let result = pause_and_resume(cache, sandboxes, created).await;
    if let Some(controller) = controller {
        controller.abort();
    }
    let sandbox = result?;
    if arguments.measure > 0 {
        measure(cache, sandboxes, sandbox, arguments.measure).await?;
    }
    Ok(())
}

/// Pauses and resumes a sandbox: the main part of this example.
async fn pause_and_resume(
    cache: &Cache,
    sandboxes: &Api<Sandbox>,
    created: Arc<Sandbox>,
) -> anyhow::Result<Arc<Sandbox>> {
    let running = cache.sandbox_wait_ready_task(&created).wait(TIMEOUT).await?;
    println!("ready at version {}", version(&running));

    // Check before the write: a sandbox that is being paused is no longer pausable. Create the task before the
    // write, so that no caller can create a resume task meanwhile. Then write and
    // wait.
    ensure!(running.pausable().allowed, "cannot be paused: {}", running.pausable().reason);
    let task = cache.sandbox_pause_task(&running)?;
    let written = set_paused(sandboxes, &running, true).await?;
    let paused = task.after_write(&written).wait(TIMEOUT).await?;
    println!("paused at version {}", version(&paused));

    // The version floor rejects a status that is older than the write.
    let task = cache.sandbox_resume_task(&paused)?;
    let written = set_paused(sandboxes, &paused, false).await?;
    let resumed = match task.after_write(&written).wait(TIMEOUT).await {
        Ok(resumed) => resumed,
        // The error names the sandbox, the action, the time, the last seen state and the missing part.
        Err(error @ WaitError::NotSatisfied { .. }) => bail!("{error}"),
        Err(error) => return Err(error.into()),
    };
    println!("resumed at version {}", version(&resumed));
    Ok(resumed)
}

async fn set_paused(sandboxes: &Api<Sandbox>, sandbox: &Sandbox, paused: bool) -> kube::Result<Sandbox> {
    let patch = json!({"spec": {"paused": paused}});
    sandboxes.patch(&sandbox.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await
}

/// Simulates the sandbox controller: copies `spec.paused` to the status.
async fn simulate(cache: Cache, sandboxes: Api<Sandbox>, name: String) {
    let Some(mut events) = cache.subscribe::<Sandbox>() else {
        return;
    };
    while let Some(event) = events.next().await {
        let Event::Applied { new: sandbox, .. } = event else {
            continue;
        };
        let generation = sandbox.metadata.generation.unwrap_or_default();
        let observed =
            sandbox.status.as_ref().and_then(|status| status.observed_generation).map(Generation::get);
        if sandbox.name_any() == name && observed != Some(generation) {
            let paused = sandbox.spec.paused.unwrap_or_default();
            let status = json!({"status": status(generation, paused, !paused)});
            if let Err(error) =
                sandboxes.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await
            {
                eprintln!("simulating the controller: {error}");
            }
        }
    }
}

fn status(generation: i64, paused: bool, ready: bool) -> Value {
    let condition = |type_: &str, is: bool, reason: &str| {
        let status = if is { "True" } else { "False" };
        json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": jiff::Timestamp::now()})
    };
    json!({
        "observedGeneration": generation,
        "phase": if paused { "Paused" } else { "Running" },
        "podInfo": {"podIP": "10.0.0.1"},
        "conditions": [condition("Ready", ready, "PodReady"), condition("SandboxPaused", paused, "SetPause")],
    })
}

/// Measures one `WaitReady` at a time. The sandbox becomes not ready, the wait begins, and a status write
/// makes it ready.
async fn measure(
    cache: &Cache,
    sandboxes: &Api<Sandbox>,
    mut sandbox: Arc<Sandbox>,
    rounds: usize,
) -> anyhow::Result<()> {
    let name = sandbox.name_any();
    let params = PatchParams::default();
    let (mut from_ack, mut from_write) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
    for _ in 0..rounds {
        let generation = sandbox.metadata.generation.unwrap_or_default();
        let patch = |ready| Patch::Merge(json!({"status": status(generation, false, ready)}));
        let not_ready = Arc::new(sandboxes.patch_status(&name, &params, &patch(false)).await?);
        cache.await_version::<Sandbox>(version(&not_ready), TIMEOUT).await?;
        let task = cache.sandbox_wait_ready_task(&not_ready);
        let waiting = tokio::spawn(async move {
            let ready = task.wait(TIMEOUT).await;
            (ready, Instant::now())
        });
        let written = Instant::now();
        sandboxes.patch_status(&name, &params, &patch(true)).await?;
        let acknowledged = Instant::now();
        let (ready, returned) = waiting.await?;
        sandbox = ready?;
        // The event may arrive before the response to the write. The wait then took no time after the
        // response.
        from_ack.push(returned.saturating_duration_since(acknowledged));
        from_write.push(returned.saturating_duration_since(written));
    }
    let overtaken = from_ack.iter().filter(|time| time.is_zero()).count();
    print_percentiles("wait_from_ack", from_ack);
    print_percentiles("wait_from_write", from_write);
    println!("wait_ended_before_ack {overtaken}");
    Ok(())
}

fn print_percentiles(key: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    for percentile in [50, 99] {
        let time = times[(times.len() - 1) * percentile / 100];
        println!("{key}_p{percentile}_us {}", time.as_micros());
    }
}

fn version(sandbox: &Sandbox) -> &str {
    sandbox.metadata.resource_version.as_deref().unwrap_or_default()
}

fn demo_sandbox() -> serde_json::Result<Sandbox> {
    serde_json::from_value(json!({
        "metadata": {"generateName": "pause-resume-", "labels": {"agents.kruise.io/sandbox-claimed": "true"}},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "busybox"}]}}},
    }))
}

fn arguments() -> anyhow::Result<Arguments> {
    let mut arguments = Arguments { simulate: false, measure: 0 };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--simulate" => arguments.simulate = true,
            "--measure" => {
                let rounds = given.next().context("--measure takes a number of rounds")?;
                arguments.measure =
                    rounds.parse().with_context(|| format!("--measure {rounds}: not a number"))?;
            }
            other => bail!("{other}: usage: pause_resume [--simulate] [--measure ROUNDS]"),
        }
    }
    Ok(arguments)
}
