//! The objects of the API as they are on the wire. The OpenAPI document is made of these types.
//!
//! Null is the same as absent in every request, and unknown members are ignored. In answers, a member that may be null
//! breaks some SDKs: `lifecycle` and `network` are never null.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Texts by names.
pub(super) type Texts = BTreeMap<String, String>;

/// The body of a create. It has secrets in `envVars`, so it is never printed.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSandbox {
    /// Name of a SandboxSet, also as `namespace/name`, and with the tag `:default`.
    #[serde(rename = "templateID")]
    pub(super) template_id: Option<String>,
    /// Seconds until the sandbox ends or is paused. Default: 300.
    pub(super) timeout: Option<i64>,
    /// Any texts, which the list can be filtered by.
    pub(super) metadata: Option<Texts>,
    /// Environment variables for the runtime in the sandbox.
    pub(super) env_vars: Option<Texts>,
    /// Pause the sandbox at its end instead of killing it.
    pub(super) auto_pause: Option<bool>,
    /// Whether a pause keeps the memory. Without an effect.
    pub(super) auto_pause_memory: Option<bool>,
    /// Whether requests to a paused sandbox resume it.
    pub(super) auto_resume: Option<AutoResume>,
    /// Whether the sandbox may reach the internet. Written as the label `agents.kruise.io/allow-internet-access` of its pod,
    /// and nothing else: a `NetworkPolicy` of the cluster must act on it.
    #[serde(rename = "allow_internet_access")]
    pub(super) allow_internet_access: Option<bool>,
    /// Accepted. The access token is always issued.
    pub(super) secure: Option<bool>,
    /// Accepted. The SDK starts the gateway itself.
    pub(super) mcp: Option<Value>,
    /// Not supported.
    pub(super) network: Option<Value>,
    /// Not supported.
    pub(super) volume_mounts: Option<Vec<Value>>,
    /// Not supported.
    pub(super) iam: Option<Value>,
}

/// Whether requests to a paused sandbox resume it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct AutoResume {
    /// Needs `autoPause`.
    pub(super) enabled: Option<bool>,
}

/// The body of a change of the end.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(super) struct NewTimeout {
    /// Seconds from now.
    #[schemars(required)]
    pub(super) timeout: Option<i64>,
}

/// The body of a refresh.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(super) struct Refresh {
    /// Seconds from now, at most 3600. Default: 15.
    pub(super) duration: Option<i64>,
}

/// The body of a connect and of a resume.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connect {
    /// Seconds from now. Default: 300 for a connect, 15 for a resume.
    pub(super) timeout: Option<i64>,
    /// Whether the memory is restored. Without an effect.
    pub(super) memory: Option<bool>,
    /// Accepted by a resume, without an effect.
    pub(super) auto_pause: Option<bool>,
}

/// The body of a pause.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pause {
    /// Whether the memory is kept. Without an effect.
    pub(super) memory: Option<bool>,
    /// Accepted: only a sandbox that is ready is paused.
    pub(super) require_healthy_guest: Option<bool>,
}

/// A sandbox that was created, connected to, or resumed. It has a token, so it is never printed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Sandbox")]
pub(super) struct SandboxAnswer {
    #[serde(rename = "templateID")]
    pub(super) template_id: String,
    #[serde(rename = "sandboxID")]
    pub(super) sandbox_id: String,
    /// Always empty.
    #[serde(rename = "clientID")]
    pub(super) client_id: &'static str,
    pub(super) envd_version: String,
    /// The token of the runtime in the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) envd_access_token: Option<String>,
    /// The domain below which the ports of the sandbox are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain: Option<String>,
}

/// The state of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Runs, or becomes ready.
    Running,
    /// Paused, being paused, or being resumed.
    Paused,
}

/// A sandbox in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedSandbox {
    #[serde(rename = "templateID")]
    pub(super) template_id: String,
    #[serde(rename = "sandboxID")]
    pub(super) sandbox_id: String,
    /// Always empty.
    #[serde(rename = "clientID")]
    pub(super) client_id: &'static str,
    /// RFC 3339.
    pub(super) started_at: String,
    /// RFC 3339. A sandbox without an end has the last second of the year 9999.
    pub(super) end_at: String,
    pub(super) envd_version: String,
    pub(super) cpu_count: u32,
    #[serde(rename = "memoryMB")]
    pub(super) memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    pub(super) disk_size_mb: u32,
    pub(super) state: State,
    pub(super) metadata: Texts,
}

/// What happens at the end of a sandbox.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lifecycle {
    pub(super) auto_resume: bool,
    pub(super) on_timeout: OnTimeout,
}

/// What happens at the end of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnTimeout {
    /// The sandbox is deleted.
    Kill,
    /// The sandbox is paused.
    Pause,
}

/// Everything about one sandbox. It has a token, so it is never printed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SandboxDetail {
    #[serde(flatten)]
    pub(super) listed: ListedSandbox,
    pub(super) lifecycle: Lifecycle,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_internet_access: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) envd_access_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) domain: Option<String>,
}

/// The logs of a sandbox. Always empty: the container's logs are in Kubernetes.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logs {
    pub(super) logs: Vec<Value>,
    pub(super) log_entries: Vec<Value>,
}

/// A template: a SandboxSet.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
pub(super) struct Template {
    #[serde(rename = "templateID")]
    pub(super) template_id: String,
    /// The revision of the template.
    #[serde(rename = "buildID")]
    pub(super) build_id: String,
    pub(super) cpu_count: u32,
    #[serde(rename = "memoryMB")]
    pub(super) memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    pub(super) disk_size_mb: u32,
    pub(super) public: bool,
    pub(super) aliases: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) created_at: String,
    pub(super) updated_at: String,
    pub(super) created_by: Option<Value>,
    pub(super) last_spawned_at: Option<String>,
    pub(super) spawn_count: u32,
    pub(super) build_count: u32,
    pub(super) envd_version: String,
    pub(super) build_status: BuildStatus,
}

/// A template is always ready: nothing is built here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BuildStatus {
    Ready,
}

/// A template that an alias stands for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Alias {
    #[serde(rename = "templateID")]
    pub(super) template_id: String,
    pub(super) public: bool,
}

/// The team of the caller: a namespace.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names on the wire")]
pub(super) struct Team {
    #[serde(rename = "teamID")]
    pub(super) team_id: String,
    pub(super) name: String,
    /// Always empty: keys are shown once.
    pub(super) api_key: &'static str,
    pub(super) is_default: bool,
}

/// The body of a new key. Unknown members are refused, as OpenKruise Agents does.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewKey {
    /// What the key is for.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// The namespace. Default: that of the caller.
    pub(super) team_name: Option<String>,
    /// Limits by scope (`running`, `all`) and dimension (`sandbox.count`).
    pub(super) quota: Option<BTreeMap<String, BTreeMap<String, i64>>>,
}

/// How a key is shown: its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mask {
    pub(super) prefix: String,
    pub(super) value_length: u32,
    pub(super) masked_value_prefix: String,
    pub(super) masked_value_suffix: String,
}

/// The user who made a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct User {
    #[serde(default)]
    pub(super) email: String,
    pub(super) id: String,
}

/// A key in a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedKey {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created_at: String,
    pub(super) created_by: Option<User>,
    pub(super) mask: Mask,
    pub(super) last_used: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<String>,
}

/// A new key. The only answer that has it, so it is never printed.
#[derive(Serialize, JsonSchema)]
pub(super) struct CreatedKey {
    #[serde(flatten)]
    pub(super) listed: ListedKey,
    /// The key. It cannot be read again.
    pub(super) key: String,
}
