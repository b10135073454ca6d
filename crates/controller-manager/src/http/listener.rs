//! [`bind`]: takes the address of a listener.

use std::io;

use tokio::net::TcpListener;

use crate::bind_address::BindAddress;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "{listener}: cannot listen on {address}: {source}; stop the program that uses this address, or choose another \
     address (port 0 takes a free port, `0` disables the listener)"
)]
#[non_exhaustive]
pub struct BindError {
    /// The listener: `metrics`, `health`, or the name of a listener of the user.
    pub listener: String,
    /// The address as configured.
    pub address: BindAddress,
    /// The error of the system.
    pub source: io::Error,
}

/// Listens on `address`; returns `None` if it is off. `listener` is the name in errors and logs.
///
/// An empty host means every interface, IPv6 and IPv4, or IPv4 alone if the system has no IPv6.
pub(crate) async fn bind(listener: &str, address: &BindAddress) -> Result<Option<TcpListener>, BindError> {
    let BindAddress::Listen { host, port } = address else {
        return Ok(None);
    };
    let bound = if host.is_empty() {
        match TcpListener::bind(("::", *port)).await {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", *port)).await
            }
            bound => bound,
        }
    } else {
        TcpListener::bind((host.as_str(), *port)).await
    };
    let error = |source| BindError { listener: listener.to_owned(), address: address.clone(), source };
    let bound = bound.map_err(error)?;
    if let Ok(address) = bound.local_addr() {
        tracing::info!(listener, %address, "listening");
    }
    Ok(Some(bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = BindAddress::listen("127.0.0.1", taken.local_addr().unwrap().port());
        let error = bind("metrics", &address).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("metrics: cannot listen on {address}: ")), "{error}");
        assert!(error.contains("in use"), "{error}");
        assert!(bind("metrics", &BindAddress::Off).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_interface_can_be_bound() {
        let listener = bind("health", &BindAddress::listen("", 0)).await.unwrap().unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }
}
