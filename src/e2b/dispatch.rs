//! The choice of the operation.

use axum::response::Response;
use http::StatusCode;

use super::api::{Api, Call};
use super::errors::{ApiError, json};
use super::route::Operation;
use super::{admin, create, openapi, sandboxes, templates};

/// Answers a request that needs no key.
pub(super) fn answer_public(operation: Operation) -> Response {
    match operation {
        Operation::OpenApi => json(StatusCode::OK, &*openapi::DOCUMENT),
        _ => json(StatusCode::OK, &serde_json::json!({"status": "ok"})),
    }
}

/// Answers a request whose caller is known.
///
/// # Errors
///
/// Each is an answer too.
pub(super) async fn answer(api: &Api, call: &Call<'_>) -> Result<Response, ApiError> {
    match call.route.operation {
        Operation::CreateSandbox => create::create(api, call).await,
        Operation::ListSandboxes | Operation::ListRunningSandboxes => sandboxes::list(api, call),
        Operation::GetSandbox => sandboxes::get(api, call).await,
        Operation::KillSandbox => sandboxes::kill(api, call).await,
        Operation::SetTimeout => sandboxes::set_timeout(api, call).await,
        Operation::RefreshSandbox => sandboxes::refresh(api, call).await,
        Operation::PauseSandbox => sandboxes::pause(api, call).await,
        Operation::ConnectSandbox => sandboxes::connect(api, call).await,
        Operation::ResumeSandbox => sandboxes::resume(api, call).await,
        Operation::SandboxMetrics => sandboxes::metrics(api, call).await,
        Operation::SandboxLogs | Operation::SandboxLogsV2 => sandboxes::logs(api, call).await,
        Operation::ListTemplates => templates::list(api, call),
        Operation::GetTemplate => templates::get(api, call),
        Operation::GetAlias => templates::alias(api, call),
        Operation::ListTeams => Ok(admin::teams(call)),
        Operation::ListKeys => admin::list_keys(api, call),
        Operation::CreateKey => admin::create_key(api, call).await,
        Operation::DeleteKey => admin::delete_key(api, call).await,
        Operation::Health | Operation::OpenApi => Ok(answer_public(call.route.operation)),
        Operation::Unsupported => {
            Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "this server does not have this part of the API"))
        }
    }
}
