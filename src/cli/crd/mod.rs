//! `sandbox-manager crd`: prints the definitions of the custom resources, writes them to a folder, or applies them.
//!
//! ```text
//!  apply ──▶ install     reads, checks and writes the definitions of a cluster
//!               └──▶ definitions ──▶ schemas ──▶ restrictions    what applying one would change (pure)
//! ```

mod apply;
mod changes;
mod definitions;
mod install;
mod restrictions;
mod schemas;

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, builder::ValueParser};

pub(super) use self::install::InstallError;
use super::error::CliError;
use super::options::Environment;
use crate::api::v1alpha1;

pub(super) fn command() -> Command {
    Command::new("crd")
        .about("Print the CustomResourceDefinitions as YAML, or apply them in a cluster")
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new("output-dir")
                .long("output-dir")
                .value_name("DIR")
                .value_parser(ValueParser::path_buf())
                .help("Write one file per definition to this folder instead"),
        )
        .subcommand(apply::command())
}

pub(super) fn execute(matches: &ArgMatches, environment: &Environment) -> Result<(), CliError> {
    match matches.subcommand() {
        Some(("apply", matches)) => apply::apply(matches, environment),
        _ => print(matches),
    }
}

fn print(matches: &ArgMatches) -> Result<(), CliError> {
    let Some(folder) = matches.get_one::<PathBuf>("output-dir") else {
        return super::output::print(&v1alpha1::crds_yaml());
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
