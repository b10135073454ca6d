//! `sandbox-manager crd`: prints the definitions of the custom resources, or writes them to a folder.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, builder::ValueParser};

use super::error::CliError;
use crate::api::v1alpha1;

pub(super) fn command() -> Command {
    Command::new("crd").about("Print the CustomResourceDefinitions as YAML").arg(
        Arg::new("output-dir")
            .long("output-dir")
            .value_name("DIR")
            .value_parser(ValueParser::path_buf())
            .help("Write one file per definition to this folder instead"),
    )
}

pub(super) fn print(matches: &ArgMatches) -> Result<(), CliError> {
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
