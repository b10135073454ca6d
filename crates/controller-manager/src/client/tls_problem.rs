//! [`explained`]: says what is wrong with a certificate, and what to do.
//!
//! rustls accepts fewer certificates than OpenSSL, which some clusters have been set up with. Its texts name the rule
//! (`CaUsedAsEndEntity`) and not the remedy.

use std::error::Error;
use std::io;

use http::Uri;
use rustls::{AlertDescription, CertificateError};

/// A connection that failed because of a certificate.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
struct TlsProblem {
    problem: String,
    #[source]
    cause: kube::Error,
}

/// Adds the explanation to the error of a request, if a certificate has caused it.
pub(super) fn explained(error: kube::Error, proxy: Option<&Uri>) -> kube::Error {
    let problem = tls_error(&error).and_then(|error| connection_problem(error, &peer(proxy)));
    with_problem(problem, error)
}

/// Names the sender or the rejecter of a certificate. The error does not tell a proxy with TLS from the server behind
/// it. The password in the proxy's address is left out.
fn peer(proxy: Option<&Uri>) -> String {
    let proxy = proxy.filter(|proxy| proxy.scheme_str() == Some("https")).and_then(Uri::authority);
    proxy.map_or_else(
        || "the API server".to_owned(),
        |proxy| {
            let address = proxy.as_str().rsplit('@').next().unwrap_or_default();
            format!("the API server or the proxy {address}")
        },
    )
}

/// Adds the explanation to the error of a client that cannot be built, if its certificate has caused it.
pub(super) fn explained_build(error: kube::Error) -> kube::Error {
    with_problem(tls_error(&error).and_then(build_problem), error)
}

fn with_problem(problem: Option<String>, cause: kube::Error) -> kube::Error {
    match problem {
        Some(problem) => kube::Error::Service(Box::new(TlsProblem { problem, cause })),
        None => cause,
    }
}

fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // The source of an I/O error is the source of the error in it, so that one has to be asked for.
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

fn build_problem(error: &rustls::Error) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            Some(format!("the client certificate is rejected: {}", certificate_problem(error)))
        }
        rustls::Error::InconsistentKeys(_) => {
            Some("the client certificate and the client key do not belong together".to_owned())
        }
        _ => None,
    }
}

fn connection_problem(error: &rustls::Error, peer: &str) -> Option<String> {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            Some(format!("the certificate of {peer} is rejected: {}", certificate_problem(error)))
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => Some(format!(
            "{peer} rejects the client certificate; renew the client certificate (kubeconfig or credential helper)"
        )),
        _ => None,
    }
}

/// Continues a sentence about the certificate: the problem, and what to do.
fn certificate_problem(error: &CertificateError) -> String {
    use CertificateError as E;
    match error {
        E::NotValidForNameContext { expected, presented } if presented.is_empty() => format!(
            "it has no subjectAltName, and its common name (CN) does not count; issue a certificate with \
             subjectAltName {}",
            expected.to_str()
        ),
        E::NotValidForNameContext { expected, presented } => format!(
            "it is not valid for {}, only for {}; use one of these names as the server, set tls-server-name in the \
             kubeconfig to one of them, or issue a certificate for {}",
            expected.to_str(),
            presented.join(", "),
            expected.to_str()
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "its extendedKeyUsage does not contain serverAuth; issue a certificate with extendedKeyUsage serverAuth"
                .to_owned()
        }
        E::UnknownIssuer => "no CA of certificate-authority has issued it; set certificate-authority to the CA that \
                             has, and let the API server send its intermediate certificates"
            .to_owned(),
        E::BadSignature => "its signature does not fit the CA of that name; set certificate-authority to the CA that \
                            has issued it"
            .to_owned(),
        E::Expired | E::ExpiredContext { .. } => {
            format!("{error}; renew the certificate, or correct the clock of this machine")
        }
        E::NotValidYet | E::NotValidYetContext { .. } => format!("{error}; correct the clock of this machine"),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed by an algorithm that is not supported, such as SHA-1; issue a certificate that is signed by \
             RSA, ECDSA or Ed25519 with SHA-256 or stronger"
                .to_owned()
        }
        E::BadEncoding => "its encoding is not valid (such as a serial number that is negative or longer than 20 \
                           bytes); issue a new certificate"
            .to_owned(),
        other => unnamed_problem(&other.to_string()),
    }
}

/// For the errors of the certificate checker that rustls has no name for.
fn unnamed_problem(text: &str) -> String {
    if text.contains("UnsupportedCertVersion") {
        "it is of X.509 version 1, without extensions; issue a certificate of version 3, with a subjectAltName".to_owned()
    } else if text.contains("CaUsedAsEndEntity") {
        "it is the certificate of a CA (basicConstraints CA:TRUE); issue a certificate with CA:FALSE for the server, \
         signed by that CA"
            .to_owned()
    } else {
        format!("{text}; issue a new certificate")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: &rustls::Error, proxy: Option<&str>) -> String {
        let proxy = proxy.map(|proxy| proxy.parse().unwrap());
        connection_problem(error, &peer(proxy.as_ref())).unwrap()
    }

    #[test]
    fn y3_a_proxy_with_tls_is_named_without_its_password() {
        let expired = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let proxy = Some("https://user:s3cr3t@proxy.test:3128/");
        let text = problem(&expired, proxy);
        let named = "the certificate of the API server or the proxy proxy.test:3128 is rejected: ";
        assert!(text.starts_with(named), "{text}");
        let text = problem(&alert, proxy);
        assert!(text.starts_with("the API server or the proxy proxy.test:3128 rejects"), "{text}");
        assert!(text.ends_with("renew the client certificate (kubeconfig or credential helper)"), "{text}");
        // TLS through a proxy without TLS is that of the server.
        for proxy in [None, Some("http://proxy.test:3128/")] {
            let text = problem(&expired, proxy);
            assert!(text.starts_with("the certificate of the API server is rejected: "), "{text}");
        }
    }
}
