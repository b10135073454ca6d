//! [`BindAddress`]: the address of a listener, or `0` for no listener.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The address of a listener, in the syntax of controller-runtime.
///
/// Prints the text that was parsed, without redundant zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// No listener. Written as `0`.
    Off,
    /// A listener on this port. Port 0 binds a free port.
    Listen {
        /// Host name or IP address (IPv6 without brackets). Empty: every interface.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// A text that is no bind address.
#[derive(Debug, thiserror::Error)]
#[error("not a bind address")]
pub struct InvalidAddress;

impl BindAddress {
    /// Creates the address of a listener on `host` and `port`. Empty host: every interface.
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
        // u16::from_str would also accept a plus sign.
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

/// Returns true for a DNS name. A last label of digits only is rejected: it is a mistyped IPv4 address (`10.0.0:80`).
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
    fn reads_and_prints_every_form() {
        for text in
            ["0", ":8080", "0.0.0.0:8080", "127.0.0.1:0", "[::]:8081", "[::1]:1", "localhost:80", "a.b-c:1"]
        {
            assert_eq!(text.parse::<BindAddress>().unwrap().to_string(), text);
        }
        assert_eq!(":8080".parse::<BindAddress>().unwrap(), BindAddress::listen("", 8080));
    }

    #[test]
    fn refuses_what_is_no_address() {
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
