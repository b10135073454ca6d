//! [`Installer`]: applies our definitions in a cluster.
//!
//! # Guarantees
//!
//! - Nothing is written before all definitions were compared, and the API server has accepted all of them in a dry run.
//! - A write never removes a part that the installed definition has, and never makes it stricter ([`Changes::lost`]). A write of an installed
//!   definition names the version that was compared. If another client has changed the definition since then, it is
//!   compared again. A definition that another client creates between the comparison and the write is not compared,
//!   because server-side apply knows no precondition for a definition that does not exist.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use shared_cache::error_text;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::changes::Changes;
use super::definitions;

/// The field manager of our definitions.
pub(super) const FIELD_MANAGER: &str = "sandbox-manager";

/// How often a definition is compared and written before a conflict is reported.
const ATTEMPTS: usize = 5;

/// How often a definition is read until it is established.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why the definitions were not applied. The text may have several lines.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Installed definitions have parts that ours do not have, or accept more than ours.
    #[error("{0}")]
    Refused(Refusal),
    /// The API server forbids a request.
    #[error(
        "cannot {action} {name}: {message}\nThis command needs the verbs get, create and patch for \
         customresourcedefinitions of apiextensions.k8s.io. Run it as an administrator of the cluster"
    )]
    Forbidden {
        /// What the request does.
        action: &'static str,
        /// Name of the definition.
        name: String,
        /// The text of the API server.
        message: String,
    },
    /// Other clients have changed a definition between each comparison and the write.
    #[error("cannot {action} {name}: {message}\nAnother client keeps changing it. Run the command again")]
    Conflict {
        /// What the request does.
        action: &'static str,
        /// Name of the definition.
        name: String,
        /// The text of the API server.
        message: String,
    },
    /// The API server rejects a request or cannot be reached.
    #[error("cannot {action} {name} at {server}: {message}")]
    Request {
        /// What the request does.
        action: &'static str,
        /// Name of the definition.
        name: String,
        /// Address of the API server.
        server: String,
        /// What is wrong.
        message: String,
    },
    /// A request had no answer in time.
    #[error("cannot {action} {name}: no answer from {server} within the time of --timeout")]
    NoAnswer {
        /// What the request does.
        action: &'static str,
        /// Name of the definition.
        name: String,
        /// Address of the API server.
        server: String,
    },
    /// A definition was written, but the API server does not serve it.
    #[error("{name} is not established within the time of --timeout: {reason}")]
    NotEstablished {
        /// Name of the definition.
        name: String,
        /// What the conditions of the definition say.
        reason: String,
    },
}

/// The parts of installed definitions that would get lost, and the values that would be rejected.
#[derive(Debug)]
pub struct Refusal {
    /// The names of the definitions, each with its parts.
    lost: Vec<(String, Vec<String>)>,
    /// Whether other definitions may have been written before.
    after_writes: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "the installed definitions have parts or accept values that those of this version do not:"
        )?;
        for (name, parts) in &self.lost {
            for part in parts {
                writeln!(f, "{name}: {part}")?;
            }
        }
        f.write_str(if self.after_writes {
            "Another client has changed this definition meanwhile, and it was not written"
        } else {
            "Nothing was written"
        })?;
        f.write_str(
            ": the API server would remove the values of these parts from all objects, and reject the objects with such \
             values. Keep the installed definitions, or use a version of sandbox-manager that has them",
        )
    }
}

/// One of our definitions, with what applying it would change.
pub(super) struct Step {
    ours: CustomResourceDefinition,
    /// The installed definition's version and its differences to ours. `None`: it is not installed.
    installed: Option<(Option<String>, Changes)>,
}

impl Step {
    fn lost(&self) -> Option<(String, Vec<String>)> {
        let (_, changes) = self.installed.as_ref()?;
        (!changes.lost.is_empty()).then(|| (self.ours.name_any(), changes.lost.clone()))
    }

    /// Returns lines for people: what was done, or what would be done.
    pub(super) fn report(&self, is_done: bool) -> String {
        let name = self.ours.name_any();
        let (done, changes) = match &self.installed {
            None => ("created", None),
            Some((_, changes)) if changes.is_empty() => ("unchanged", None),
            Some((_, changes)) => ("changed", Some(changes)),
        };
        let would = if is_done || done == "unchanged" { "" } else { "would be " };
        let mut text = format!("{name}: {would}{done}\n");
        for (mark, parts) in changes.into_iter().flat_map(|of| [('+', &of.added), ('~', &of.changed)]) {
            text.extend(parts.iter().map(|part| format!("  {mark} {part}\n")));
        }
        text
    }
}

