//! The server's certificate.

mod authority;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;

/// The certificate or key cannot be used; the operator's mistake.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A `tls://` listener without `tls.certificate` and `tls.key`, nor an authority.
    #[error("tls.certificate and tls.key are needed for a tls:// listener")]
    NotConfigured,
    /// The file is missing or is not PEM of the expected kind.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// Certificate and key do not belong together, or their kind is not supported.
    #[error("the certificate in {} cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    /// The authority cannot sign a certificate for this server.
    #[error("the authority in {} cannot sign a certificate for {server_name}: {reason}", path.display())]
    Unsignable { path: PathBuf, server_name: String, reason: String },
}

/// The certificate in use; new connections take the newest one.
#[derive(Debug)]
pub(crate) struct Certificate(RwLock<Arc<ServerConfig>>);

impl Certificate {
    /// Reads the files named in `config`; an authority there signs a new certificate.
    pub(crate) fn read(config: &Config) -> Result<Certificate, TlsError> {
        Ok(Certificate(RwLock::new(Arc::new(build_server_config(config)?))))
    }

    /// Puts one that was just read in its place.
    pub(crate) fn replace(&self, fresh: Certificate) {
        *self.0.write() = fresh.current();
    }

    /// What a handshake that begins now uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.read().clone()
    }
}

fn build_server_config(config: &Config) -> Result<ServerConfig, TlsError> {
    let tls = &config.tls;
    let (path, (chain, key)) = match (&tls.certificate, &tls.key, &tls.authority_certificate, &tls.authority_key) {
        (Some(certificate), Some(key), None, None) => (certificate, (read_chain(certificate)?, read_key(key)?)),
        (None, None, Some(certificate), Some(key)) => {
            (certificate, authority::sign_certificate(&config.server_name, certificate, key)?)
        }
        _ => return Err(TlsError::NotConfigured),
    };
    let unusable = |source| TlsError::Unusable { path: path.clone(), source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.with_no_client_auth();
    let mut server_config = builder.with_single_cert(chain, key).map_err(unusable)?;
    server_config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server_config)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unreadable(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Unreadable { path: path.to_owned(), reason: "it holds no certificate".to_owned() });
    }
    Ok(chain)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &PemError) -> TlsError {
    TlsError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}
