//! [`SETTINGS`]: what the fields of [`SandboxManagerOptions`] say about each setting, as a list.
//!
//! The list is derived from the schema of the structure. The file, the environment, the flags and the documentation
//! use it, so that a setting cannot exist in one of them and be missing in another.

use std::{ops::RangeInclusive, sync::LazyLock};

use serde::Deserialize as _;
use serde_json::Value;

use super::{SandboxManagerOptions, loader::ENV_PREFIX, schema};

/// One setting of [`SandboxManagerOptions`].
#[derive(Clone, Debug)]
pub struct Setting {
    /// Field in the file, such as `cache.pageSize`.
    pub path: String,
    /// Flag without its dashes, such as `cache-page-size`.
    pub flag: String,
    /// Environment variable: [`ENV_PREFIX`] and the flag in upper case.
    pub env: String,
    /// Placeholder of the value in help texts.
    pub value_name: String,
    /// What the setting does: whole sentences, each with a full stop.
    pub help: String,
    /// The accepted values, to be read after the word "expected".
    pub accepts: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// The form of the text is checked by the type of the field.
    Text,
    /// One of these words.
    Word(Vec<String>),
    /// A whole number in this range.
    Number(RangeInclusive<u64>),
    /// `true` or `false`.
    Boolean,
}

/// A value that a setting does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {}: {reason}", quoted(.value))]
pub struct SetError {
    /// The text as given.
    pub value: String,
    /// What is accepted, or what exactly is wrong with the text.
    pub reason: String,
}

/// Every setting, in the order of the fields.
pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let mut settings = Vec::new();
    // The schema sorts its fields by name; the printed options have them in the order of the structure.
    let fields = serde_yaml::to_value(SandboxManagerOptions::default()).unwrap_or_default();
    collect(&schema::derived(), &fields, "", "", &mut settings);
    settings
});

fn collect(schema: &Value, fields: &serde_yaml::Value, path: &str, flag: &str, settings: &mut Vec<Setting>) {
    let Some(inner) = fields.as_mapping() else {
        settings.push(Setting::new(path, flag, schema));
        return;
    };
    for (name, value) in inner {
        let name = name.as_str().unwrap_or_default();
        let schema = &schema["properties"][name];
        let flag = schema["x-flag"].as_str().map_or_else(|| join(flag, "-", &kebab(name)), str::to_owned);
        collect(schema, value, &join(path, ".", name), &flag, settings);
    }
}

pub(super) fn join(outer: &str, separator: &str, inner: &str) -> String {
    if outer.is_empty() { inner.to_owned() } else { format!("{outer}{separator}{inner}") }
}

/// A name in camel case, or a path of such names, in kebab case.
pub(super) fn kebab(name: &str) -> String {
    let dashed =
        |c: char| if c.is_ascii_uppercase() { format!("-{}", c.to_ascii_lowercase()) } else { c.into() };
    name.chars().map(dashed).collect()
}

/// The environment variable for a name in kebab case or with dots.
pub(super) fn variable(name: &str) -> String {
    format!("{ENV_PREFIX}{}", name.replace(['-', '.'], "_").to_uppercase())
}

impl Kind {
    fn of(schema: &Value) -> Self {
        let words = schema["enum"].as_array().map(|words| words.iter().filter_map(Value::as_str));
        let limit = |name: &str| schema[name].as_u64();
        match (schema["type"].as_str(), words) {
            (_, Some(words)) => Self::Word(words.map(str::to_owned).collect()),
            (Some("boolean"), _) => Self::Boolean,
            (Some("integer"), _) => {
                Self::Number(limit("minimum").unwrap_or(0)..=limit("maximum").unwrap_or(u64::MAX))
            }
            _ => Self::Text,
        }
    }

    /// The accepted values, if they are a short list or a range.
    fn values(&self) -> Option<String> {
        match self {
            Self::Word(words) => Some(words.join(", ")),
            Self::Number(range) => Some(format!("{} to {}", range.start(), range.end())),
            Self::Text | Self::Boolean => None,
        }
    }

    fn accepts(&self) -> String {
        match (self, self.values()) {
            (Self::Word(_), Some(words)) => format!("one of {words}"),
            (_, Some(range)) => format!("a whole number from {range}"),
            (Self::Boolean, None) => "true or false".to_owned(),
            (_, None) => "a text".to_owned(),
        }
    }

    /// Reads a text as the JSON value of the field; `None` if it is not accepted.
    fn read(&self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(text.into()),
            Self::Word(words) => words.iter().any(|word| word == text).then(|| text.into()),
            Self::Number(range) => {
                // FromStr would also accept a sign.
                let digits = text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse().ok().filter(|number| digits && range.contains(number)).map(Value::from)
            }
            // YAML has other spellings of these.
            Self::Boolean => text.to_lowercase().parse::<bool>().ok().map(Value::from),
        }
    }
}

