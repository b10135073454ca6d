//! Writes to standard output.

use std::io::{self, Write as _};

use super::error::CliError;

/// Writes a text to standard output.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|source| CliError::Write { target: "standard output".to_owned(), source })
}
