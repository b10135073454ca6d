//! [`OptionsLoader`]: settings from the file, the environment and the flags, and every fault in them.
//!
//! A fault does not end the loading: a user sees all faults of the configuration at once and corrects them in one
//! step. The `cli` module calls this; a program with a command line of its own can do the same.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
};

use super::{
    SandboxManagerOptions, file,
    setting::{SETTINGS, Setting, kebab, most_similar, variable},
};

/// The first part of the name of every environment variable of this program.
pub const ENV_PREFIX: &str = "SANDBOX_MANAGER_";

/// Variables with [`ENV_PREFIX`] that are no settings, with their meaning.
pub const OTHER_VARIABLES: [(&str, &str); 4] = [
    ("SANDBOX_MANAGER_CONFIG", "File with options, as --config"),
    ("SANDBOX_MANAGER_KUBECONFIG", "Kubeconfig, as --kubeconfig"),
    ("SANDBOX_MANAGER_CONTEXT", "Context of the kubeconfig, as --context"),
    ("SANDBOX_MANAGER_REVISION", "Revision that --version prints. Read only when the program is compiled"),
];

/// Every fault of a configuration. Prints one fault per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .faults.join("\n"))]
pub struct OptionsError {
    /// At least one fault, each on one line: the place, the problem, and what is accepted. First those of the file,
    /// then those of the environment, then those of the flags.
    pub faults: Vec<String>,
}

/// Loads options from several sources. A source overrides those that were loaded before it.
///
/// ```
/// use sandbox_manager::options::{OptionsLoader, SandboxManagerOptions};
///
/// let mut loader = OptionsLoader::new(SandboxManagerOptions::default());
/// loader.environment([("SANDBOX_MANAGER_LOG_LEVLE".into(), "debug".into())]);
/// let error = loader.finish().unwrap_err().to_string();
/// assert!(error.contains("did you mean `SANDBOX_MANAGER_LOG_LEVEL`?"), "{error}");
/// ```
#[derive(Debug)]
pub struct OptionsLoader {
    options: SandboxManagerOptions,
    faults: Vec<String>,
}

impl OptionsLoader {
    /// Starts with these options instead of any source.
    #[must_use]
    pub fn new(defaults: SandboxManagerOptions) -> Self {
        Self { options: defaults, faults: Vec::new() }
    }

    /// Loads a YAML file. Fields that the file leaves out keep their values.
    pub fn file(&mut self, path: &Path) {
        file::load(path, &mut self.options, &mut self.faults);
    }

    /// Loads environment variables, usually all of [`std::env::vars_os`]. Variables without [`ENV_PREFIX`] and empty
    /// ones are ignored, and so are the variables that Kubernetes sets for a Service of that name. Every other
    /// variable that is neither of a setting nor among [`OTHER_VARIABLES`] is a fault.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name.starts_with(ENV_PREFIX) && !value.is_empty()).then_some((name, value))
        });
        // Sorted, so that the same environment always gives the same errors.
        let mut ours: Vec<_> = ours.collect();
        ours.sort();
        let services: BTreeSet<_> = ours
            .iter()
            .filter_map(|(name, _)| name.strip_suffix("_SERVICE_HOST"))
            .map(str::to_owned)
            .collect();
        for (name, value) in &ours {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == *name) {
                self.set(setting, name, value);
            } else if !is_other(name) && !services.iter().any(|service| is_service_link(name, service)) {
                self.faults.push(unknown_variable(name));
            }
        }
    }

    /// Loads the value of a flag.
    pub fn flag(&mut self, setting: &Setting, value: &OsStr) {
        self.set(setting, &format!("--{}", setting.flag), value);
    }

    /// Adds a fault of a value that is no setting, to be reported with the others. `origin` is the variable, or the
    /// flag with its dashes.
    pub fn add_fault(&mut self, origin: &str, problem: impl fmt::Display) {
        self.faults.push(format!("{origin}: {problem}"));
    }

    /// Returns the options.
    ///
    /// # Errors
    ///
    /// Any source has a fault, or the settings contradict each other. The error has the faults of all sources.
    pub fn finish(self) -> Result<SandboxManagerOptions, OptionsError> {
        let Self { options, mut faults } = self;
        if let Err(error) = options.leader_election.validate() {
            faults.push(error.to_string());
        }
        if let Err(error) = options.e2b.validate(&options.system_namespace) {
            faults.push(error.to_string());
        }
        if faults.is_empty() { Ok(options) } else { Err(OptionsError { faults }) }
    }

    fn set(&mut self, setting: &Setting, origin: &str, value: &OsStr) {
        match value.to_str().map(|text| setting.set(&mut self.options, text)) {
            Some(Ok(())) => {}
            Some(Err(error)) => self.add_fault(origin, error),
            None => self.add_fault(origin, "not UTF-8 text"),
        }
    }
}

