//! Certificates with their keys, made for a test, and the servers' settings that show them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};

/// A day.
pub const DAY: Duration = Duration::from_hours(24);

/// A certificate, the key that belongs to it, and what stands above it.
pub struct Identity {
    certificate: rcgen::Certificate,
    parameters: rcgen::CertificateParams,
    key: rcgen::KeyPair,
}

impl Identity {
    /// An authority that others may be signed by.
    pub fn authority() -> Self {
        let mut parameters = rcgen::CertificateParams::default();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test authority");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self::make(parameters, None)
    }

    /// One for a name, good until then, signed by an authority.
    pub fn signed(name: &str, until: SystemTime, authority: &Self) -> Self {
        let mut parameters = named(name);
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let since = until.duration_since(SystemTime::UNIX_EPOCH);
        parameters.not_after = epoch + since.expect("a time after 1970");
        Self::make(parameters, Some(authority))
    }

    /// One for a name that nobody vouches for.
    pub fn self_signed(name: &str) -> Self {
        Self::make(named(name), None)
    }

    /// One without any name in its subject, signed by nobody.
    pub fn nameless() -> Self {
        let mut parameters = named("localhost");
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        Self::make(parameters, None)
    }

    /// One for `localhost` that calls itself anything.
    pub fn called(name: &str) -> Self {
        let mut parameters = named("localhost");
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        Self::make(parameters, None)
    }

    fn make(parameters: rcgen::CertificateParams, authority: Option<&Self>) -> Self {
        let key = rcgen::KeyPair::generate().expect("ring can make a key");
        let certificate = match authority {
            None => parameters.self_signed(&key),
            Some(authority) => {
                let issuer = rcgen::Issuer::from_params(&authority.parameters, &authority.key);
                parameters.signed_by(&key, &issuer)
            }
        };
        Self {
            certificate: certificate.expect("a key can sign"),
            parameters,
            key,
        }
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server that shows this to clients with a certificate, whatever it is: as old as it may be.
    pub fn server_for_anybody_with_a_certificate(&self) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("rcgen gives PKCS #8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_client_cert_verifier(Arc::new(Anybody))
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }

    /// A server that shows this to clients that ask for the name in the handshake, and hangs up on all others.
    pub fn server_for(&self, name: &str) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("rcgen gives PKCS #8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = provider.key_provider.load_private_key(key);
        let chain = vec![self.certificate.der().clone()];
        let shown = CertifiedKey::new(chain, key.expect("ring can use it"));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(OnlyFor(name.to_owned(), Arc::new(shown))));
        Arc::new(config)
    }

    /// A server that shows this, with what stands above it; with an authority for clients, to those alone that it
    /// vouches for.
    pub fn server(&self, chain: &[&Self], clients: Option<&Self>) -> Arc<ServerConfig> {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("rcgen gives PKCS #8");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                let root = authority.certificate.der().clone();
                roots.add(root).expect("it is an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
            }
        };
        let shown = [self].into_iter().chain(chain.iter().copied());
        let shown = shown.map(|identity| identity.certificate.der().clone());
        let config = builder
            .with_single_cert(shown.collect(), key)
            .expect("key and certificate belong together");
        Arc::new(config)
    }
}

/// A server that shows what is in this PEM file, which may be more than rustls would read.
pub fn server_of_file(certificate: &Path, key: &Path) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate in PEM");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key in PEM");
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("ring can sign with it");
    let shown = CertifiedKey::new(vec![certificate], key);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    Arc::new(config)
}

/// A certificate for those who ask for a name, whatever name it is for.
#[derive(Debug)]
struct OnlyFor(String, Arc<CertifiedKey>);

impl ResolvesServerCert for OnlyFor {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name() == Some(&*self.0);
        asked.then(|| Arc::clone(&self.1))
    }
}

/// Wants a certificate and takes any.
#[derive(Debug)]
struct Anybody;

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
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

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

fn named(name: &str) -> rcgen::CertificateParams {
    let mut parameters =
        rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name that can stand there");
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    parameters
}
