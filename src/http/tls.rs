//! TLS as `check_http` has it by default: a session with whoever answers. Built for https alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use memchr::memmem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error,
    PeerIncompatible, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::plan::Tls;

/// How much of a file with a private key is read: more than any has.
const KEY_LIMIT: u64 = 1 << 20;

/// Whether any server has come as far as to show its certificate: what it wants and what this program offers go together
/// then.
#[derive(Debug, Clone, Default)]
pub struct Met(Arc<AtomicBool>);

impl Met {
    /// It has.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connector that makes a full handshake each time.
pub fn connector(tls: &Tls) -> anyhow::Result<TlsConnector> {
    let config = begin(&tls.versions, tls, &tls.met)?;
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
    let mut config = begin(ALL_VERSIONS, tls, &Met::default())?.with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn begin(
    versions: &[&'static SupportedProtocolVersion],
    tls: &Tls,
    met: &Met,
) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .context("cannot set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(match &tls.trust {
            Some(trust) => trust.possession(met.clone()),
            None => Arc::new(Unverified(met.clone())),
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
    let secret = private_key(key)?;
    anyhow::ensure!(
        belong_together(&chain[0], &*secret),
        "-K {}: this private key does not match the certificate of -J {}",
        key.display(),
        certificates.display()
    );
    Ok(CertifiedKey::new(chain, secret).into())
}

fn private_key(path: &Path) -> anyhow::Result<Arc<dyn SigningKey>> {
    let name = path.display();
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(KEY_LIMIT).read_to_end(&mut pem))
        .with_context(|| format!("-K {name}: cannot read it"))?;
    // PKCS #8 says so in its label, the older form in a header.
    let encrypted = [
        &b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..],
        b"\nProc-Type: 4,ENCRYPTED",
    ];
    anyhow::ensure!(
        encrypted
            .iter()
            .all(|mark| memmem::find(&pem, mark).is_none()),
        "-K {name}: this key is encrypted, and nobody is here to be asked for its password: \
         'openssl pkey -in {name} -out FILE' writes it without, for a file that the daemon's user alone can read"
    );
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .with_context(|| format!("-K {name}: there is no private key in PEM in it"))?;
    // What the library says is that it is none of those that it knows.
    ring::sign::any_supported_type(&key).ok().with_context(|| {
        format!(
            "-K {name}: this program cannot use this kind of key: it takes RSA of 2048 to 4096 bits, ECDSA on P-256 or \
             P-384, and Ed25519 ('openssl pkey -in {name} -noout -text' tells which it is); use check_http, or have a \
             certificate made for such a key"
        )
    })
}

/// Why a server that refuses the handshake may be one that this program is no match for, where it has never met one that
/// goes along: that is not for it to call a failure of the server.
pub fn no_match(error: &io::Error, tls: &Tls) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    if tls.met.yet() {
        return None;
    }
    // One version alone is what the user asked for, and its refusal the answer.
    let open = tls.versions.len() > 1;
    match error {
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
            if open =>
        {
            Some(
                "The server has neither TLS 1.2 nor 1.3, and -S no older one here: use check_http"
                    .to_owned(),
            )
        }
        Error::AlertReceived(
            alert @ (AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity),
        ) => {
            let sni = if tls.sni {
                ""
            } else {
                "a host name (--sni), or "
            };
            Some(format!(
                "The server takes nothing that -S offers here ({alert:?}): it wants {sni}RSA key exchange, CBC ciphers or \
                 curves that this program does not have: use check_http"
            ))
        }
        _ => None,
    }
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
struct Unverified(Met);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.note();
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