/// Whether a request changes the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The API server checks the request and stores nothing.
    DryRun,
    /// The API server stores the definition.
    Write,
}

/// Applies our definitions in a cluster.
pub(super) struct Installer {
    api: Api<CustomResourceDefinition>,
    server: String,
    deadline: Instant,
}

impl Installer {
    /// Creates an installer that must have ended at `deadline`. Errors name `server`.
    pub(super) fn new(client: Client, server: String, deadline: Instant) -> Self {
        Self { api: Api::all(client), server, deadline }
    }

    /// Compares all definitions with the installed ones. Sends no write.
    ///
    /// # Errors
    ///
    /// [`InstallError::Refused`] names all parts of all definitions that would get lost.
    pub(super) async fn compare(
        &self,
        definitions: Vec<CustomResourceDefinition>,
    ) -> Result<Vec<Step>, InstallError> {
        let mut steps = Vec::new();
        for ours in definitions {
            steps.push(self.step(ours).await?);
        }
        let lost: Vec<_> = steps.iter().filter_map(Step::lost).collect();
        if lost.is_empty() {
            Ok(steps)
        } else {
            Err(InstallError::Refused(Refusal { lost, after_writes: false }))
        }
    }

    async fn step(&self, ours: CustomResourceDefinition) -> Result<Step, InstallError> {
        let name = ours.name_any();
        let installed = self.request("read", &name, self.api.get_opt(&name)).await?;
        let compared = |installed: &CustomResourceDefinition| {
            (installed.resource_version(), definitions::compare(installed, &ours))
        };
        Ok(Step { installed: installed.as_ref().map(compared), ours })
    }

