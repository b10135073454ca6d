//! The command line: what the process is asked to do, and with which settings.
//!
//! `main` calls [`run`] and nothing else. Flags and variables of the options come from the settings table, so each
//! option has both. Whatever makes a start useless (settings, kubeconfig, an address in use) ends with one line on
//! standard error and exit code 2 before anything runs.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::ValueParser, parser::ValueSource};

#[cfg(feature = "dev")]
use crate::dev::{DevError, DevOptions};
use crate::{
    api::v1alpha1,
    client::{ClientError, ClusterAccess, Connector},
    manager::{Manager, ManagerError, shutdown},
    metrics::{Metrics, MetricsError},
    options::{LogFormat, LogLevel, LogOptions, OptionsError, SETTINGS, SandboxManagerOptions, Setting},
    telemetry::{self, TelemetryError},
    version,
};

/// Exit code of a start that can never succeed, and of a command line that makes no sense.
const EXIT_USAGE: u8 = 2;
/// Exit code of a process that ran and failed.
const EXIT_FAILED: u8 = 1;

/// Most sandboxes that `dev` creates; each takes some 10 KB.
#[cfg(feature = "dev")]
const MAX_DEV_SANDBOXES: usize = 1_000_000;

const ABOUT: &str =
    "Keeps every agent sandbox of a Kubernetes cluster in one shared cache and runs controllers on it";
const EXAMPLES: &str = "\
Every setting may stand in the file, in a variable or in a flag; flags go before variables, variables before the \
file. An empty variable counts as not set.

Examples:
  sandbox-manager
          run with the defaults against the current kubeconfig, or the pod's service account
  sandbox-manager --config config.yaml --sandbox-namespace team-a
          run with a file, but for one namespace only
  sandbox-manager config --config config.yaml
          check a file and print the options in effect
  sandbox-manager crd | kubectl apply --server-side -f -
          install the CRDs";

