//! TLS of the HTTP server itself, for installations without a proxy that terminates it.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// Reads the files of `server.tls`; `None` if none are configured.
pub fn server_config(config: &TlsConfig) -> anyhow::Result<Option<ServerConfig>> {
    let (Some(cert), Some(key)) = (&config.cert, &config.key) else { return Ok(None) };
    let chain = CertificateDer::pem_file_iter(Path::new(cert))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("server.tls.cert: {cert}"))?;
    anyhow::ensure!(!chain.is_empty(), "server.tls.cert: {cert} contains no certificate");
    let secret = PrivateKeyDer::from_pem_file(Path::new(key))
        .with_context(|| format!("server.tls.key: {key}"))?;
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("server.tls")?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                anyhow!("server.tls.key: {key} is not the private key of server.tls.cert")
            }
            rustls::Error::InvalidCertificate(_) => {
                anyhow::Error::new(error).context(format!("server.tls.cert: {cert}"))
            }
            error => anyhow::Error::new(error).context(format!("server.tls.key: {key}")),
        })?;
    Ok(Some(config))
}
