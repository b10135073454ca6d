//! [`BindAddress`]: `host:port`, `:port`, or `0` for no listener.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where a listener binds, in the notation of controller-runtime.
///
/// It prints as it was read, except for needless zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BindAddress {
    /// No listener. Written `0`.
    #[default]
    Off,
    /// Listens on this port; port 0 takes a free one.
    Listen {
        /// Host name or IP address (IPv6 without brackets). Empty: every interface, IPv4 and IPv6.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// A text that is not a bind address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a bind address: expected host:port, :port, or 0 for no listener")]
pub struct InvalidAddress;

impl BindAddress {
    /// Listens on `host` and `port`; an empty host stands for every interface.
    pub fn listen(host: impl Into<String>, port: u16) -> Self {
        Self::Listen { host: host.into(), port }
    }
}

impl FromStr for BindAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text == "0" {
            return Ok(Self::Off);
        }
        if let Ok(address) = SocketAddr::from_str(text) {
            return Ok(Self::listen(address.ip().to_string(), address.port()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        // The parser of u16 would accept a leading plus sign.
        if !port.bytes().all(|b| b.is_ascii_digit()) || !(host.is_empty() || is_host_name(host)) {
            return Err(InvalidAddress);
        }
        let port = port.parse().map_err(|_| InvalidAddress)?;
        Ok(Self::listen(host, port))
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("0"),
            Self::Listen { host, port } if Ipv6Addr::from_str(host).is_ok() => write!(f, "[{host}]:{port}"),
            Self::Listen { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A DNS name. A last label of digits only would be a mistyped IPv4 address (`10.0.0:80`), so it is rejected.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() <= 253 && host.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_printed() {
        for text in
            ["0", ":8080", "0.0.0.0:8080", "127.0.0.1:0", "[::]:8081", "[::1]:1", "localhost:80", "a.b-c:1"]
        {
            assert_eq!(text.parse::<BindAddress>().unwrap().to_string(), text);
        }
        assert_eq!(":8080".parse::<BindAddress>().unwrap(), BindAddress::listen("", 8080));
    }

    #[test]
    fn texts_that_are_no_address_are_rejected() {
        for text in [
            "",
            "8080",
            "localhost",
            "a:",
            ":",
            ":65536",
            ":+80",
            ":-1",
            ":http",
            "::1:80",
            "[::1]",
            "a b:80",
            "10.0.0:80",
            "1.2.3.256:80",
            "-a:80",
            "http://a:80",
            "a..b:80",
            "00",
        ] {
            assert!(text.parse::<BindAddress>().is_err(), "{text}");
        }
    }
}
