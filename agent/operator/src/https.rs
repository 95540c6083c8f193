//! HTTPS as the operator asks by it: with the operator's certificate, and trusting the site's authority alone.

use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use crate::authority::Identity;

/// Why there is no answer: a few words for a table, for silence is data here and no error.
pub type Silence = String;

/// Who asks: shows the operator's certificate, trusts the site's authority alone, and follows nobody elsewhere.
pub fn agent(operator: &Identity, ca_pem: &str, timeout: Duration) -> Result<Agent, ureq::Error> {
    let ca = Certificate::from_pem(ca_pem.as_bytes())?;
    let certificate = Certificate::from_pem(operator.cert_pem.as_bytes())?;
    let key = PrivateKey::from_pem(operator.key_pem.as_bytes())?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        // A site's servers are asked directly, whatever the environment says of proxies.
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(timeout))
        .build()
        .new_agent())
}

/// What is said of a request that failed.
pub fn reason(error: &ureq::Error) -> Silence {
    match error {
        ureq::Error::StatusCode(code) => format!("answered with status {code}"),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
