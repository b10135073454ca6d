//! The operations on sandboxes that exist.
//!
//! The engine decides what a sandbox allows, and what is written. This file reads the request and shapes the answer.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue};

use super::api::{Api, Call, WAIT, no_content, now};
use super::errors::{ApiError, json};
use super::failures::of_sandbox;
use super::list::{Key, ListQuery};
use super::metadata;
use super::route::Operation;
use super::templates::{pod_template, wanted_pool};
use super::types::{Connect, Logs, NewTimeout, Pause, Refresh};
use super::view;
use crate::claims::{Target, TimeoutChange};

/// Seconds of a connect without a timeout.
pub(super) const DEFAULT_TIMEOUT: i64 = 300;

/// Seconds of a resume, and of a refresh, that say no time.
const SHORT_TIMEOUT: i64 = 15;

/// The most seconds of a refresh.
const LONGEST_REFRESH: i64 = 3600;

const NEXT_TOKEN: HeaderName = HeaderName::from_static("x-next-token");
const TOTAL_RUNNING: HeaderName = HeaderName::from_static("x-total-running");

/// The sandbox that a request names, as its caller sees it, also if another replica has claimed it a moment ago.
async fn target(api: &Api, call: &Call<'_>) -> Result<Target, ApiError> {
    let id = call.route.id.as_str();
    call.notes.sandbox(id);
    let mut target = Target::new(id).owned_by(&call.caller.key_id);
    if let Some(team) = &call.caller.team {
        target = target.in_namespace(team);
    }
    api.claims.catch_up(&target).await.map_err(|error| of_sandbox(error, id))?;
    Ok(target)
}

pub(super) fn list(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let query = call.query()?;
    let query = match call.route.operation {
        Operation::ListRunningSandboxes => ListQuery::parse_running(&query)?,
        _ => ListQuery::parse(&query)?,
    };
    let template = query.template.as_deref().map(|template| wanted_pool(&call.caller, template));
    let (now, mut running, mut found) = (now(), 0_u64, Vec::new());
    for sandbox in api.own(&call.caller)? {
        let Some(state) = view::state(&sandbox, now) else { continue };
        running += u64::from(state == super::types::State::Running);
        let started = view::started_at(&sandbox);
        let matches = query.shows(state)
            && query.started_after.is_none_or(|after| started >= after)
            && template.as_ref().is_none_or(|pool| pool.as_ref().is_some_and(|pool| pool.is_of(&sandbox)))
            && has_all(&query.metadata, || metadata::of(&sandbox));
        if matches {
            let key = Key { started: started.as_second(), id: sandbox.sandbox_id().into_owned() };
            found.push((key, (sandbox, state)));
        }
    }
    let (page, next) = query.page(found);
    let shown: Vec<_> = page
        .into_iter()
        .map(|(sandbox, state)| {
            let template = pod_template(api, &sandbox);
            view::listed(&sandbox, state, template.as_ref(), &api.settings.common)
        })
        .collect();
    let mut response = json(StatusCode::OK, &shown);
    response.headers_mut().insert(TOTAL_RUNNING, HeaderValue::from(running));
    if let Some(next) = next.and_then(|next| HeaderValue::try_from(next).ok()) {
        response.headers_mut().insert(NEXT_TOKEN, next);
    }
    Ok(response)
}

/// Returns true if the metadata has all pairs. The metadata is read only if there are any.
fn has_all(pairs: &[(String, String)], metadata: impl FnOnce() -> super::types::Texts) -> bool {
    if pairs.is_empty() {
        return true;
    }
    let metadata = metadata();
    pairs.iter().all(|(key, value)| metadata.get(key) == Some(value))
}

pub(super) async fn get(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let id = &call.route.id;
    let sandbox = api.claims.get(&target(api, call).await?).map_err(|error| of_sandbox(error, id))?;
    let state = view::state(&sandbox, now()).ok_or_else(|| ApiError::no_sandbox(id))?;
    let template = pod_template(api, &sandbox);
    let detail = view::detail(&sandbox, state, template.as_ref(), &api.settings.common);
    Ok(json(StatusCode::OK, &detail))
}

pub(super) async fn kill(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let released = api.claims.release(&target(api, call).await?).await;
    released.map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(no_content())
}

pub(super) async fn set_timeout(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let target = target(api, call).await?;
    let NewTimeout { timeout } = call.json()?;
    let timeout = timeout.ok_or_else(|| ApiError::bad_request("timeout: missing"))?;
    change_end(api, call, &target, TimeoutChange::Set(api.lifetime(timeout)?)).await
}

pub(super) async fn refresh(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let target = target(api, call).await?;
    let seconds = call.json::<Refresh>()?.duration.unwrap_or(SHORT_TIMEOUT);
    let duration = u64::try_from(seconds).ok().filter(|_| (1..=LONGEST_REFRESH).contains(&seconds));
    let duration = duration.ok_or_else(|| {
        ApiError::bad_request(format!("duration: expected 1 to {LONGEST_REFRESH} seconds, not {seconds}"))
    })?;
    change_end(api, call, &target, TimeoutChange::Extend(Duration::from_secs(duration))).await
}

async fn change_end(
    api: &Api,
    call: &Call<'_>,
    target: &Target,
    change: TimeoutChange,
) -> Result<Response, ApiError> {
    let changed = api.claims.set_timeout(target, change).await;
    changed.map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(no_content())
}

pub(super) async fn pause(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let target = target(api, call).await?;
    let Pause { memory: _, require_healthy_guest: _ } = call.json()?;
    let paused = api.claims.pause(&target, WAIT).await;
    paused.map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(no_content())
}

pub(super) async fn connect(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let target = target(api, call).await?;
    let Connect { timeout, memory: _, auto_pause: _ } = call.json()?;
    let lifetime = api.lifetime(timeout.unwrap_or(DEFAULT_TIMEOUT))?;
    let connected = api.claims.connect(&target, lifetime, WAIT).await;
    let connected = connected.map_err(|error| of_sandbox(error, &call.route.id))?;
    let status = if connected.resumed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &view::answer(&connected.sandbox, &api.settings.common)))
}

pub(super) async fn resume(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    let target = target(api, call).await?;
    let Connect { timeout, memory: _, auto_pause: _ } = call.json()?;
    let lifetime = api.lifetime(timeout.unwrap_or(SHORT_TIMEOUT))?;
    let resumed = api.claims.resume(&target, lifetime, WAIT).await;
    let sandbox = resumed.map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(json(StatusCode::CREATED, &view::answer(&sandbox, &api.settings.common)))
}

/// Kubernetes has the metrics of the pods. The SDKs accept an empty list.
pub(super) async fn metrics(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    api.claims.get(&target(api, call).await?).map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(json(StatusCode::OK, &Vec::<serde_json::Value>::new()))
}

/// Kubernetes has the logs of the pods.
pub(super) async fn logs(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    api.claims.get(&target(api, call).await?).map_err(|error| of_sandbox(error, &call.route.id))?;
    Ok(json(StatusCode::OK, &Logs::default()))
}
