//! The one list of settings: field of the file, flag, variable, help, and how a text becomes a value.
//!
//! `file.rs` reads and prints through it and the `cli` module makes flags from it, so that a setting cannot exist
//! in one place and be missing in another.

use std::{ops::RangeInclusive, str::FromStr};

use super::{LabelSelector, SandboxManagerOptions, duration, schema::Shape, scope};

/// What YAML must write for a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any scalar; its text counts, so `bindAddress: 0` needs no quotes.
    Text,
    /// A number without quotes.
    Number,
    /// `true` or `false` without quotes.
    Boolean,
}

/// One setting of [`SandboxManagerOptions`].
#[derive(Debug)]
pub struct Setting {
    /// Field in the file, such as `cache.pageSize`.
    pub path: &'static str,
    /// Flag without its dashes, such as `cache-page-size`.
    pub flag: &'static str,
    /// Environment variable: `SANDBOX_MANAGER_` and the flag.
    pub env: &'static str,
    /// Placeholder of the value in help texts.
    pub value_name: &'static str,
    /// What it does, for help texts.
    pub help: &'static str,
    /// What values are accepted, to follow the word "expected".
    pub accepts: &'static str,
    pub(super) shape: Shape,
    get: fn(&SandboxManagerOptions) -> String,
    set: fn(&mut SandboxManagerOptions, &str) -> Result<(), Refusal>,
}

/// A value that a setting does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {}: {reason}", quoted(.value))]
pub struct InvalidValue {
    /// The text as given.
    pub value: String,
    /// What is accepted, or what exactly is wrong with it.
    pub reason: String,
}

/// Why a setter said no.
enum Refusal {
    /// What the setting accepts says it all.
    NotAccepted,
    /// Something more exact.
    Because(String),
}

impl Setting {
    /// This setting's value in `options`, as a text that [`Setting::set`] would accept.
    #[must_use]
    pub fn get(&self, options: &SandboxManagerOptions) -> String {
        (self.get)(options)
    }

    /// Whether it is switched on by naming its flag alone.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.kind() == Kind::Boolean
    }

    pub(super) fn kind(&self) -> Kind {
        match self.shape {
            Shape::Switch => Kind::Boolean,
            Shape::Number(_) => Kind::Number,
            _ => Kind::Text,
        }
    }

    /// Reads `text` into this setting's place in `options`.
    ///
    /// # Errors
    ///
    /// When the text is not accepted; `options` are then unchanged.
    pub fn set(&self, options: &mut SandboxManagerOptions, text: &str) -> Result<(), InvalidValue> {
        (self.set)(options, text).map_err(|refusal| InvalidValue {
            value: text.to_owned(),
            reason: match refusal {
                Refusal::NotAccepted => format!("expected {}", self.accepts),
                Refusal::Because(reason) => reason,
            },
        })
    }
}

/// The value in quotes on one line, cut when it is very long.
fn quoted(value: &str) -> String {
    const LONGEST: usize = 200;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &value[..end]),
        None => format!("{value:?}"),
    }
}

fn put<T>(place: &mut T, value: Option<T>) -> Result<(), Refusal> {
    *place = value.ok_or(Refusal::NotAccepted)?;
    Ok(())
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn number<T: FromStr + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Option<T> {
    // FromStr would also take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

fn namespace(text: &str) -> Option<String> {
    (text.is_empty() || scope::is_dns_label(text)).then(|| text.to_owned())
}

fn label_selector(text: &str) -> Result<String, Refusal> {
    match LabelSelector::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Refusal::Because(error.detail())),
    }
}

const NAMESPACE: &str = "the name of a namespace (lower-case letters, digits and `-`, beginning and ending with a \
                         letter or digit, at most 63 characters) or nothing";
const ADDRESS: &str = "`host:port`, `:port` for every interface, or `0` to switch it off";
const DURATION: &str = "a duration such as 500ms, 30s, 2m or 1h30m";
const RECONCILES: &str = "a whole number from 1 to 65535";
const PAGE_SIZE: RangeInclusive<u32> = 1..=10_000;
const REQUESTS: RangeInclusive<u32> = 1..=1_000_000;

