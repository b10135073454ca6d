//! The `sandbox-manager` binary: the library's `main` without further handlers.

use std::process::ExitCode;

/// A cached sandbox takes less memory and CPU with jemalloc than with glibc, see `docs/performance.md`.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    sandbox_manager::main(|_| ())
}
