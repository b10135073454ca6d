//! [`NoProxy`]: the hosts of the variable `NO_PROXY`, which are connected to without a proxy.
//!
//! The rules are those of Go programs such as kubectl, so that one environment serves both. kube reads `NO_PROXY` with
//! other rules, and refuses a list with an empty entry.

use std::net::IpAddr;

use ipnet::IpNet;

/// The parsed list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// `*`
    Every,
    /// `10.0.0.0/8`
    Network(IpNet),
    /// `10.0.0.1`, `10.0.0.1:6443`
    Address { address: IpAddr, port: Option<String> },
    /// `example.com`, `.example.com`, `*.example.com`, each with or without a port
    Domain { suffix: String, itself: bool, port: Option<String> },
}

impl NoProxy {
    /// Parses a list. Entries are separated by commas. An entry that names no host is ignored, as Go does.
    pub(super) fn parse(list: &str) -> Self {
        Self { entries: list.split(',').filter_map(Entry::parse).collect() }
    }

    /// Returns true if this host is to be connected to directly. Loopback always is.
    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = unbracketed(host).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        self.entries.iter().any(|entry| entry.matches(&host, address, port))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::Every);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split_port(&text);
        let port = port.map(str::to_owned);
        if let Ok(address) = unbracketed(host).parse::<IpAddr>() {
            return Some(Self::Address { address: address.to_canonical(), port });
        }
        let host = if host.starts_with("*.") { &host[1..] } else { host };
        match host.strip_prefix('.') {
            _ if host.is_empty() => None,
            Some(_) => Some(Self::Domain { suffix: host.to_owned(), itself: false, port }),
            None => Some(Self::Domain { suffix: format!(".{host}"), itself: true, port }),
        }
    }

    fn matches(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let is_port =
            |wanted: &Option<String>| wanted.as_ref().is_none_or(|wanted| *wanted == port.to_string());
        match (self, address) {
            (Self::Every, _) => true,
            (Self::Network(network), Some(address)) => network.contains(&address),
            (Self::Address { address: wanted, port: wanted_port }, Some(address)) => {
                *wanted == address && is_port(wanted_port)
            }
            (Self::Domain { suffix, itself, port: wanted_port }, None) => {
                let is_domain = host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]);
                is_domain && is_port(wanted_port)
            }
            _ => false,
        }
    }
}

/// Splits `host:port` and `[IPv6]:port`. An IPv6 address without brackets has no port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port).filter(|port| !port.is_empty()))
        }
        _ => (text, None),
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each rule: the list, then hosts that it contains, then hosts that it does not contain.
    const RULES: &[(&str, &[&str], &[&str])] = &[
        ("", &[], &["example.com:443", "10.0.0.1:443"]),
        // Loopback never needs a proxy.
        (
            "",
            &[
                "localhost:6443",
                "LocalHost:1",
                "127.0.0.1:1",
                "127.9.8.7:1",
                "[::1]:1",
                "[::ffff:127.0.0.1]:1",
            ],
            &[],
        ),
        // A domain contains itself and its subdomains, in any case.
        (
            "example.com",
            &["example.com:443", "EXAMPLE.com:80", "a.b.example.com:443"],
            &["badexample.com:443", "com:443"],
        ),
        ("Example.COM", &["example.com:443"], &[]),
        // With a leading dot, or `*.`, it contains its subdomains only.
        (".example.com", &["a.example.com:443"], &["example.com:443", "badexample.com:443"]),
        ("*.example.com", &["a.example.com:443", "a.b.example.com:443"], &["example.com:443"]),
        // A port restricts the entry to it.
        ("example.com:6443", &["example.com:6443", "a.example.com:6443"], &["example.com:443"]),
        (".example.com:80", &["a.example.com:80"], &["a.example.com:443", "example.com:80"]),
        ("10.0.0.1:6443", &["10.0.0.1:6443"], &["10.0.0.1:443"]),
        ("[fd00::1]:6443", &["[fd00::1]:6443"], &["[fd00::1]:443", "[fd00::2]:6443"]),
        // Addresses and networks.
        ("10.0.0.1", &["10.0.0.1:443", "[::ffff:10.0.0.1]:1"], &["10.0.0.2:443", "10.0.0.10:443"]),
        ("fd00::1", &["[fd00::1]:443", "[FD00:0::1]:443"], &["[fd00::2]:443"]),
        ("[fd00::1]", &["[fd00::1]:443"], &[]),
        ("10.0.0.0/8", &["10.0.0.1:443", "10.255.0.1:6443"], &["11.0.0.1:443", "example.com:443"]),
        ("fd00::/8", &["[fdab::1]:443"], &["[fe80::1]:443", "10.0.0.1:443"]),
        // The end of an address is no domain of it.
        ("0.0.1", &[], &["10.0.0.1:443"]),
        // `*` contains every host, wherever it stands in the list.
        ("*", &["example.com:443", "10.0.0.1:1"], &[]),
        ("a.test, *", &["example.com:443"], &[]),
        // Lists: spaces are ignored, and so are entries that name no host.
        (" a.test ,, b.test:1 ,:80,", &["a.test:443", "b.test:1"], &["b.test:2", "c.test:80"]),
        ("a.test b.test", &[], &["a.test:443", "b.test:443"]),
        // A name is not resolved.
        ("10.0.0.0/8,kubernetes.default.svc", &["kubernetes.default.svc:443"], &["kubernetes.default:443"]),
    ];

    #[test]
    fn y1_no_proxy_is_read_as_go_reads_it() {
        for (list, contained, others) in RULES {
            let no_proxy = NoProxy::parse(list);
            let contains = |target: &str| {
                let (host, port) = target.rsplit_once(':').unwrap();
                no_proxy.contains(host, port.parse().unwrap())
            };
            for target in *contained {
                assert!(contains(target), "NO_PROXY={list:?} does not contain {target}");
            }
            for target in *others {
                assert!(!contains(target), "NO_PROXY={list:?} contains {target}");
            }
        }
    }
}