/// Every setting, in the order of the file.
pub static SETTINGS: &[Setting] = &[
    Setting {
        path: "sandboxNamespace",
        flag: "sandbox-namespace",
        env: "SANDBOX_MANAGER_SANDBOX_NAMESPACE",
        value_name: "NAMESPACE",
        help: "Namespace of the sandboxes; empty: every namespace",
        accepts: NAMESPACE,
        shape: Shape::Namespace,
        get: |options| options.sandbox_namespace.clone(),
        set: |options, text| put(&mut options.sandbox_namespace, namespace(text)),
    },
    Setting {
        path: "sandboxLabelSelector",
        flag: "sandbox-label-selector",
        env: "SANDBOX_MANAGER_SANDBOX_LABEL_SELECTOR",
        value_name: "SELECTOR",
        help: "Label selector of the sandbox kinds, as kubectl reads it; empty: everything",
        accepts: "a label selector such as `team=a,tier in (x,y),!legacy`",
        shape: Shape::Selector,
        get: |options| options.sandbox_label_selector.clone(),
        set: |options, text| {
            options.sandbox_label_selector = label_selector(text)?;
            Ok(())
        },
    },
    Setting {
        path: "systemNamespace",
        flag: "system-namespace",
        env: "SANDBOX_MANAGER_SYSTEM_NAMESPACE",
        value_name: "NAMESPACE",
        help: "Namespace of the Secrets and ConfigMaps to read; empty: none are read",
        accepts: NAMESPACE,
        shape: Shape::Namespace,
        get: |options| options.system_namespace.clone(),
        set: |options, text| put(&mut options.system_namespace, namespace(text)),
    },
    Setting {
        path: "metrics.bindAddress",
        flag: "metrics-bind-address",
        env: "SANDBOX_MANAGER_METRICS_BIND_ADDRESS",
        value_name: "ADDRESS",
        help: "Address of /metrics; port 0 takes a free one, `0` switches it off",
        accepts: ADDRESS,
        shape: Shape::Address,
        get: |options| options.metrics.bind_address.to_string(),
        set: |options, text| put(&mut options.metrics.bind_address, parsed(text)),
    },
    Setting {
        path: "health.bindAddress",
        flag: "health-probe-bind-address",
        env: "SANDBOX_MANAGER_HEALTH_PROBE_BIND_ADDRESS",
        value_name: "ADDRESS",
        help: "Address of /livez, /healthz and /readyz; port 0 takes a free one, `0` switches it off",
        accepts: ADDRESS,
        shape: Shape::Address,
        get: |options| options.health.bind_address.to_string(),
        set: |options, text| put(&mut options.health.bind_address, parsed(text)),
    },
    Setting {
        path: "debug.enabled",
        flag: "debug-endpoints",
        env: "SANDBOX_MANAGER_DEBUG_ENDPOINTS",
        value_name: "BOOL",
        help: "Serve /debug/cache/{plural} on the health address",
        accepts: "true or false",
        shape: Shape::Switch,
        get: |options| options.debug.enabled.to_string(),
        set: |options, text| put(&mut options.debug.enabled, parsed(text)),
    },
    Setting {
        path: "controllers.sandbox.maxConcurrentReconciles",
        flag: "sandbox-max-concurrent-reconciles",
        env: "SANDBOX_MANAGER_SANDBOX_MAX_CONCURRENT_RECONCILES",
        value_name: "NUMBER",
        help: "How many Sandboxes are reconciled at once",
        accepts: RECONCILES,
        shape: Shape::Number(1..=u16::MAX as u32),
        get: |options| options.controllers.sandbox.max_concurrent_reconciles.to_string(),
        set: |options, text| {
            put(&mut options.controllers.sandbox.max_concurrent_reconciles, number(text, &(1..=u16::MAX)))
        },
    },
    Setting {
        path: "controllers.sandboxSet.maxConcurrentReconciles",
        flag: "sandbox-set-max-concurrent-reconciles",
        env: "SANDBOX_MANAGER_SANDBOX_SET_MAX_CONCURRENT_RECONCILES",
        value_name: "NUMBER",
        help: "How many SandboxSets are reconciled at once",
        accepts: RECONCILES,
        shape: Shape::Number(1..=u16::MAX as u32),
        get: |options| options.controllers.sandbox_set.max_concurrent_reconciles.to_string(),
        set: |options, text| {
            put(&mut options.controllers.sandbox_set.max_concurrent_reconciles, number(text, &(1..=u16::MAX)))
        },
    },
    Setting {
        path: "cache.syncTimeout",
        flag: "cache-sync-timeout",
        env: "SANDBOX_MANAGER_CACHE_SYNC_TIMEOUT",
        value_name: "DURATION",
        help: "How long a cache that is started on its own waits until every kind is synced",
        accepts: "a duration above zero such as 30s, 2m or 1h30m",
        shape: Shape::PositiveDuration,
        get: |options| duration::format(options.cache.sync_timeout),
        set: |options, text| {
            let positive = duration::parse(text).filter(|timeout| !timeout.is_zero());
            put(&mut options.cache.sync_timeout, positive)
        },
    },
    Setting {
        path: "cache.pageSize",
        flag: "cache-page-size",
        env: "SANDBOX_MANAGER_CACHE_PAGE_SIZE",
        value_name: "NUMBER",
        help: "Objects in one page of a list",
        accepts: "a whole number from 1 to 10000",
        shape: Shape::Number(PAGE_SIZE),
        get: |options| options.cache.page_size.to_string(),
        set: |options, text| put(&mut options.cache.page_size, number(text, &PAGE_SIZE)),
    },
    Setting {
        path: "client.qps",
        flag: "kube-api-qps",
        env: "SANDBOX_MANAGER_KUBE_API_QPS",
        value_name: "NUMBER",
        help: "Requests a second to the API server over time; 0: no limit",
        accepts: "a whole number from 0 (no limit) to 1000000",
        shape: Shape::Number(0..=*REQUESTS.end()),
        get: |options| options.client.qps.to_string(),
        set: |options, text| put(&mut options.client.qps, number(text, &(0..=*REQUESTS.end()))),
    },
    Setting {
        path: "client.burst",
        flag: "kube-api-burst",
        env: "SANDBOX_MANAGER_KUBE_API_BURST",
        value_name: "NUMBER",
        help: "Requests to the API server that may start at once after a quiet time",
        accepts: "a whole number from 1 to 1000000",
        shape: Shape::Number(REQUESTS),
        get: |options| options.client.burst.to_string(),
        set: |options, text| put(&mut options.client.burst, number(text, &REQUESTS)),
    },
    Setting {
        path: "log.level",
        flag: "log-level",
        env: "SANDBOX_MANAGER_LOG_LEVEL",
        value_name: "LEVEL",
        help: "Least level that is logged: error, warn, info, debug or trace; RUST_LOG, if set, goes before it",
        accepts: "one of error, warn, info, debug, trace",
        shape: Shape::Word(&["error", "warn", "info", "debug", "trace"]),
        get: |options| options.log.level.to_string(),
        set: |options, text| put(&mut options.log.level, parsed(text)),
    },
    Setting {
        path: "log.format",
        flag: "log-format",
        env: "SANDBOX_MANAGER_LOG_FORMAT",
        value_name: "FORMAT",
        help: "Shape of a log line: json or text",
        accepts: "one of json, text",
        shape: Shape::Word(&["json", "text"]),
        get: |options| options.log.format.to_string(),
        set: |options, text| put(&mut options.log.format, parsed(text)),
    },
    Setting {
        path: "shutdown.gracePeriod",
        flag: "shutdown-grace-period",
        env: "SANDBOX_MANAGER_SHUTDOWN_GRACE_PERIOD",
        value_name: "DURATION",
        help: "How long running handlers may go on after SIGTERM",
        accepts: DURATION,
        shape: Shape::Duration,
        get: |options| duration::format(options.shutdown.grace_period),
        set: |options, text| put(&mut options.shutdown.grace_period, duration::parse(text)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(path: &str) -> &'static Setting {
        SETTINGS.iter().find(|setting| setting.path == path).unwrap()
    }

    #[test]
    fn every_variable_is_named_after_its_flag() {
        for setting in SETTINGS {
            let derived = format!("SANDBOX_MANAGER_{}", setting.flag.replace('-', "_").to_uppercase());
            assert_eq!(setting.env, derived);
        }
    }

    #[test]
    fn every_default_is_accepted_by_its_own_setting() {
        let mut options = SandboxManagerOptions::default();
        for setting in SETTINGS {
            let text = setting.get(&options);
            setting.set(&mut options, &text).unwrap();
        }
        assert_eq!(options, SandboxManagerOptions::default());
    }

    #[test]
    fn what_is_refused_changes_nothing_and_says_what_is_accepted() {
        for (path, text) in [
            ("sandboxNamespace", "Not_A_Name"),
            ("sandboxNamespace", "-a"),
            ("sandboxLabelSelector", "a in"),
            ("metrics.bindAddress", "8080"),
            ("debug.enabled", "yes"),
            ("controllers.sandbox.maxConcurrentReconciles", "0"),
            ("controllers.sandboxSet.maxConcurrentReconciles", "65536"),
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
    fn a_refused_value_stays_on_one_line() {
        let mut options = SandboxManagerOptions::default();
        let error = setting("log.level").set(&mut options, &"x\n".repeat(500)).unwrap_err().to_string();
        assert!(!error.contains('\n') && error.len() < 1000, "{error}");
    }
}
