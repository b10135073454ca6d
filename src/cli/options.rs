//! The flags of the settings, and the configuration that file, environment and flags give together.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::Path,
};

use clap::{Arg, ArgAction, ArgMatches, builder::ValueParser};

use super::error::CliError;
use crate::{
    options::{LogFormat, LogLevel, OptionsLoader, SETTINGS, SandboxManagerOptions},
    telemetry::{self, Filter},
};

/// The variable that overrides the log level of the file and of `SANDBOX_MANAGER_LOG_LEVEL`.
const RUST_LOG: &str = "RUST_LOG";

/// The environment of the process.
pub(super) type Environment = [(OsString, OsString)];

/// `--config`, and a flag for each setting.
pub(super) fn args(defaults: &SandboxManagerOptions) -> Vec<Arg> {
    let file =
        arg("config", "FILE").help("YAML file with options [env: SANDBOX_MANAGER_CONFIG] [default: none]");
    let settings = SETTINGS.iter().map(|setting| {
        let default = Some(setting.get(defaults)).filter(|text| !text.is_empty());
        let default = default.as_deref().unwrap_or("empty");
        let (path, env) = (&setting.path, &setting.env);
        let help = setting.help.trim_end_matches('.');
        let values = setting.values().map_or_else(String::new, |values| format!(" [values: {values}]"));
        let arg = arg(&setting.flag, &setting.value_name)
            .help(format!("{help}{values} [file: {path}] [env: {env}] [default: {default}]"));
        if setting.is_switch() {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        }
    });
    std::iter::once(file).chain(settings).collect()
}

/// A flag whose value is taken as it is. The values are checked by the loader, which reports all faults at once.
pub(super) fn arg(name: &'static str, value_name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name(value_name)
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true)
        .action(ArgAction::Set)
}

/// Loads the configuration of a command.
pub(super) struct Loading<'m> {
    matches: &'m ArgMatches,
    environment: &'m Environment,
    loader: OptionsLoader,
    rust_log: Option<Filter>,
}

/// An accepted configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    pub(super) options: SandboxManagerOptions,
    filter: Filter,
}

impl<'m> Loading<'m> {
    /// Loads all sources over `defaults`.
    pub(super) fn new(
        matches: &'m ArgMatches,
        environment: &'m Environment,
        defaults: SandboxManagerOptions,
    ) -> Self {
        let mut loader = OptionsLoader::new(defaults);
        if let Some(file) = given(matches, environment, "config", "SANDBOX_MANAGER_CONFIG") {
            loader.file(Path::new(file));
        }
        loader.environment(environment.iter().cloned());
        for setting in &*SETTINGS {
            if let Some(value) = flag(matches, &setting.flag) {
                loader.flag(setting, value);
            }
        }
        let mut loading = Self { matches, environment, loader, rust_log: None };
        loading.load_rust_log();
        loading
    }

    /// A flag goes before `RUST_LOG`, which is not even read then.
    fn load_rust_log(&mut self) {
        let value =
            variable(self.environment, RUST_LOG).filter(|_| flag(self.matches, "log-level").is_none());
        let Some(value) = value else { return };
        match value.to_str().map(Filter::parse) {
            Some(Ok(filter)) => self.rust_log = Some(filter),
            Some(Err(error)) => self.add_fault(RUST_LOG, error),
            None => self.add_fault(RUST_LOG, "not UTF-8 text"),
        }
    }

    /// Returns a value that is no setting: that of the flag, otherwise that of the variable.
    pub(super) fn value(&self, name: &str, env: &str) -> Option<&'m OsStr> {
        given(self.matches, self.environment, name, env)
    }

    /// Does the same as [`Self::value`] for a value that must be text.
    pub(super) fn text(&mut self, name: &str, env: &str) -> Option<&'m str> {
        let value = self.value(name, env)?;
        if value.to_str().is_none() {
            let origin = flag(self.matches, name).map_or_else(|| env.to_owned(), |_| format!("--{name}"));
            self.add_fault(&origin, "not UTF-8 text");
        }
        value.to_str()
    }

    /// Adds a fault of a value that is no setting.
    pub(super) fn add_fault(&mut self, origin: &str, problem: impl fmt::Display) {
        self.loader.add_fault(origin, problem);
    }

    /// Returns the configuration, or all faults of all sources.
    pub(super) fn finish(self) -> Result<Configuration, CliError> {
        let options = self.loader.finish()?;
        let filter = self.rust_log.unwrap_or_else(|| Filter::from_level(level(options.log.level)));
        Ok(Configuration { options, filter })
    }
}

impl Configuration {
    /// Sets up the log of the process.
    pub(super) fn start_logging(self) -> Result<SandboxManagerOptions, CliError> {
        let format = match self.options.log.format {
            LogFormat::Json => telemetry::Format::Json,
            LogFormat::Text => telemetry::Format::Text,
        };
        telemetry::init(self.filter, format)?;
        Ok(self.options)
    }
}

fn level(level: LogLevel) -> tracing::Level {
    match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}

pub(super) fn flag<'m>(matches: &'m ArgMatches, name: &str) -> Option<&'m OsStr> {
    matches.get_one::<OsString>(name).map(OsString::as_os_str)
}