impl Setting {
    fn new(path: &str, flag: &str, schema: &Value) -> Self {
        let kind = Kind::of(schema);
        let text = |name: &str| schema[name].as_str().map(str::to_owned);
        let value_name = text("x-name").unwrap_or_else(|| match kind {
            Kind::Number(_) => "NUMBER".to_owned(),
            Kind::Boolean => "BOOL".to_owned(),
            Kind::Word(_) | Kind::Text => path.rsplit('.').next().unwrap_or(path).to_uppercase(),
        });
        Self {
            path: path.to_owned(),
            flag: flag.to_owned(),
            env: variable(flag),
            value_name,
            help: text("description").unwrap_or_default(),
            accepts: text("x-accepts").unwrap_or_else(|| kind.accepts()),
            kind,
        }
    }

    /// Returns true if the flag alone, without a value, means `true`.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.kind == Kind::Boolean
    }

    /// Returns the accepted values, if they are a short list (`json, text`) or a range (`1 to 10000`).
    #[must_use]
    pub fn values(&self) -> Option<String> {
        self.kind.values()
    }

    /// Returns true if the file must write the value without quotes.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Boolean | Kind::Number(_))
    }

    /// Returns the value of this setting in `options`, as a text that [`Setting::set`] accepts.
    #[must_use]
    pub fn get(&self, options: &SandboxManagerOptions) -> String {
        let options = options.to_json();
        let value = self.path.split('.').fold(&options, |section, name| &section[name]);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    /// Sets the field of this setting in `options`.
    ///
    /// # Errors
    ///
    /// The text is not accepted, or another field already has an invalid value. `options` are unchanged then.
    pub fn set(&self, options: &mut SandboxManagerOptions, text: &str) -> Result<(), SetError> {
        let rejected = |reason| SetError { value: text.to_owned(), reason };
        let value = self.kind.read(text).ok_or_else(|| rejected(format!("expected {}", self.accepts)))?;
        let mut changed = options.to_json();
        *self.path.split('.').fold(&mut changed, |section, name| &mut section[name]) = value;
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(changed, &mut track);
        *options = SandboxManagerOptions::deserialize(tracked).map_err(|error| {
            let field = track.path().to_string();
            // A program can assign invalid values to other fields; the error must not blame this one.
            rejected(if field == self.path { error.to_string() } else { format!("{field}: {error}") })
        })?;
        Ok(())
    }
}

/// Returns the candidate that `unknown` is most likely a misspelling of.
pub(super) fn most_similar<'c>(
    unknown: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let unknown = unknown.to_lowercase();
    let similarity = |name: &str| strsim::jaro_winkler(&name.to_lowercase(), &unknown);
    let rated = candidates.into_iter().map(|name| (similarity(name), name));
    rated.filter(|(rate, _)| *rate > 0.8).max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, name)| name)
}

