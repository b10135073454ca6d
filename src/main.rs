//! The `sandbox-manager` binary: hands the command line to the library.

use std::process::ExitCode;

/// Measured against that of the system, see `docs/performance.md`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sandbox_manager::cli::run(std::env::args_os())
}