fn is_other(name: &str) -> bool {
    OTHER_VARIABLES.iter().any(|(other, _)| *other == name)
}

/// Returns true if Kubernetes sets this variable for the Service whose variables begin with `service`.
///
/// Kubernetes sets these in every pod of the namespace, unless the pod disables `enableServiceLinks`. A Service named
/// `sandbox-manager` must not keep the process from starting.
fn is_service_link(name: &str, service: &str) -> bool {
    let Some(rest) = name.strip_prefix(service).and_then(|rest| rest.strip_prefix('_')) else { return false };
    let of_port = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    matches!(rest, "SERVICE_HOST" | "SERVICE_PORT" | "PORT")
        || rest.starts_with("SERVICE_PORT_")
        || rest.strip_prefix("PORT_").is_some_and(of_port)
}

fn unknown_variable(name: &str) -> String {
    // The name that a user expects who knows the field of the file.
    let by_field = SETTINGS.iter().find(|setting| variable(&kebab(&setting.path)) == name);
    let known = SETTINGS.iter().map(|setting| &*setting.env).chain(OTHER_VARIABLES.map(|(other, _)| other));
    let rest = |name: &'static str| name.trim_start_matches(ENV_PREFIX);
    let similar = || most_similar(&name[ENV_PREFIX.len()..], known.map(rest)).map(variable);
    let hint = match by_field.map(|setting| setting.env.clone()).or_else(similar) {
        Some(meant) => format!(", did you mean `{meant}`?"),
        None => String::new(),
    };
    format!("{name}: unknown variable{hint} (--help names every variable)")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn load(variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<SandboxManagerOptions, String> {
        let mut loader = OptionsLoader::new(SandboxManagerOptions::default());
        loader.environment(variables.iter().map(|(name, value)| (name.into(), value.into())));
        for (flag, value) in flags {
            let setting = SETTINGS.iter().find(|setting| setting.flag == *flag).unwrap();
            loader.flag(setting, OsStr::new(value));
        }
        loader.finish().map_err(|error| error.to_string())
    }

    #[test]
    fn y8_an_unknown_variable_is_refused_with_a_suggestion() {
        for (name, hint) in [
            ("SANDBOX_MANAGER_LOG_LEVLE", ", did you mean `SANDBOX_MANAGER_LOG_LEVEL`?"),
            ("SANDBOX_MANAGER_CACHE_PAGESIZE", ", did you mean `SANDBOX_MANAGER_CACHE_PAGE_SIZE`?"),
            ("SANDBOX_MANAGER_KUBE_CONFIG", ", did you mean `SANDBOX_MANAGER_KUBECONFIG`?"),
            // By the field of the file.
            ("SANDBOX_MANAGER_CLIENT_QPS", ", did you mean `SANDBOX_MANAGER_KUBE_API_QPS`?"),
            (
                "SANDBOX_MANAGER_CONTROLLERS_SANDBOX_SET_MAX_CONCURRENT_RECONCILES",
                ", did you mean `SANDBOX_MANAGER_SANDBOX_SET_MAX_CONCURRENT_RECONCILES`?",
            ),
            ("SANDBOX_MANAGER_ZZZ", ""),
            ("SANDBOX_MANAGER_", ""),
        ] {
            let expected = format!("{name}: unknown variable{hint} (--help names every variable)");
            assert_eq!(load(&[(name, "1")], &[]), Err(expected));
        }
    }

    #[test]
    fn y8_every_fault_is_reported_at_once_and_none_hides_behind_a_source_that_overrides_it() {
        let error = load(
            &[("SANDBOX_MANAGER_CACHE_PAGE_SIZE", "many"), ("SANDBOX_MANAGER_LOG_LEVEL", "loud")],
            &[("log-level", "info"), ("kube-api-qps", "-1")],
        );
        let expected = [
            "SANDBOX_MANAGER_CACHE_PAGE_SIZE: invalid value \"many\": expected a whole number from 1 to 10000",
            "SANDBOX_MANAGER_LOG_LEVEL: invalid value \"loud\": expected one of error, warn, info, debug, trace",
            "--kube-api-qps: invalid value \"-1\": expected a whole number from 0 to 1000000",
        ];
        assert_eq!(error.unwrap_err(), expected.join("\n"));
    }

    #[test]
    fn flags_override_variables_and_an_empty_variable_counts_as_not_set() {
        let variables = [
            ("SANDBOX_MANAGER_SANDBOX_NAMESPACE", "variable"),
            ("SANDBOX_MANAGER_SYSTEM_NAMESPACE", "variable"),
            ("SANDBOX_MANAGER_LOG_LEVEL", ""),
            ("SANDBOX_MANAGER_UNKNOWN", ""),
        ];
        let options = load(&variables, &[("sandbox-namespace", "flag")]).unwrap();
        assert_eq!((&*options.sandbox_namespace, &*options.system_namespace), ("flag", "variable"));
        // Only a flag can set a setting to the empty text.
        assert_eq!(load(&variables, &[("sandbox-namespace", "")]).unwrap().sandbox_namespace, "");
    }

    #[test]
    fn variables_of_other_programs_and_those_that_are_no_settings_are_ignored() {
        let mut variables: Vec<_> = OTHER_VARIABLES.iter().map(|(name, _)| (*name, "x")).collect();
        variables.extend([("HOME", "/"), ("SANDBOX_MANAGERS", "x"), ("RUST_LOG", "trace")]);
        assert_eq!(load(&variables, &[]), Ok(SandboxManagerOptions::default()));
    }

    #[test]
    fn variables_that_kubernetes_sets_for_a_service_are_ignored_without_it_they_are_not() {
        let links = [
            ("SANDBOX_MANAGER_SERVICE_HOST", "10.0.0.1"),
            ("SANDBOX_MANAGER_SERVICE_PORT", "8080"),
            ("SANDBOX_MANAGER_SERVICE_PORT_METRICS", "8080"),
            ("SANDBOX_MANAGER_PORT", "tcp://10.0.0.1:8080"),
            ("SANDBOX_MANAGER_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("SANDBOX_MANAGER_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("SANDBOX_MANAGER_METRICS_SERVICE_HOST", "10.0.0.2"),
            ("SANDBOX_MANAGER_METRICS_PORT", "tcp://10.0.0.2:8080"),
        ];
        assert_eq!(load(&links, &[]), Ok(SandboxManagerOptions::default()));
        for (name, value) in links.iter().filter(|(name, _)| !name.ends_with("_SERVICE_HOST")) {
            let error = load(&[(name, value)], &[]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: unknown variable")), "{error}");
        }
    }

    #[test]
    fn a_value_that_is_not_utf_8_is_a_fault() {
        let bytes = || OsString::from_vec(vec![0xff]);
        let mut loader = OptionsLoader::new(SandboxManagerOptions::default());
        loader.environment([("SANDBOX_MANAGER_LOG_LEVEL".into(), bytes())]);
        loader.flag(&SETTINGS[0], &bytes());
        let error = loader.finish().unwrap_err().to_string();
        assert_eq!(error, "SANDBOX_MANAGER_LOG_LEVEL: not UTF-8 text\n--sandbox-namespace: not UTF-8 text");
    }
}
