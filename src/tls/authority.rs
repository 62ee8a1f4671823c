//! A certificate that is made at the start, signed by the authority of a test network.

use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use spec::ids::ServerName;

use super::{TlsError, read_chain, read_key};

/// A new key, and a certificate for `server_name` signed by the authority in the two PEM files.
///
/// The certificate does not expire, as the key exists in memory only and the next start makes another.
pub(super) fn sign_certificate(
    server_name: &str,
    authority: &Path,
    authority_key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain = read_chain(authority)?;
    let key = read_key(authority_key)?;
    let failed = |reason: String| TlsError::Unsignable {
        path: authority.to_owned(),
        server_name: server_name.to_owned(),
        reason,
    };
    let name = ServerName::parse(server_name).map_err(|error| failed(error.to_string()))?;
    // An IPv6 address has brackets in a server name and none in a certificate.
    let host = name.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    sign_for(host, chain, &key).map_err(|error| failed(error.to_string()))
}

fn sign_for(
    host: String,
    authority: Vec<CertificateDer<'static>>,
    authority_key: &PrivateKeyDer<'_>,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), rcgen::Error> {
    let certificate = authority.first().ok_or(rcgen::Error::CouldNotParseCertificate)?;
    let issuer = Issuer::from_ca_cert_der(certificate, KeyPair::try_from(authority_key)?)?;
    let mut params = CertificateParams::new(vec![host])?;
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own_key = KeyPair::generate()?;
    let mut chain = vec![params.signed_by(&own_key, &issuer)?.der().clone()];
    chain.extend(authority);
    Ok((chain, PrivateKeyDer::from(own_key)))
}