/// An empty variable counts as not set: charts and manifests often set variables to nothing.
fn variable<'e>(environment: &'e Environment, name: &str) -> Option<&'e OsStr> {
    let found = environment.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
}

/// Returns the value of the flag, otherwise that of the variable.
pub(super) fn given<'m>(
    matches: &'m ArgMatches,
    environment: &'m Environment,
    name: &str,
    env: &str,
) -> Option<&'m OsStr> {
    flag(matches, name).or_else(|| variable(environment, env))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: config.agents.kruise.io/v1alpha1\nkind: SandboxManagerOptions\n";

    fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Configuration, String> {
        let all = std::iter::once("sandbox-manager").chain(arguments.iter().copied());
        let matches = super::super::command().try_get_matches_from(all).map_err(|error| error.to_string())?;
        let environment: Vec<(OsString, OsString)> =
            environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let loading = Loading::new(&matches, &environment, SandboxManagerOptions::default());
        loading.finish().map_err(|error| error.to_string())
    }

    fn options(arguments: &[&str], environment: &[(&str, &str)]) -> Result<SandboxManagerOptions, String> {
        load(arguments, environment).map(|configuration| configuration.options)
    }

    #[test]
    fn without_arguments_the_defaults_are_in_effect() {
        assert_eq!(options(&[], &[]).unwrap(), SandboxManagerOptions::default());
    }

    #[test]
    fn every_setting_has_a_flag_that_accepts_its_default() {
        for setting in &*SETTINGS {
            let argument = format!("--{}={}", setting.flag, setting.get(&SandboxManagerOptions::default()));
            assert_eq!(options(&[&argument], &[]).unwrap(), SandboxManagerOptions::default(), "{argument}");
        }
    }

    #[test]
    fn flags_override_variables_and_variables_override_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let fields = "sandboxNamespace: file\nsystemNamespace: file\ncache: {pageSize: 7}\n";
        std::fs::write(&file, format!("{HEAD}{fields}")).unwrap();
        let file = file.to_str().unwrap();
        let environment = [
            ("SANDBOX_MANAGER_CONFIG", file),
            ("SANDBOX_MANAGER_SANDBOX_NAMESPACE", "variable"),
            ("SANDBOX_MANAGER_SYSTEM_NAMESPACE", "variable"),
        ];
        let options = options(&["--sandbox-namespace", "flag", "--debug-endpoints"], &environment).unwrap();
        assert_eq!(options.sandbox_namespace, "flag");
        assert_eq!(options.system_namespace, "variable");
        assert_eq!(options.cache.page_size, 7);
        assert_eq!(options.client.qps, 100);
        assert!(options.debug.enabled);
    }

    #[test]
    fn the_flag_of_the_file_overrides_its_variable() {
        let error = options(&["--config", "a.yaml"], &[("SANDBOX_MANAGER_CONFIG", "b.yaml")]).unwrap_err();
        assert!(error.starts_with("a.yaml: cannot be read"), "{error}");
    }

    #[test]
    fn y8_the_faults_of_file_environment_and_flags_are_reported_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, format!("{HEAD}cache: {{pageSize: 0, zzz: 1}}\n")).unwrap();
        let file = file.to_str().unwrap();
        let error = options(
            &["--config", file, "--log-format=xml", "--kube-api-qps=-1"],
            &[
                ("SANDBOX_MANAGER_LOG_LEVEL", "loud"),
                ("SANDBOX_MANAGER_LOGLEVEL", "x"),
                ("RUST_LOG", "a=b=c"),
            ],
        )
        .unwrap_err();
        let begins = [
            &format!("{file}:3:19: cache.pageSize: invalid value \"0\""),
            &format!("{file}:3:22: cache.zzz: unknown field"),
            "SANDBOX_MANAGER_LOGLEVEL: unknown variable, did you mean `SANDBOX_MANAGER_LOG_LEVEL`?",
            "SANDBOX_MANAGER_LOG_LEVEL: invalid value \"loud\"",
            "--kube-api-qps: invalid value \"-1\"",
            "--log-format: invalid value \"xml\"",
            "RUST_LOG: invalid value \"a=b=c\"",
        ];
        let lines: Vec<_> = error.lines().collect();
        assert_eq!(lines.len(), begins.len(), "{error}");
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(begin), "{line} does not begin with {begin}");
        }
    }

    #[test]
    fn y8_a_flag_overrides_rust_log_and_rust_log_overrides_variable_and_file() {
        let filter = |arguments: &[&str], environment: &[(&str, &str)]| {
            load(arguments, environment).unwrap().filter.to_string()
        };
        let warn = Filter::from_level(tracing::Level::WARN).to_string();
        let environment = [("SANDBOX_MANAGER_LOG_LEVEL", "warn"), ("RUST_LOG", "error")];
        assert_eq!(filter(&[], &environment[..1]), warn);
        assert_eq!(filter(&[], &environment), "error");
        assert_eq!(filter(&["--log-level=warn"], &[("RUST_LOG", "error")]), warn);
        assert_eq!(filter(&["--log-level=warn"], &[("RUST_LOG", "a=b=c")]), warn);
        assert_eq!(filter(&[], &[("SANDBOX_MANAGER_LOG_LEVEL", "warn"), ("RUST_LOG", "")]), warn);
    }
}