/// Why the process does not start, or ended otherwise than asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Settings that are not accepted.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A variable or a flag that is no UTF-8 text.
    #[error("{origin}: not UTF-8 text")]
    NotUtf8 {
        /// The flag or the variable.
        origin: String,
    },
    /// Logging cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// No client can be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The system refuses threads or signal handlers.
    #[error("cannot start: {0}")]
    System(#[source] io::Error),
    /// Output cannot be written.
    #[error("cannot write {target}: {source}")]
    Write {
        /// The file, the folder, or standard output.
        target: String,
        /// What the system says.
        source: io::Error,
    },
    /// The manager can't start, or did not end in order.
    #[error(transparent)]
    Manager(#[from] ManagerError),
    /// A value of `dev` that is not accepted.
    #[cfg(feature = "dev")]
    #[error("--{flag}: invalid value {value:?}: expected {expected}")]
    Dev {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// `dev` can't start, or did not end in order.
    #[cfg(feature = "dev")]
    #[error(transparent)]
    RunDev(#[from] DevError),
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Write { .. } | Self::Manager(ManagerError::GracePeriod(_)) => EXIT_FAILED,
            #[cfg(feature = "dev")]
            Self::RunDev(DevError::Output(_) | DevError::Manager(ManagerError::GracePeriod(_))) => {
                EXIT_FAILED
            }
            _ => EXIT_USAGE,
        }
    }
}

/// Does what the arguments ask for; the first one is the program's name. Blocks until it is done.
///
/// Errors go to standard error, one line each, and into the exit code: 2 for a command line, settings or
/// surroundings that cannot work, 1 for anything later.
pub fn run(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> ExitCode {
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are errors of the parser too, with exit code 0; it knows where they belong.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    let done = match matches.subcommand() {
        Some(("config", matches)) => print_config(matches),
        Some(("crd", matches)) => print_crds(matches),
        #[cfg(feature = "dev")]
        Some(("dev", matches)) => start_dev(matches),
        _ => start(&matches),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`sandbox-manager crd | head`).
        Err(CliError::Write { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn command() -> Command {
    let config = Command::new("config")
        .about("Check a configuration and print the options in effect as YAML")
        .args(option_args(&SandboxManagerOptions::default()));
    let crd = Command::new("crd").about("Print the CustomResourceDefinitions as YAML").arg(
        Arg::new("output-dir")
            .long("output-dir")
            .value_name("DIR")
            .value_parser(ValueParser::path_buf())
            .help("Write one file each into this folder instead"),
    );
    let command = Command::new("sandbox-manager")
        .about(ABOUT)
        .long_about(format!("{ABOUT}. Without a command it runs until SIGTERM or SIGINT."))
        .version(version::DESCRIPTION.as_str())
        .after_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .args(option_args(&SandboxManagerOptions::default()))
        .arg(text_arg("kubeconfig", "SANDBOX_MANAGER_KUBECONFIG", "FILE").help(
            "Kubeconfig to use [default: KUBECONFIG, then ~/.kube/config, then the pod's service account]",
        ))
        .arg(
            text_arg("context", "SANDBOX_MANAGER_CONTEXT", "NAME")
                .help("Context of the kubeconfig to use [default: its current one]"),
        )
        .subcommand(config)
        .subcommand(crd);
    #[cfg(feature = "dev")]
    let command = command.subcommand(dev_command());
    command
}

#[cfg(feature = "dev")]
fn dev_command() -> Command {
    let text = |name: &'static str, value_name: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value_name)
            .value_parser(ValueParser::os_string())
            .allow_negative_numbers(true)
    };
    Command::new("dev")
        .about("Run everything on this machine without a cluster: an API server in memory, a sample fleet, the manager")
        .after_help(
            "Prints what runs where, and what to try, once all is ready. Ctrl-C ends it, and nothing is left of it.\n\
             Metrics and health are at 127.0.0.1:8080 and :8081 unless these are taken or told otherwise.",
        )
        .arg(
            text("listen", "ADDRESS")
                .default_value("127.0.0.1:0")
                .help("Address of the API server; port 0 takes a free one"),
        )
        .arg(text("kubeconfig", "FILE").help(
            "Write the kubeconfig here, where no file may be yet [default: into a temporary folder]",
        ))
        .arg(
            text("sandboxes", "N")
                .default_value("0")
                .help("Sandboxes to create beside the sample, in ten pools (100000 take ten seconds and 1 GB)"),
        )
        .args(option_args(&DevOptions::manager_defaults()))
}

/// `--config` and a flag for each setting.
fn option_args(defaults: &SandboxManagerOptions) -> Vec<Arg> {
    let file =
        text_arg("config", "SANDBOX_MANAGER_CONFIG", "FILE").help("YAML file with options [default: none]");
    let settings = SETTINGS.iter().map(|setting| {
        let default = Some(setting.get(defaults)).filter(|text| !text.is_empty());
        let default = default.as_deref().unwrap_or("empty");
        let arg = text_arg(setting.flag, setting.env, setting.value_name)
            .help(format!("{} [file: {}] [default: {default}]", setting.help, setting.path));
        if setting.is_switch() {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        } else {
            arg
        }
    });
    std::iter::once(file).chain(settings).collect()
}

/// Values are taken as they are and checked by us: only we know which of flag and variable a bad one came from.
fn text_arg(name: &'static str, env: &'static str, value_name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .env(env)
        .hide_env_values(true)
        .value_name(value_name)
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true)
        .action(ArgAction::Set)
}

/// A value that was given, and where. An empty variable counts as not given: charts like to set them.
fn given<'m>(matches: &'m ArgMatches, name: &str, env: &str) -> Option<(&'m OsStr, String)> {
    let value = matches.get_one::<OsString>(name)?.as_os_str();
    match matches.value_source(name)? {
        ValueSource::EnvVariable if value.is_empty() => None,
        ValueSource::EnvVariable => Some((value, env.to_owned())),
        _ => Some((value, format!("--{name}"))),
    }
}

fn given_text<'m>(
    matches: &'m ArgMatches,
    name: &str,
    env: &str,
) -> Result<Option<(&'m str, String)>, CliError> {
    let Some((value, origin)) = given(matches, name, env) else {
        return Ok(None);
    };
    match value.to_str() {
        Some(text) => Ok(Some((text, origin))),
        None => Err(CliError::NotUtf8 { origin }),
    }
}

/// Defaults, then the file, then variables and flags.
fn load_options(matches: &ArgMatches) -> Result<SandboxManagerOptions, CliError> {
    load_options_over(matches, SandboxManagerOptions::default())
}

fn load_options_over(
    matches: &ArgMatches,
    mut options: SandboxManagerOptions,
) -> Result<SandboxManagerOptions, CliError> {
    if let Some((file, _)) = given(matches, "config", "SANDBOX_MANAGER_CONFIG") {
        options.load_file(Path::new(file))?;
    }
    for setting in SETTINGS {
        apply(matches, setting, &mut options)?;
    }
    Ok(options)
}

fn apply(
    matches: &ArgMatches,
    setting: &Setting,
    options: &mut SandboxManagerOptions,
) -> Result<(), CliError> {
    if let Some((text, origin)) = given_text(matches, setting.flag, setting.env)? {
        options.set(setting, &origin, text)?;
    }
    Ok(())
}

fn print_config(matches: &ArgMatches) -> Result<(), CliError> {
    print(&load_options(matches)?.to_yaml()?)
}

fn print_crds(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(folder) = matches.get_one::<PathBuf>("output-dir") else {
        return print(&v1alpha1::crds_yaml());
    };
    let failed = |path: &Path| {
        let target = path.display().to_string();
        move |source| CliError::Write { target, source }
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    for (name, yaml) in v1alpha1::crd_files() {
        let path = folder.join(name);
        std::fs::write(&path, yaml).map_err(failed(&path))?;
    }
    Ok(())
}

fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|source| CliError::Write { target: "standard output".to_owned(), source })
}

