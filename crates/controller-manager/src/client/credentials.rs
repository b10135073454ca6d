//! [`CredentialSource`]: where the certificates and credentials of a client come from; [`Credentials`]: their content.
//!
//! A kube client is built of a `Config` without references to files and helpers, so what it is built of is known, and
//! a comparison shows whether a new client is needed.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use kube::Config;
use kube::config::{AuthInfo, ExecConfig};
use secrecy::ExposeSecret;

use super::certificates::certificates;
use super::helper::{self, Credential, HelperError};

/// Why credentials cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialsError {
    /// A file cannot be read, or its content cannot be used.
    #[error("{what} {} {problem}", path.display())]
    File { what: &'static str, path: PathBuf, problem: String },
    /// The credential helper returned none.
    #[error(transparent)]
    Helper(#[from] HelperError),
}

/// The content of all files, and what the credential helper returned. Not `Debug`, since it is secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    roots: Option<Vec<Vec<u8>>>,
    token: Option<String>,
    certificate: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    /// Not read again with the files.
    pub(super) helper: Option<Credential>,
}

/// The places of the credentials of a client.
pub(super) struct CredentialSource {
    config: Config,
}

impl CredentialSource {
    /// As in client-go, a field that is empty counts as absent. kubectl writes "" for "none".
    pub(super) fn new(mut config: Config) -> Self {
        let user = &mut config.auth_info;
        for text in [
            &mut user.token_file,
            &mut user.username,
            &mut user.client_certificate,
            &mut user.client_certificate_data,
            &mut user.client_key,
        ] {
            text.take_if(|text| text.is_empty());
        }
        for secret in [&mut user.token, &mut user.client_key_data] {
            secret.take_if(|secret| secret.expose_secret().is_empty());
        }
        Self { config }
    }

    /// The helper to run. As in kube, any other credential goes before it.
    pub(super) fn helper(&self) -> Option<&ExecConfig> {
        let user = &self.config.auth_info;
        let has_other = user.auth_provider.is_some()
            || user.token.is_some()
            || user.token_file.is_some()
            || user.username.as_ref().zip(user.password.as_ref()).is_some();
        user.exec.as_ref().filter(|_| !has_other)
    }

    /// Whether there are files, whose content may change.
    pub(super) fn has_files(&self) -> bool {
        self.roots_file().is_some()
            || self.token_file().is_some()
            || self.certificate_file().is_some()
            || self.key_file().is_some()
    }

    /// Runs the helper, if there is one. Blocks. Returns its credentials and when they expire.
    pub(super) fn run_helper(&self) -> Result<(Option<Credential>, Option<Timestamp>), CredentialsError> {
        let Some(exec) = self.helper() else { return Ok((None, None)) };
        let (credential, expires) = helper::run(exec)?;
        Ok((Some(credential), expires))
    }

    /// Reads all files. Blocks.
    pub(super) fn read(&self, helper: Option<Credential>) -> Result<Credentials, CredentialsError> {
        let roots = read("the CA file", self.roots_file(), |pem| certificates(&pem))?;
        Ok(Credentials {
            roots,
            token: read("the token file", self.token_file(), token)?,
            certificate: read("the client certificate file", self.certificate_file(), Ok)?,
            key: read("the client key file", self.key_file(), Ok)?,
            helper,
        })
    }

    /// The configuration of a client with these credentials. It refers to no file and no helper.
    pub(super) fn config(&self, credentials: &Credentials) -> Config {
        let mut config = self.config.clone();
        if let Some(roots) = &credentials.roots {
            config.root_cert = Some(roots.clone());
        }
        // kube would read the file again, at most once a minute, and nothing else.
        config.root_cert_file = None;
        let user = &mut config.auth_info;
        let helper = credentials.helper.as_ref();
        if let Some(token) = credentials.token.as_ref().or(helper.and_then(|helper| helper.token.as_ref())) {
            user.token = Some(token.clone().into());
        }
        set_identity(user, credentials);
        (user.token_file, user.exec) = (None, None);
        (user.client_certificate, user.client_key) = (None, None);
        config
    }

    fn roots_file(&self) -> Option<&Path> {
        self.config.root_cert_file.as_deref()
    }

    fn token_file(&self) -> Option<&Path> {
        self.config.auth_info.token_file.as_deref().map(Path::new)
    }

    /// Data in the kubeconfig goes before a file.
    fn certificate_file(&self) -> Option<&Path> {
        let user = &self.config.auth_info;
        user.client_certificate.as_deref().filter(|_| user.client_certificate_data.is_none()).map(Path::new)
    }

    fn key_file(&self) -> Option<&Path> {
        let user = &self.config.auth_info;
        user.client_key.as_deref().filter(|_| user.client_key_data.is_none()).map(Path::new)
    }
}

/// A certificate of the helper goes before that of the kubeconfig, as in client-go.
fn set_identity(user: &mut AuthInfo, credentials: &Credentials) {
    let helper = credentials.helper.as_ref().and_then(|helper| helper.identity.as_ref());
    let (certificate, key) = match helper {
        Some((certificate, key)) => (Some(certificate.as_bytes()), Some(key.as_bytes())),
        None => (credentials.certificate.as_deref(), credentials.key.as_deref()),
    };
    if let Some(certificate) = certificate {
        user.client_certificate_data = Some(STANDARD.encode(certificate));
    }
    if let Some(key) = key {
        user.client_key_data = Some(STANDARD.encode(key).into());
    }
}

fn read<T>(
    what: &'static str,
    path: Option<&Path>,
    parse: impl FnOnce(Vec<u8>) -> Result<T, String>,
) -> Result<Option<T>, CredentialsError> {
    let Some(path) = path else { return Ok(None) };
    let content = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"));
    let parsed = content.and_then(parse);
    let parsed = parsed.map_err(|problem| CredentialsError::File { what, path: path.to_owned(), problem })?;
    Ok(Some(parsed))
}

/// A header may contain no line break, and files end with one.
fn token(content: Vec<u8>) -> Result<String, String> {
    let token = String::from_utf8(content).map_err(|_| "is not UTF-8".to_owned())?;
    let token = token.trim();
    if token.is_empty() { Err("is empty".to_owned()) } else { Ok(token.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(user: &str) -> CredentialSource {
        let mut config = Config::new("https://api.test".parse().unwrap());
        config.auth_info = serde_json::from_str(user).unwrap();
        CredentialSource::new(config)
    }

    #[test]
    fn y2_empty_fields_do_not_replace_the_helper_and_name_no_files() {
        let source = source(
            r#"{"exec": {"command": "helper"}, "token": "", "username": "", "password": "", "tokenFile": "",
                "client-certificate": "", "client-key": "", "client-certificate-data": "", "client-key-data": ""}"#,
        );
        assert!(source.helper().is_some());
        assert!(!source.has_files());
        let config = source.config(&source.read(None).unwrap_or_else(|error| panic!("{error}")));
        let user = serde_json::to_value(&config.auth_info).unwrap();
        let expected =
            serde_json::to_value(AuthInfo { password: Some(String::new().into()), ..AuthInfo::default() });
        assert_eq!(user, expected.unwrap());
    }

    #[test]
    fn a_token_or_a_user_name_goes_before_the_helper() {
        for other in [r#""token": "t""#, r#""username": "u", "password": """#, r#""tokenFile": "t""#] {
            assert!(source(&format!(r#"{{"exec": {{"command": "helper"}}, {other}}}"#)).helper().is_none());
        }
    }
}
