//! [`ProxyVariables`]: the proxy that the environment names for a server.
//!
//! The variables and their order are those of client-go. Only the scheme of the server decides between `HTTPS_PROXY`
//! and `HTTP_PROXY`; the upper-case name goes before the lower-case name.

use http::Uri;

use super::error::ClientError;
use super::no_proxy::NoProxy;

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyVariables {
    https: Option<Variable>,
    http: Option<Variable>,
    no_proxy: NoProxy,
}

#[derive(Clone, Debug)]
struct Variable {
    name: &'static str,
    value: String,
}

impl ProxyVariables {
    /// Reads the variables of this process.
    pub(super) fn of_process() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    /// Reads the variables by `get`. An empty variable counts as not set.
    pub(super) fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = get(name).filter(|value| !value.is_empty())?;
                Some(Variable { name, value })
            })
        };
        let no_proxy = first(["NO_PROXY", "no_proxy"]);
        Self {
            https: first(["HTTPS_PROXY", "https_proxy"]),
            http: first(["HTTP_PROXY", "http_proxy"]),
            no_proxy: no_proxy.map_or_else(NoProxy::default, |list| NoProxy::parse(&list.value)),
        }
    }

    /// Returns the proxy for a server, or `None` if it is to be connected to directly.
    ///
    /// # Errors
    ///
    /// [`ClientError::Proxy`] if the variable that applies is not the address of a proxy. A direct connection instead
    /// would time out in a network that needs the proxy.
    pub(super) fn proxy_for(&self, server: &Uri) -> Result<Option<Uri>, ClientError> {
        let (variable, default_port) = match server.scheme_str() {
            Some("https") => (&self.https, 443),
            Some("http") => (&self.http, 80),
            _ => return Ok(None),
        };
        let (Some(variable), Some(host)) = (variable, server.host()) else { return Ok(None) };
        if self.no_proxy.contains(host, server.port_u16().unwrap_or(default_port)) {
            return Ok(None);
        }
        proxy_url(variable.name, &variable.value).map(Some)
    }
}

/// Parses the address of a proxy. Without a scheme it is `http://`. The error quotes nothing of `value`, which may
/// contain a password.
pub(super) fn proxy_url(name: &str, value: &str) -> Result<Uri, ClientError> {
    let rejected = || ClientError::Proxy { name: name.to_owned() };
    let value = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let parts = value.parse::<Uri>().map_err(|_| rejected())?.into_parts();
    let scheme = match parts.scheme.as_ref().map(http::uri::Scheme::as_str) {
        Some("http") => "http",
        Some("https") => "https",
        // The proxy resolves the name of the server with either scheme.
        Some("socks5" | "socks5h") => "socks5",
        _ => return Err(rejected()),
    };
    let authority = parts.authority.filter(|authority| !authority.host().is_empty()).ok_or_else(rejected)?;
    // A path means nothing to a proxy.
    Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build().map_err(|_| rejected())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(set: &[(&str, &str)]) -> ProxyVariables {
        ProxyVariables::read(|name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy(set: &[(&str, &str)], server: &str) -> Option<String> {
        let proxy = variables(set).proxy_for(&server.parse().unwrap()).unwrap();
        proxy.map(|proxy| proxy.to_string())
    }

    #[test]
    fn y1_the_scheme_of_the_server_selects_the_variable() {
        let both = [("HTTPS_PROXY", "http://s.test:1"), ("HTTP_PROXY", "http://p.test:2")];
        assert_eq!(proxy(&both, "https://api.test").as_deref(), Some("http://s.test:1/"));
        assert_eq!(proxy(&both, "http://api.test").as_deref(), Some("http://p.test:2/"));
        assert_eq!(proxy(&both[..1], "http://api.test"), None);
        assert_eq!(proxy(&[("ALL_PROXY", "http://s.test:1")], "https://api.test"), None);
    }

    #[test]
    fn y1_both_cases_of_the_names_are_read_and_upper_case_goes_first() {
        assert_eq!(
            proxy(&[("https_proxy", "l.test:1")], "https://api.test").as_deref(),
            Some("http://l.test:1/")
        );
        let both = [("https_proxy", "l.test:1"), ("HTTPS_PROXY", "u.test:1")];
        assert_eq!(proxy(&both, "https://api.test").as_deref(), Some("http://u.test:1/"));
        let empty = [("https_proxy", "l.test:1"), ("HTTPS_PROXY", "")];
        assert_eq!(proxy(&empty, "https://api.test").as_deref(), Some("http://l.test:1/"));
        let not = |name| [("HTTPS_PROXY", "u.test:1"), (name, "api.test")];
        assert_eq!(proxy(&not("NO_PROXY"), "https://api.test"), None);
        assert_eq!(proxy(&not("no_proxy"), "https://api.test"), None);
    }

    #[test]
    fn y1_the_default_port_of_the_server_counts_for_no_proxy() {
        let set = |list| [("HTTPS_PROXY", "p.test:1"), ("HTTP_PROXY", "p.test:1"), ("NO_PROXY", list)];
        assert_eq!(proxy(&set("api.test:443"), "https://api.test"), None);
        assert_eq!(proxy(&set("api.test:80"), "http://api.test"), None);
        assert!(proxy(&set("api.test:443"), "https://api.test:6443").is_some());
    }

    #[test]
    fn y1_the_address_of_a_proxy_may_lack_its_scheme() {
        for (value, read) in [
            ("proxy.test:3128", "http://proxy.test:3128/"),
            ("HTTP://proxy.test:3128/", "http://proxy.test:3128/"),
            ("https://user:pa%40ss@proxy.test", "https://user:pa%40ss@proxy.test/"),
            ("socks5h://proxy.test:1080", "socks5://proxy.test:1080/"),
            ("http://[fd00::1]:3128/path", "http://[fd00::1]:3128/"),
        ] {
            assert_eq!(proxy(&[("HTTPS_PROXY", value)], "https://api.test").as_deref(), Some(read));
        }
    }

    #[test]
    fn y1_what_is_no_proxy_is_rejected_without_its_password() {
        for value in ["ftp://user:s3cr3t@proxy.test", "http://user:s3cr3t@", "http://s3cr3t proxy"] {
            let error = variables(&[("HTTPS_PROXY", value)]).proxy_for(&"https://api.test".parse().unwrap());
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY is not the address of a proxy"), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        // A server that needs no proxy is not affected.
        assert_eq!(proxy(&[("HTTPS_PROXY", "ftp://x"), ("NO_PROXY", "*")], "https://api.test"), None);
    }
}