    /// Sends a definition. After a conflict the definition is compared again.
    pub(super) async fn apply(&self, step: &mut Step, mode: Mode) -> Result<(), InstallError> {
        let name = step.ours.name_any();
        let parameters = PatchParams {
            dry_run: mode == Mode::DryRun,
            // Without force, the fields that helm or kubectl has set would be conflicts.
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        for attempt in 1.. {
            let mut definition = step.ours.clone();
            definition.metadata.resource_version =
                step.installed.as_ref().and_then(|(version, _)| version.clone());
            let patch = Patch::Apply(&definition);
            match self.request("apply", &name, self.api.patch(&name, &parameters, &patch)).await {
                Ok(_) => break,
                Err(InstallError::Conflict { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
            *step = self.step(step.ours.clone()).await?;
            if let Some(lost) = step.lost() {
                let after_writes = mode == Mode::Write;
                return Err(InstallError::Refused(Refusal { lost: vec![lost], after_writes }));
            }
        }
        Ok(())
    }

    /// Waits until the API server serves the kinds of all definitions.
    pub(super) async fn wait_until_established(&self, steps: &[Step]) -> Result<(), InstallError> {
        for step in steps {
            let name = step.ours.name_any();
            let mut last = None;
            loop {
                let seen = match (self.request("read", &name, self.api.get(&name)).await, last) {
                    (Ok(seen), _) => seen,
                    // The time has ended during a read. What was seen before says more.
                    (Err(InstallError::NoAnswer { .. }), Some(reason)) => {
                        return Err(InstallError::NotEstablished { name, reason });
                    }
                    (Err(error), _) => return Err(error),
                };
                let Some(reason) = pending(&seen) else { break };
                let next = Instant::now() + POLL_INTERVAL;
                if next > self.deadline {
                    return Err(InstallError::NotEstablished { name, reason });
                }
                last = Some(reason);
                sleep_until(next).await;
            }
        }
        Ok(())
    }

    async fn request<T>(
        &self,
        action: &'static str,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, InstallError> {
        let (name, server) = (name.to_owned(), self.server.clone());
        let Ok(answer) = timeout_at(self.deadline, request).await else {
            return Err(InstallError::NoAnswer { action, name, server });
        };
        answer.map_err(|error| match error {
            kube::Error::Api(status) => {
                let message = status.message;
                match status.code {
                    403 => InstallError::Forbidden { action, name, message },
                    409 => InstallError::Conflict { action, name, message },
                    _ => InstallError::Request { action, name, server, message },
                }
            }
            error => InstallError::Request { action, name, server, message: error_text(&error) },
        })
    }
}

/// Returns why a definition is not established, or none if it is.
fn pending(definition: &CustomResourceDefinition) -> Option<String> {
    let conditions = definition.status.as_ref().and_then(|status| status.conditions.as_deref());
    for wanted in ["NamesAccepted", "Established"] {
        match conditions.unwrap_or_default().iter().find(|condition| condition.type_ == wanted) {
            Some(condition) if condition.status == "True" => {}
            Some(condition) => {
                let message = condition.message.as_deref().unwrap_or_default();
                return Some(format!("{wanted} is {}: {message}", condition.status));
            }
            None => return Some(format!("the API server has not set the condition {wanted}")),
        }
    }
    None
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.report(false).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use kube::api::PostParams;
    use memory_apiserver::{ApiServer, FaultPlan, On, RequestFault, Times, Verb};
    use serde_json::json;

    use super::*;
    use crate::api::v1alpha1::crds;

    fn installer(server: &ApiServer) -> Installer {
        let deadline = Instant::now() + Duration::from_mins(1);
        Installer::new(server.client(), "https://server/".to_owned(), deadline)
    }

    fn conflicts(server: &ApiServer, times: Times) {
        let on = On::request(Verb::Patch, "customresourcedefinitions");
        server.inject(&FaultPlan::request(on, times, RequestFault::Answer { code: 409, retry_after: None }));
    }

    async fn reread(server: &ApiServer, name: &str) -> CustomResourceDefinition {
        Api::<CustomResourceDefinition>::all(server.client_without_faults()).get(name).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn z1_a_conflict_is_tried_again_a_limited_number_of_times() {
        let server = ApiServer::new();
        let installer = installer(&server);
        let mut steps = installer.compare(crds()).await.unwrap();
        conflicts(&server, Times::First(ATTEMPTS as u64 - 1));
        installer.apply(&mut steps[0], Mode::Write).await.unwrap();
        installer.wait_until_established(&steps[..1]).await.unwrap();
        server.clear_faults();
        conflicts(&server, Times::Always);
        let error = installer.apply(&mut steps[1], Mode::Write).await.unwrap_err().to_string();
        assert!(error.contains("Another client keeps changing it"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn z1_a_definition_that_becomes_newer_after_the_comparison_is_not_written() {
        let server = ApiServer::new();
        let installer = installer(&server);
        let mut steps = installer.compare(crds()).await.unwrap();
        installer.apply(&mut steps[0], Mode::Write).await.unwrap();
        let mut steps = installer.compare(crds()).await.unwrap();
        let name = steps[0].ours.name_any();
        let mut newer = serde_json::to_value(reread(&server, &name).await).unwrap();
        newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["novel"] =
            json!({"type": "string"});
        let newer: CustomResourceDefinition = serde_json::from_value(newer).unwrap();
        let api: Api<CustomResourceDefinition> = Api::all(server.client());
        let newer = api.replace(&name, &PostParams::default(), &newer).await.unwrap();

        let error = installer.apply(&mut steps[0], Mode::Write).await.unwrap_err();
        assert!(matches!(&error, InstallError::Refused(refusal) if refusal.after_writes), "{error:?}");
        assert!(error.to_string().contains(&format!("{name}: field spec.novel (v1alpha1)\n")), "{error}");
        assert_eq!(reread(&server, &name).await.resource_version(), newer.resource_version());
    }

    #[tokio::test(start_paused = true)]
    async fn z1_all_losses_of_all_definitions_are_in_one_refusal() {
        let server = ApiServer::new();
        for definition in crds() {
            let mut newer = serde_json::to_value(definition).unwrap();
            newer["spec"]["names"]["shortNames"].as_array_mut().unwrap().clear();
            let plural = newer["spec"]["names"]["plural"].as_str().unwrap().to_owned();
            newer["spec"]["names"]["shortNames"] = json!([format!("x{plural}")]);
            server.load(&newer).unwrap();
        }
        let error = installer(&server).compare(crds()).await.unwrap_err().to_string();
        for definition in crds() {
            let name = definition.name_any();
            let lost = format!("{name}: short name x{}\n", definition.spec.names.plural);
            assert!(error.contains(&lost), "{lost} is not in {error}");
        }
    }
}
