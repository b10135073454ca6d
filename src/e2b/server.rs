//! [`add`]: serves the E2B API from a manager.

use std::time::Duration;

use controller_manager::{CancellationToken, ListenOptions};

use super::api::{Api, Settings};
use super::first_key::FirstKey;
use super::frame::Server;
use super::keys::Keys;
use super::metrics::E2bMetrics;
use super::tls::{Certificate, TlsError};
use super::view::Common;
use crate::claims::Claims;
use crate::manager::Manager;
use crate::options::{E2bAuth, E2bOptions, E2bOptionsError};

/// Name of the listener of the API.
pub const LISTENER: &str = "e2b";

/// How long a connection may be idle. The SDKs keep connections for 300 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(330);

/// The reason why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum E2bError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] E2bOptionsError),
    /// The certificate cannot be used.
    #[error("e2b.tls: {0}")]
    Tls(#[from] TlsError),
    /// The metrics could not be registered. They are registered once per manager.
    #[error("cannot register the metrics of the E2B API: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Serves the API while the manager runs, on every replica. Call this once, before the manager runs. `system_namespace`
/// has the Secret of keys, which gets its first key if the options name a team for it.
///
/// # Errors
///
/// [`E2bError`].
pub fn add(
    manager: &mut Manager,
    options: &E2bOptions,
    system_namespace: &str,
    claims: &Claims,
) -> Result<(), E2bError> {
    options.validate(system_namespace)?;
    let cache = manager.cache().clone();
    let keys = match options.auth {
        E2bAuth::Secret => {
            if !options.first_key_team.is_empty() {
                let first = FirstKey::new(cache.client().clone(), system_namespace, &options.first_key_team);
                manager.add_runnable(move |stop: CancellationToken| async move {
                    stop.run_until_cancelled(first.install()).await;
                    Ok(())
                });
            }
            Keys::store(cache.shared(), system_namespace)
        }
        E2bAuth::None => {
            tracing::warn!(
                address = %options.bind_address,
                "the E2B API asks for no key: everybody who reaches its address can use every sandbox"
            );
            Keys::None
        }
    };
    let settings = Settings {
        common: Common { envd_version: options.envd_version.clone(), domain: options.domain.clone() },
        min_timeout: options.min_timeout,
        max_timeout: options.max_timeout,
        init_runtime: options.init_runtime,
        max_concurrent_claims: options.max_concurrent_claims.into(),
        max_concurrent_claims_per_key: options.max_concurrent_claims_per_key,
        // The default is a limit of the contract. Whoever sets a lower one wants it to hold.
        is_never_allowed: options.max_timeout >= E2bOptions::default().max_timeout,
        create_on_no_stock: options.create_on_no_stock,
        selected_labels: manager.selected_labels().clone(),
    };
    let metrics = E2bMetrics::register(manager.metrics().registry())?;
    let mut listen = ListenOptions { idle_timeout: IDLE_TIMEOUT, ..ListenOptions::default() };
    if !options.tls.cert_file.is_empty() {
        let certificate = Certificate::load(&options.tls.cert_file, &options.tls.key_file)?;
        listen.tls = Some(certificate.server_config()?);
        manager.add_runnable(move |stop: CancellationToken| async move {
            certificate.reload_until(stop).await;
            Ok(())
        });
    }
    let server = Server::new(Api::new(&cache, claims, keys, settings, metrics));
    manager.listen_with(LISTENER, options.bind_address.clone(), server.router(), listen);
    let claims = claims.clone();
    manager.add_runnable(move |stop: CancellationToken| async move {
        stop.cancelled().await;
        server.drain().await;
        claims.settled().await;
        Ok(())
    });
    Ok(())
}
