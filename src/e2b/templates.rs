//! Templates: the SandboxSets of the caller's namespace.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use shared_cache::LookupError;

use super::api::{Api, Call};
use super::errors::{ApiError, json};
use super::failures::of_lookup;
use super::keys::Caller;
use super::types::{Alias, BuildStatus, Template};
use super::view::{self, Size};
use crate::api::v1alpha1::{PodTemplate, Sandbox, SandboxSet, SandboxTemplate, TemplateRef};
use crate::cache::{ListSandboxSetsOptions, PickSandboxSetOptions, Provider as _};

/// The only tag: a SandboxSet has no versions that could be chosen.
const DEFAULT_TAG: &str = "default";

/// The pool that a template id names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pool<'a> {
    /// None if the caller may use every namespace and names none.
    namespace: Option<&'a str>,
    name: &'a str,
}

impl Pool<'_> {
    /// Returns true if the sandbox was claimed from this pool.
    pub(super) fn is_of(&self, sandbox: &Sandbox) -> bool {
        self.namespace.is_none_or(|namespace| sandbox.namespace_or_empty() == namespace)
            && view::template_id(sandbox) == self.name
    }
}

/// Reads a template id: `name`, `namespace/name`, each with the tag `:default`. None if the caller has no such template.
pub(super) fn wanted_pool<'a>(caller: &'a Caller, id: &'a str) -> Option<Pool<'a>> {
    let id = match id.split_once(':') {
        Some((id, DEFAULT_TAG)) => id,
        Some(_) => return None,
        None => id,
    };
    let (namespace, name) = match id.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, id),
    };
    let team = caller.team.as_deref();
    let is_foreign = namespace.is_some_and(|named| team.is_some_and(|team| team != named));
    if is_foreign || name.is_empty() || name.contains('/') {
        return None;
    }
    Some(Pool { namespace: namespace.or(team), name })
}

/// Finds the SandboxSet of a template id.
///
/// # Errors
///
/// 404 for one that does not exist or is of another namespace; 503 if the cache is not synced.
pub(super) fn find(api: &Api, caller: &Caller, id: &str) -> Result<Arc<SandboxSet>, ApiError> {
    let missing = || ApiError::no_template(id);
    let Pool { namespace, name } = wanted_pool(caller, id).ok_or_else(missing)?;
    let pick = |namespace| api.cache.pick_sandbox_set(PickSandboxSetOptions { namespace, name });
    let found = match pick(namespace) {
        // An administrator has named no namespace, and several have the template. The first is as good as any other, and
        // it is always the same.
        Err(LookupError::Ambiguous { candidates, .. }) => {
            pick(candidates.first().map(|first| first.namespace.as_str()))
        }
        found => found,
    };
    match found {
        Ok(set) if set.metadata.deletion_timestamp.is_none() => Ok(set),
        Ok(_) | Err(LookupError::NotFound { .. } | LookupError::OutOfScope { .. }) => Err(missing()),
        Err(error) => Err(of_lookup(&error)),
    }
}

/// Returns the template of the pod of a sandbox: its own, or the one that it refers to.
pub(super) fn pod_template(api: &Api, sandbox: &Sandbox) -> Option<PodTemplate> {
    let spec = &sandbox.spec;
    let named = || referred(api, sandbox.namespace_or_empty(), spec.template_ref.as_deref()?);
    spec.template.clone().or_else(named)
}

/// Returns the template of the pods of a set: its own, or the one that it refers to.
pub(super) fn pod_template_of(api: &Api, set: &SandboxSet) -> Option<PodTemplate> {
    let named = || referred(api, set.namespace_or_empty(), set.spec.template_ref.as_ref()?);
    set.spec.template.clone().or_else(named)
}

fn referred(api: &Api, namespace: &str, reference: &TemplateRef) -> Option<PodTemplate> {
    let found = api.cache.reader::<SandboxTemplate>().get(namespace, &reference.name).ok()??;
    found.spec.template.clone()
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let options = ListSandboxSetsOptions { namespace: call.caller.team.as_deref() };
    let mut sets = match api.cache.list_sandbox_sets(options) {
        Ok(sets) => sets,
        // This process does not watch the namespace of the team, so it has no templates here.
        Err(LookupError::OutOfScope { .. }) => Vec::new(),
        Err(error) => return Err(of_lookup(&error)),
    };
    sets.sort_by(|one, other| place(one).cmp(&place(other)));
    let templates: Vec<_> = sets.iter().map(|set| shown(api, set)).collect();
    Ok(json(StatusCode::OK, &templates))
}

fn place(set: &SandboxSet) -> (&str, &str) {
    (set.namespace_or_empty(), set.name_or_empty())
}

pub(super) fn get(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    call.notes.template(&call.route.id);
    let set = find(api, &call.caller, &call.route.id)?;
    Ok(json(StatusCode::OK, &shown(api, &set)))
}

pub(super) fn alias(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    call.notes.template(&call.route.id);
    let set = find(api, &call.caller, &call.route.id)?;
    Ok(json(StatusCode::OK, &Alias { template_id: set.name_or_empty().to_owned(), public: false }))
}

fn shown(api: &Api, set: &SandboxSet) -> Template {
    let size = Size::of(pod_template_of(api, set).as_ref());
    let (name, status) = (set.name_or_empty().to_owned(), set.status.as_ref());
    let created =
        set.metadata.creation_timestamp.as_ref().map_or_else(String::new, |time| time.0.to_string());
    Template {
        template_id: name.clone(),
        build_id: status.and_then(|status| status.update_revision.clone()).unwrap_or_default(),
        cpu_count: size.cpus,
        memory_mb: size.memory_mb,
        disk_size_mb: size.disk_mb,
        public: false,
        aliases: vec![name.clone()],
        names: vec![format!("{}/{name}", set.namespace_or_empty())],
        updated_at: created.clone(),
        created_at: created,
        created_by: None,
        last_spawned_at: None,
        spawn_count: 0,
        build_count: 1,
        envd_version: api.settings.common.envd_version.clone(),
        build_status: BuildStatus::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(team: Option<&str>) -> Caller {
        let team = team.map(str::to_owned);
        Caller { key_id: "k".to_owned(), team, most_running: None, most: None, may_manage_keys: true }
    }

    #[test]
    fn e2b_10_a_template_id_names_a_pool_of_the_callers_namespace() {
        let (team, admin) = (caller(Some("ns")), caller(None));
        let pool = |namespace, name| Some(Pool { namespace, name });
        for id in ["x", "x:default", "ns/x", "ns/x:default"] {
            assert_eq!(wanted_pool(&team, id), pool(Some("ns"), "x"), "{id}");
        }
        assert_eq!(wanted_pool(&admin, "x"), pool(None, "x"));
        assert_eq!(wanted_pool(&admin, "other/x"), pool(Some("other"), "x"));
        for id in ["", "other/x", "x:v2", "ns/", "ns/a/b", "x:default:default", ":default"] {
            assert_eq!(wanted_pool(&team, id), None, "{id}");
        }
    }
}
