//! Creates: what is checked before the claim, and the claim itself.
//!
//! A client that hangs up drops the future of its request. The engine then undoes the claim, so nobody holds a sandbox
//! that no client knows. A create with an `Idempotency-Key` is completed instead: the client comes back with the key, on any
//! replica, and gets the sandbox.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;

use super::api::{Api, Call, Settings, WAIT, now};
use super::errors::{ApiError, Retry, json, quoted};
use super::failures::{of_create, of_lookup};
use super::idempotency::{ANNOTATION_BODY, Request, in_progress};
use super::keys::Caller;
use super::metadata::{self, ANNOTATION_METADATA, Extensions, MOST_BYTES, Metadata};
use super::sandboxes::DEFAULT_TIMEOUT;
use super::templates;
use super::types::{NewSandbox, State, Texts};
use super::view::{self, ANNOTATION_AUTO_RESUME};
use crate::api::v1alpha1::{LABEL_TRUE, Sandbox, SandboxSet};
use crate::cache::Provider as _;
use crate::claims::{ClaimError, ClaimRequest, Retention, RuntimeInit};

/// A create that was checked.
struct Wanted {
    template: String,
    lifetime: Duration,
    metadata: Metadata,
    env_vars: Texts,
    auto_pause: bool,
    auto_resume: bool,
    allow_internet_access: Option<bool>,
}

pub(super) async fn create(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let wanted = Wanted::check(api, call.json()?)?;
    call.notes.template(&wanted.template);
    let idempotency = Request::of(call.headers, call.body)?;
    let set = templates::find(api, &call.caller, &wanted.template)?;
    check_labels(api, &set, &wanted.metadata.extensions.labels)?;
    check_internet_access(&set, wanted.allow_internet_access)?;
    let underway =
        idempotency.as_ref().map(|request| api.creates.idempotency.begin(&call.caller.key_id, request));
    let _underway = underway.transpose()?;
    if let Some(request) = &idempotency
        && let Some(earlier) = earlier(api, call, request, &wanted.template).await?
    {
        return Ok(earlier);
    }
    let begun = api.creates.begin(&call.caller.key_id)?;
    check_quota(api, &call.caller, begun.underway())?;
    let creating = api.metrics.creating();
    let template = wanted.template.clone();
    let request =
        wanted.request(api, &call.caller, set.namespace_or_empty(), set.name_or_empty(), idempotency.clone());
    // A client that hangs up leaves its limits only when its claim has ended.
    let request = request.hold((begun, creating));
    let claimed = match (api.claims.claim(request).await, &idempotency) {
        (Ok(claimed), _) => claimed,
        // Another replica was faster with the same request.
        (Err(ClaimError::Repeated), Some(request)) => {
            return earlier(api, call, request, &template).await?.ok_or_else(in_progress);
        }
        (Err(error), request) => return Err(failed(error, &template, request.is_some())),
    };
    call.notes.sandbox(&claimed.sandbox_id());
    Ok(json(StatusCode::CREATED, &view::answer(&claimed, &api.settings.common)))
}

/// Returns the sandbox that an earlier create with this key has got.
async fn earlier(
    api: &Api,
    call: &Call<'_>,
    request: &Request,
    template: &str,
) -> Result<Option<Response>, ApiError> {
    let found = api.claims.of_key(&call.caller.key_id, &request.key).await;
    let found = found.map_err(|error| failed(error, template, true))?;
    let Some(found) = found.filter(|found| is_in(found, &call.caller)) else { return Ok(None) };
    request.check(&found)?;
    if view::state(&found, now()).is_none() {
        return Ok(None);
    }
    call.notes.sandbox(&found.sandbox_id());
    Ok(Some(json(StatusCode::CREATED, &view::answer(&found, &api.settings.common))))
}

/// A key may have been moved to another team.
fn is_in(sandbox: &Sandbox, caller: &Caller) -> bool {
    caller.team.as_deref().is_none_or(|team| sandbox.namespace_or_empty() == team)
}

/// The answer to a create that has failed. One with a key may be repeated even if it is unknown what was done: the key finds
/// what was done.
fn failed(error: ClaimError, template: &str, is_keyed: bool) -> ApiError {
    let is_unavailable = matches!(error, ClaimError::Unavailable { .. });
    let answer = of_create(error, template);
    if is_keyed && is_unavailable { answer.retry(Retry::After(1)) } else { answer }
}