fn start(matches: &ArgMatches) -> Result<(), CliError> {
    let options = load_options(matches)?;
    let kubeconfig = given(matches, "kubeconfig", "SANDBOX_MANAGER_KUBECONFIG");
    let context = given_text(matches, "context", "SANDBOX_MANAGER_CONTEXT")?;
    let access = ClusterAccess {
        kubeconfig: kubeconfig.map(|(file, _)| file.into()),
        context: context.map(|(name, _)| name.to_owned()),
    };
    start_logging(&options.log)?;
    runtime()?.block_on(run_manager(options, access))
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::System)
}

#[cfg(feature = "dev")]
fn start_dev(matches: &ArgMatches) -> Result<(), CliError> {
    let given = |flag: &'static str| {
        matches.get_one::<OsString>(flag).map(|value| value.to_string_lossy().into_owned())
    };
    let refused =
        |flag, expected| move |()| CliError::Dev { flag, value: given(flag).unwrap_or_default(), expected };
    let listen = given("listen").unwrap_or_default().parse();
    let sandboxes = given("sandboxes").unwrap_or_default().parse::<usize>().ok();
    let options = DevOptions {
        listen: listen.map_err(|_| ()).map_err(refused("listen", "an address such as 127.0.0.1:6443"))?,
        kubeconfig: matches.get_one::<OsString>("kubeconfig").map(PathBuf::from),
        sandboxes: sandboxes
            .filter(|count| *count <= MAX_DEV_SANDBOXES)
            .ok_or(())
            .map_err(refused("sandboxes", "a whole number from 0 to 1000000"))?,
        manager: load_options_over(matches, DevOptions::free_manager_defaults())?,
    };
    start_logging(&options.manager.log)?;
    runtime()?.block_on(async {
        let stop = shutdown::signals().map_err(CliError::System)?;
        Ok(crate::dev::run(options, stop).await?)
    })
}

fn start_logging(log: &LogOptions) -> Result<(), TelemetryError> {
    let level = match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let format = match log.format {
        LogFormat::Json => telemetry::Format::Json,
        LogFormat::Text => telemetry::Format::Text,
    };
    telemetry::init(level, format)
}

/// Runs until a signal asks it to end.
async fn run_manager(options: SandboxManagerOptions, access: ClusterAccess) -> Result<(), CliError> {
    let stop = shutdown::signals().map_err(CliError::System)?;
    let metrics = Metrics::new()?;
    let connector = Connector::load(&access, &options.client, &metrics).await?;
    tracing::info!(
        server = connector.server(),
        version = version::VERSION,
        revision = version::REVISION,
        "starting"
    );
    let mut manager = Manager::builder(options).connector(&connector)?.metrics(metrics).build()?;
    manager.add_fleet_metrics()?;
    Ok(manager.run(stop).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<SandboxManagerOptions, String> {
        let all = std::iter::once("sandbox-manager").chain(arguments.iter().copied());
        let matches = command().try_get_matches_from(all).map_err(|error| error.to_string())?;
        load_options(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn the_version_names_release_and_revision() {
        let printed = command().render_version();
        assert_eq!(
            printed,
            format!("sandbox-manager {} (revision {})\n", env!("CARGO_PKG_VERSION"), version::REVISION)
        );
    }

    #[test]
    fn without_arguments_the_defaults_are_in_effect() {
        assert_eq!(options(&[]).unwrap(), SandboxManagerOptions::default());
    }

    #[test]
    fn every_setting_has_a_flag_that_takes_its_default() {
        for setting in SETTINGS {
            let argument = format!("--{}={}", setting.flag, setting.get(&SandboxManagerOptions::default()));
            assert_eq!(options(&[&argument]).unwrap(), SandboxManagerOptions::default(), "{argument}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        let text = "apiVersion: config.agents.kruise.io/v1alpha1\nkind: SandboxManagerOptions\n\
                    sandboxNamespace: file\nsystemNamespace: file\n";
        std::fs::write(&file, text).unwrap();
        let options = options(&[
            "--config",
            file.to_str().unwrap(),
            "--sandbox-namespace",
            "flag",
            "--debug-endpoints",
        ])
        .unwrap();
        assert_eq!(options.sandbox_namespace, "flag");
        assert_eq!(options.system_namespace, "file");
        assert!(options.debug.enabled);
    }

    #[test]
    fn help_states_flag_variable_field_and_default_of_every_setting() {
        let help = command().term_width(0).render_help().to_string();
        for setting in SETTINGS {
            for text in
                [setting.flag, setting.env, setting.path, &setting.get(&SandboxManagerOptions::default())]
            {
                assert!(help.contains(text), "{text} is not in the help");
            }
        }
        assert!(help.contains("Examples:"));
    }
}
