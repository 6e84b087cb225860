//! TLS as `check_http` has it by default: a session with whoever answers. Built for https alone.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::plan::Tls;

/// A connector that makes a full handshake each time.
pub fn connector(tls: &Tls) -> anyhow::Result<TlsConnector> {
    let config = begin(&tls.versions, tls)?;
    let mut config = match &tls.identity {
        None => config.with_no_client_auth(),
        Some((certificates, key)) => {
            config.with_client_cert_resolver(Arc::new(identity(certificates, key)?))
        }
    };
    config.enable_sni = tls.sni;
    if tls.http2 {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The same for a proxy: of what is set up for servers, it is trust alone that holds for it as well.
pub fn to_proxy(tls: &Tls) -> anyhow::Result<TlsConnector> {
    let mut config = begin(ALL_VERSIONS, tls)?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn begin(
    versions: &[&'static SupportedProtocolVersion],
    tls: &Tls,
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .context("cannot set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(match &tls.trust {
            Some(trust) => trust.possession(),
            None => Arc::new(Unverified),
        });
    Ok(config)
}

/// What this side shows when it is asked for a certificate. The certificate itself is not looked into: old sites have
/// some of X.509 version 1, which rustls would refuse to read.
fn identity(certificates: &Path, key: &Path) -> anyhow::Result<SingleCertAndKey> {
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("-J {}: cannot read a certificate", certificates.display()))?;
    anyhow::ensure!(
        !chain.is_empty(),
        "-J {}: no certificate is in it",
        certificates.display()
    );
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("-K {}: cannot read a private key", key.display()))?;
    let secret = ring::sign::any_supported_type(&secret)
        .with_context(|| format!("-K {}: this kind of key cannot be used", key.display()))?;
    anyhow::ensure!(
        belong_together(&chain[0], &*secret),
        "-K {}: this private key does not match the certificate of -J {}",
        key.display(),
        certificates.display()
    );
    Ok(CertifiedKey::new(chain, secret).into())
}

/// Whether a key is the one of this certificate; what cannot be read is left for the server to judge.
fn belong_together(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> bool {
    match (X509Certificate::from_der(certificate), key.public_key()) {
        (Ok((_, certificate)), Some(public)) => certificate.public_key().raw == public.as_ref(),
        _ => true,
    }
}

/// Takes any certificate, and does not look at the signature of the handshake either: that would cost a quarter of a
/// probe, prove nothing without the certificate, and call old sites broken.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    /// All that a server might want to sign with, since none is looked at.
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP521_SHA512,
            SignatureScheme::ED25519,
            SignatureScheme::ED448,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA1,
        ]
    }
}
