//! `sandbox-manager config`: checks a configuration and prints it as a file.

use clap::{ArgMatches, Command};

use super::{
    error::CliError,
    options::{self, Environment, Loading},
};
use crate::options::SandboxManagerOptions;

pub(super) fn command() -> Command {
    Command::new("config")
        .about("Check a configuration and print the options in effect as YAML")
        .args(options::args(&SandboxManagerOptions::default()))
}

pub(super) fn print(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    let configuration = Loading::new(matches, environment, SandboxManagerOptions::default()).finish()?;
    super::output::print(&configuration.options.to_yaml())
}