/// Refuses a create that would pass the quota of the key. `underway` counts this one. A sandbox that is being claimed may
/// be counted twice, for a moment.
fn check_quota(api: &Api, caller: &Caller, underway: i64) -> Result<(), ApiError> {
    if caller.most.is_none() && caller.most_running.is_none() {
        return Ok(());
    }
    let now = now();
    let states: Vec<State> =
        api.own(caller)?.iter().filter_map(|sandbox| view::state(sandbox, now)).collect();
    // The caller sees them no more, and has asked for them.
    let kept = reserved_failed(api, caller, now)?;
    let count = |state: Option<State>| {
        let counted = states.iter().filter(|known| state.is_none_or(|state| state == **known)).count();
        i64::try_from(counted + kept).unwrap_or(i64::MAX).saturating_add(underway)
    };
    let is_over = |limit: Option<i64>, state| limit.is_some_and(|limit| count(state) > limit);
    if is_over(caller.most, None) || is_over(caller.most_running, Some(State::Running)) {
        let text = "the quota of this API key is reached";
        return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, text).retry(Retry::Never));
    }
    Ok(())
}

/// Returns the number of the sandboxes that are kept for inspection after a failed create of a caller.
fn reserved_failed(api: &Api, caller: &Caller, now: Timestamp) -> Result<usize, ApiError> {
    let all = api.cache.list_live_sandboxes_by_owner(&caller.key_id).map_err(|error| of_lookup(&error))?;
    let is_kept = |sandbox: &&Arc<Sandbox>| {
        sandbox.is_reserved_failed()
            && sandbox.shutdown_at().is_none_or(|end| end >= now)
            && is_in(sandbox, caller)
    };
    Ok(all.iter().filter(is_kept).count())
}

impl Wanted {
    /// Checks what the body says.
    fn check(api: &Api, new: NewSandbox) -> Result<Self, ApiError> {
        let missing = || ApiError::bad_request("templateID: missing");
        refuse_unsupported(&new)?;
        let template = new.template_id.filter(|id| !id.is_empty()).ok_or_else(missing)?;
        let (auto_pause, memory) = (new.auto_pause.unwrap_or(false), new.auto_pause_memory.unwrap_or(true));
        let auto_resume = new.auto_resume.and_then(|resume| resume.enabled).unwrap_or(false);
        if auto_resume && !auto_pause {
            return Err(ApiError::bad_request("autoResume: needs autoPause"));
        }
        if !memory && (!auto_pause || auto_resume) {
            return Err(ApiError::bad_request("autoPauseMemory: false needs autoPause, and no autoResume"));
        }
        let (metadata, env_vars) = (new.metadata.unwrap_or_default(), new.env_vars.unwrap_or_default());
        if metadata::written_bytes(&metadata) + metadata::json_bytes(&env_vars) > MOST_BYTES {
            return Err(ApiError::bad_request("metadata and envVars are too large"));
        }
        check_env_vars(&env_vars)?;
        let metadata = Metadata::parse(metadata)?;
        check_extensions(&api.settings, &metadata.extensions)?;
        Ok(Self {
            template,
            lifetime: api.lifetime(new.timeout.unwrap_or(DEFAULT_TIMEOUT))?,
            metadata,
            env_vars,
            auto_pause,
            auto_resume,
            allow_internet_access: new.allow_internet_access,
        })
    }

    /// What the engine is asked for.
    fn request(
        self,
        api: &Api,
        caller: &Caller,
        namespace: &str,
        pool: &str,
        idempotency: Option<Request>,
    ) -> ClaimRequest {
        let Metadata { kept, extensions } = self.metadata;
        let mut request = ClaimRequest::from_pool(namespace, pool)
            .owner(&caller.key_id)
            .auto_pause(self.auto_pause)
            .retention(Retention::Forever)
            .allow_internet_access(self.allow_internet_access.unwrap_or(true))
            .name_on_pod()
            .reserve_failed(extensions.reserve_failed_sandbox)
            .create_on_no_stock(extensions.create_on_no_stock.unwrap_or(api.settings.create_on_no_stock))
            .claim_timeout(WAIT);
        if !extensions.never_timeout {
            request = request.timeout(self.lifetime);
        }
        if let Some(seconds) = extensions.wait_ready_timeout {
            request = request.wait_ready_timeout(Duration::from_secs(seconds).min(WAIT));
        }
        if api.settings.init_runtime && !extensions.skip_init_runtime {
            request = request.init(RuntimeInit::WithEnvVars(self.env_vars));
        }
        for (key, value) in extensions.labels {
            request = request.label(key, value);
        }
        for (key, value) in metadata::annotations(&kept) {
            request = if key == ANNOTATION_METADATA {
                request.own_annotation(key, value)
            } else {
                request.metadata(key, value)
            };
        }
        if self.auto_resume {
            request = request.own_annotation(ANNOTATION_AUTO_RESUME, LABEL_TRUE);
        }
        if let Some(Request { key, body }) = idempotency {
            request = request.idempotency_key(key).own_annotation(ANNOTATION_BODY, body);
        }
        request
    }
}