/// Returns the value in quotes on one line, cut if it is very long.
fn quoted(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(path: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.path == path).unwrap()
    }

    /// The names that users write in their files, manifests and scripts.
    #[test]
    fn fields_and_flags_have_their_published_names_in_the_order_of_the_structure() {
        let names: Vec<_> = SETTINGS.iter().map(|setting| (&*setting.path, &*setting.flag)).collect();
        assert_eq!(
            names,
            [
                ("sandboxNamespace", "sandbox-namespace"),
                ("sandboxLabelSelector", "sandbox-label-selector"),
                ("systemNamespace", "system-namespace"),
                ("metrics.bindAddress", "metrics-bind-address"),
                ("health.bindAddress", "health-probe-bind-address"),
                ("health.staleAfter", "health-stale-after"),
                ("debug.enabled", "debug-endpoints"),
                ("controllers.sandbox.maxConcurrentReconciles", "sandbox-max-concurrent-reconciles"),
                ("controllers.sandboxSet.maxConcurrentReconciles", "sandbox-set-max-concurrent-reconciles"),
                (
                    "controllers.sandboxClaim.maxConcurrentReconciles",
                    "sandbox-claim-max-concurrent-reconciles"
                ),
                ("controllers.checkpoint.maxConcurrentReconciles", "checkpoint-max-concurrent-reconciles"),
                ("leaderElection.enabled", "leader-elect"),
                ("leaderElection.namespace", "leader-elect-resource-namespace"),
                ("leaderElection.name", "leader-elect-resource-name"),
                ("leaderElection.leaseDuration", "leader-elect-lease-duration"),
                ("leaderElection.renewDeadline", "leader-elect-renew-deadline"),
                ("leaderElection.retryPeriod", "leader-elect-retry-period"),
                ("lifecycle.enabled", "lifecycle-enabled"),
                ("lifecycle.initRuntime", "lifecycle-init-runtime"),
                ("e2b.enabled", "e2b-enabled"),
                ("e2b.bindAddress", "e2b-bind-address"),
                ("e2b.domain", "e2b-domain"),
                ("e2b.auth", "e2b-auth"),
                ("e2b.firstKeyTeam", "e2b-first-key-team"),
                ("e2b.allowUnauthenticated", "e2b-allow-unauthenticated"),
                ("e2b.tls.certFile", "e2b-tls-cert-file"),
                ("e2b.tls.keyFile", "e2b-tls-key-file"),
                ("e2b.createOnNoStock", "e2b-create-on-no-stock"),
                ("e2b.initRuntime", "e2b-init-runtime"),
                ("e2b.envdVersion", "e2b-envd-version"),
                ("e2b.minTimeout", "e2b-min-timeout"),
                ("e2b.maxTimeout", "e2b-max-timeout"),
                ("e2b.maxConcurrentClaims", "e2b-max-concurrent-claims"),
                ("e2b.maxConcurrentClaimsPerKey", "e2b-max-concurrent-claims-per-key"),
                ("cache.syncTimeout", "cache-sync-timeout"),
                ("cache.pageSize", "cache-page-size"),
                ("cache.persistentVolumes", "cache-persistent-volumes"),
                ("client.qps", "kube-api-qps"),
                ("client.burst", "kube-api-burst"),
                ("log.level", "log-level"),
                ("log.format", "log-format"),
                ("shutdown.gracePeriod", "shutdown-grace-period"),
            ]
        );
    }

    #[test]
    fn every_setting_is_documented_and_has_a_variable_named_after_its_flag() {
        for setting in &*SETTINGS {
            let derived = format!("SANDBOX_MANAGER_{}", setting.flag.replace('-', "_").to_uppercase());
            assert_eq!(setting.env, derived);
            assert!(setting.help.ends_with('.'), "{}: {:?}", setting.path, setting.help);
            assert_ne!(setting.accepts, "a text", "{}", setting.path);
        }
    }

    #[test]
    fn every_default_is_accepted_by_its_own_setting() {
        let mut options = SandboxManagerOptions::default();
        for setting in &*SETTINGS {
            let text = setting.get(&options);
            setting.set(&mut options, &text).unwrap();
        }
        assert_eq!(options, SandboxManagerOptions::default());
    }

    #[test]
    fn numbers_at_the_edge_of_their_range_are_accepted_and_those_beyond_are_not() {
        let mut numbers = 0;
        for setting in &*SETTINGS {
            let accepts =
                |number: u64| setting.set(&mut SandboxManagerOptions::default(), &number.to_string()).is_ok();
            if let Kind::Number(range) = &setting.kind {
                numbers += 1;
                assert!(accepts(*range.start()) && accepts(*range.end()), "{}", setting.path);
                assert!(!accepts(range.end() + 1), "{}", setting.path);
                assert!(range.start().checked_sub(1).is_none_or(|below| !accepts(below)), "{}", setting.path);
            }
        }
        assert_eq!(numbers, 9);
    }

    #[test]
    fn a_rejected_value_changes_nothing_and_the_error_says_what_is_accepted() {
        for (path, text) in [
            ("sandboxNamespace", "Not_A_Name"),
            ("sandboxNamespace", "-a"),
            ("sandboxLabelSelector", "a in"),
            ("metrics.bindAddress", "8080"),
            ("debug.enabled", "yes"),
            ("controllers.sandbox.maxConcurrentReconciles", "0"),
            ("controllers.sandboxSet.maxConcurrentReconciles", "65536"),
            ("e2b.domain", "https://example.com"),
            ("e2b.auth", "basic"),
            ("e2b.firstKeyTeam", "Admin"),
            ("e2b.tls.certFile", "a\nb"),
            ("e2b.envdVersion", "latest"),
            ("cache.syncTimeout", "0s"),
            ("cache.pageSize", "10001"),
            ("cache.pageSize", "+5"),
            ("client.qps", "-1"),
            ("client.burst", "0"),
            ("log.level", "INFO"),
            ("log.format", "xml"),
            ("shutdown.gracePeriod", "30"),
        ] {
            let mut options = SandboxManagerOptions::default();
            let error = setting(path).set(&mut options, text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid value {text:?}: ")), "{error}");
            assert!(error.contains("expected "), "{error}");
            assert_eq!(options, SandboxManagerOptions::default());
        }
    }

    #[test]
    fn an_invalid_value_of_another_field_is_named_by_that_field() {
        let mut options = SandboxManagerOptions { sandbox_namespace: "A".to_owned(), ..Default::default() };
        let error = setting("log.level").set(&mut options, "warn").unwrap_err();
        assert!(error.reason.starts_with("sandboxNamespace: expected the name of a namespace"), "{error}");
    }

    #[test]
    fn a_rejected_value_stays_on_one_line() {
        let mut options = SandboxManagerOptions::default();
        let error = setting("log.level").set(&mut options, &"x\n".repeat(500)).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() < 1000, "{error}");
    }
}
