//! The crate as a user sees it.
//!
//! `cfg(test)` always holds here. It tells clippy that the helpers of a module are test code too.

#[cfg(test)]
mod certificates;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod deletions;
#[cfg(test)]
mod logging;
#[cfg(test)]
mod support;
