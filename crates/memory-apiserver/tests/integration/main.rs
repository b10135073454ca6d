//! Tests of the server as clients and `kubectl` see it.
//!
//! `tests/e2e.sh` runs those of `conformance` and `kubectl` on a real API server, too.
//! `cfg(test)` always holds here; written on a module, it tells clippy that its helpers are test code too.

#[cfg(test)]
mod builder;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod kubectl;
#[cfg(test)]
mod kubelet;
#[cfg(test)]
#[path = "../../../../tests/support/mod.rs"]
mod support;
