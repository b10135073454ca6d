//! The `sandbox-manager` binary.

fn main() {}
