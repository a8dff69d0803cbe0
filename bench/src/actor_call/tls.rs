//! Endpoints with mutual TLS, for loopback.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Error;

/// Name in all certificates.
pub(super) const NAME: &str = "bench";

/// One authority, and one certificate that both ends use.
pub(super) fn write_certificates(folder: &Path) -> Result<(), Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate_for(&PKCS_ED25519)?)?;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &authority)?;
    std::fs::write(folder.join("ca"), authority.der())?;
    std::fs::write(folder.join("certificate"), certificate.der())?;
    std::fs::write(folder.join("key"), key.serialize_der())?;
    Ok(())
}

/// An endpoint that can dial and listen.
pub(super) fn endpoint(folder: &Path) -> Result<quinn::Endpoint, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(std::fs::read(folder.join("ca"))?))?;
    let roots = Arc::new(roots);
    let chain = vec![CertificateDer::from(std::fs::read(folder.join("certificate"))?)];
    let key = std::fs::read(folder.join("key"))?;
    let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.clone()));
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::clone(&roots),
        Arc::clone(&provider),
    );
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(chain.clone(), key())?;
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key())?;
    let server = quinn::crypto::rustls::QuicServerConfig::try_from(server)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport()?);
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(client)?;
    let mut client = quinn::ClientConfig::new(Arc::new(client));
    client.transport_config(transport()?);
    let mut endpoint = quinn::Endpoint::server(server, (Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}

/// The same for both QUIC sides.
fn transport() -> Result<Arc<quinn::TransportConfig>, Error> {
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(30).try_into()?));
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    Ok(Arc::new(transport))
}
