//! The server's certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Config, TlsConfig};

/// The certificate or key cannot be used; the operator's mistake.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A `tls://` listener without `tls.certificate` and `tls.key`.
    #[error("tls.certificate and tls.key are needed for a tls:// listener")]
    NotConfigured,
    /// The file is missing or is not PEM of the expected kind.
    #[error("cannot read {}: {reason}", path.display())]
    Unreadable { path: PathBuf, reason: String },
    /// Certificate and key do not belong together, or their kind is not supported.
    #[error("the certificate in {} cannot be used: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
}

/// The certificate in use; new connections take the newest one.
#[derive(Debug)]
pub(crate) struct Certificate(RwLock<Arc<ServerConfig>>);

impl Certificate {
    /// Reads the files named in `config`.
    pub(crate) fn read(config: &Config) -> Result<Certificate, TlsError> {
        Ok(Certificate(RwLock::new(Arc::new(build_server_config(&config.tls)?))))
    }

    /// Reads the files again; on an error the old certificate stays.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), TlsError> {
        let fresh = Arc::new(build_server_config(&config.tls)?);
        *self.0.write() = fresh;
        Ok(())
    }

    /// What a handshake that begins now uses.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        self.0.read().clone()
    }
}

fn build_server_config(config: &TlsConfig) -> Result<ServerConfig, TlsError> {
    let (Some(certificate), Some(key)) = (&config.certificate, &config.key) else {
        return Err(TlsError::NotConfigured);
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.map_err(|error| unreadable(certificate, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Unreadable { path: certificate.clone(), reason: "it holds no certificate".to_owned() });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let unusable = |source| TlsError::Unusable { path: certificate.clone(), source };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(unusable)?.with_no_client_auth();
    let mut server_config = builder.with_single_cert(chain, key).map_err(unusable)?;
    server_config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(server_config)
}

fn unreadable(path: &Path, error: &PemError) -> TlsError {
    TlsError::Unreadable { path: path.to_owned(), reason: error.to_string() }
}