/// Refuses what this server cannot do, by the name of the member. Empty values ask for nothing.
fn refuse_unsupported(new: &NewSandbox) -> Result<(), ApiError> {
    let asks = |value: &Option<Value>| {
        value.as_ref().is_some_and(|value| value.as_object().is_none_or(|members| !members.is_empty()))
    };
    let asked = [
        ("network", asks(&new.network)),
        ("iam", asks(&new.iam)),
        ("volumeMounts", new.volume_mounts.as_ref().is_some_and(|mounts| !mounts.is_empty())),
    ];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((member, _)) => Err(ApiError::bad_request(format!("{member}: not supported by this server"))),
        None => Ok(()),
    }
}

/// A limit of the operator holds also for what the metadata asks for.
fn check_extensions(settings: &Settings, extensions: &Extensions) -> Result<(), ApiError> {
    let refused = |name: &str, why: &str| {
        Err(ApiError::bad_request(format!("metadata key e2b.agents.kruise.io/{name}: {why}")))
    };
    if extensions.never_timeout && !settings.is_never_allowed {
        let most = settings.max_timeout.as_secs();
        return refused("never-timeout", &format!("this server gives a sandbox at most {most} seconds"));
    }
    if extensions.create_on_no_stock == Some(true) && !settings.create_on_no_stock {
        return refused("create-on-no-stock", "this server creates no sandboxes for an empty pool");
    }
    Ok(())
}

/// A user adds labels, and changes none that the template has: policies of the network may select pods by it. Nor is a
/// label set by which this process selects what it watches: the sandbox could be lost to it.
fn check_labels(api: &Api, set: &SandboxSet, labels: &Texts) -> Result<(), ApiError> {
    if labels.is_empty() {
        return Ok(());
    }
    let template = templates::pod_template_of(api, set);
    let template = template.and_then(|template| serde_json::from_str::<Value>(&template.to_json()).ok());
    let known = template.as_ref().map(|template| &template["metadata"]["labels"]);
    let is_changed = |(key, value): &(&String, &String)| {
        known.and_then(|known| known.get(key.as_str())).is_some_and(|known| *known != value.as_str())
            || api.settings.selected_labels.contains(*key)
    };
    match labels.iter().find(is_changed) {
        Some((key, _)) => {
            let name = quoted(&format!("e2b.agents.kruise.io/label:{key}"));
            let why = "the template has another value of this label, or sandboxLabelSelector names it";
            let text = format!("metadata key {name}: {why}");
            Err(ApiError::bad_request(text))
        }
        None => Ok(()),
    }
}

/// A claim writes its labels into the template of the sandbox. A sandbox that refers to a template has none of its own, so
/// its pod would have no label that a policy of the network could act on.
fn check_internet_access(set: &SandboxSet, allow: Option<bool>) -> Result<(), ApiError> {
    if allow == Some(false) && set.spec.template.is_none() {
        let text =
            "allow_internet_access: false needs a SandboxSet with a template of its own, without templateRef";
        return Err(ApiError::bad_request(text));
    }
    Ok(())
}

/// The runtime sets these variables in a process, which accepts no other.
fn check_env_vars(env_vars: &Texts) -> Result<(), ApiError> {
    let is_bad = |(name, value): (&String, &String)| {
        name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
    };
    if env_vars.iter().any(is_bad) {
        return Err(ApiError::bad_request("envVars: expected names without = and values without NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> Option<ApiError> {
        refuse_unsupported(&serde_json::from_str(body).unwrap()).err()
    }

    #[test]
    fn e2b_5_1_what_we_cannot_do_is_refused_by_its_name() {
        for member in ["network", "iam", "volumeMounts"] {
            let value = if member == "volumeMounts" { r#"[{"name":"a","path":"/b"}]"# } else { r#"{"a":1}"# };
            let error = refused(&format!(r#"{{"templateID":"x","{member}":{value}}}"#)).unwrap();
            assert_eq!(error, ApiError::bad_request(format!("{member}: not supported by this server")));
        }
        for body in [
            r#"{"network":null,"iam":null,"volumeMounts":null,"mcp":null}"#,
            r#"{"network":{},"iam":{},"volumeMounts":[],"mcp":{"a":{}},"secure":true,"unknown":1}"#,
        ] {
            assert_eq!(refused(body), None, "{body}");
        }
    }
}
