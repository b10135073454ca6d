//! What no single setting of `e2b` can say: which settings fit together.

use std::net::IpAddr;

use super::{BindAddress, E2bAuth, E2bOptions};

/// Options of the E2B API that contradict each other. The error names the field by its path in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum E2bOptionsError {
    /// Nobody says where the keys are.
    #[error(
        "e2b.auth: the API keys are in a Secret of the system namespace, which is not set; set systemNamespace \
         (--system-namespace), or e2b.auth to none"
    )]
    NoSystemNamespace,
    /// Without keys, everybody who reaches the address could use every sandbox.
    #[error(
        "e2b.auth: none is accepted on loopback addresses only, not on {0}; set e2b.bindAddress to 127.0.0.1:8082, or \
         e2b.allowUnauthenticated to true"
    )]
    Unauthenticated(BindAddress),
    /// No sandbox of that namespace has an id.
    #[error("e2b.firstKeyTeam: expected admin, or the name of a namespace without `--`")]
    FirstKeyTeam,
    /// The limits of the time of a sandbox contradict each other.
    #[error("e2b.minTimeout: expected at most e2b.maxTimeout")]
    Timeouts,
    /// Only one of the two files is given.
    #[error("e2b.tls: expected both certFile and keyFile, or neither")]
    TlsFiles,
}

impl E2bOptions {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    ///
    /// [`E2bOptionsError`]; none if the API is not enabled.
    pub fn validate(&self, system_namespace: &str) -> Result<(), E2bOptionsError> {
        if !self.enabled {
            return Ok(());
        }
        if self.auth == E2bAuth::Secret && system_namespace.is_empty() {
            return Err(E2bOptionsError::NoSystemNamespace);
        }
        if self.auth == E2bAuth::None && !self.allow_unauthenticated && !is_loopback(&self.bind_address) {
            return Err(E2bOptionsError::Unauthenticated(self.bind_address.clone()));
        }
        if self.first_key_team.contains("--") {
            return Err(E2bOptionsError::FirstKeyTeam);
        }
        if self.min_timeout > self.max_timeout {
            return Err(E2bOptionsError::Timeouts);
        }
        if self.tls.cert_file.is_empty() != self.tls.key_file.is_empty() {
            return Err(E2bOptionsError::TlsFiles);
        }
        Ok(())
    }
}

/// Names are not looked up: they may mean another address later.
fn is_loopback(address: &BindAddress) -> bool {
    match address {
        BindAddress::Off => true,
        BindAddress::Listen { host, .. } => host.parse().is_ok_and(|host: IpAddr| host.is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn checked(change: impl FnOnce(&mut E2bOptions), system_namespace: &str) -> Result<(), String> {
        let mut options = E2bOptions { enabled: true, ..E2bOptions::default() };
        change(&mut options);
        options.validate(system_namespace).map_err(|error| error.to_string())
    }

    fn at(address: &str) -> impl FnOnce(&mut E2bOptions) {
        let address = address.parse().unwrap();
        move |options| {
            options.auth = E2bAuth::None;
            options.bind_address = address;
        }
    }

    #[test]
    fn without_keys_only_loopback_is_served_unless_the_options_say_so() {
        for address in ["127.0.0.1:8082", "[::1]:8082", "0"] {
            checked(at(address), "").unwrap();
        }
        for address in [":8082", "0.0.0.0:8082", "10.0.0.1:1", "localhost:8082"] {
            assert!(checked(at(address), "").unwrap_err().starts_with("e2b.auth: none"), "{address}");
            let allowed = |options: &mut E2bOptions| {
                at(address)(options);
                options.allow_unauthenticated = true;
            };
            checked(allowed, "").unwrap();
        }
    }

    #[test]
    fn keys_need_a_system_namespace() {
        checked(|_| {}, "sys").unwrap();
        assert!(checked(|_| {}, "").unwrap_err().contains("systemNamespace"));
        checked(|options| options.enabled = false, "").unwrap();
    }

    #[test]
    fn the_team_of_the_first_key_is_a_namespace_that_ids_can_name() {
        let team = |team: &str| checked(|options| options.first_key_team = team.to_owned(), "sys");
        team("admin").unwrap();
        team("team-a").unwrap();
        assert!(team("a--b").unwrap_err().starts_with("e2b.firstKeyTeam"));
    }

    #[test]
    fn files_and_times_must_fit_together() {
        let one_file = |options: &mut E2bOptions| options.tls.cert_file = "/a".to_owned();
        assert!(checked(one_file, "sys").unwrap_err().contains("both certFile and keyFile"));
        let times = |options: &mut E2bOptions| options.max_timeout = Duration::from_millis(1);
        assert!(checked(times, "sys").unwrap_err().contains("minTimeout"));
    }
}
