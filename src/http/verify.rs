//! Whether a server's certificate is what it should be: vouched for, good today, for the name that was asked. Only
//! where `-D` asks for it; nothing is read otherwise.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::CertificateError as Wrong;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::connect::Miss;
use super::probe::Kind;
use super::target::Target;
use super::tls::Met;

/// Where systems keep the authorities that they trust, in one file: Debian, Fedora, SUSE, Alpine and OpenBSD.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Server")]
pub struct VerifyArgs {
    /// Speak https, and verify that a trusted authority vouches for the certificate and that it is for the host name
    #[arg(short = 'D', long)]
    pub verify_cert: bool,

    /// With -D the PEM file of the authorities to trust [default: the system's, or $SSL_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
}

impl VerifyArgs {
    /// Whether they ask for https, as in `check_curl`.
    pub fn https(&self) -> bool {
        self.verify_cert || self.ca_cert.is_some()
    }
}

/// Whom to trust.
#[derive(Debug)]
pub struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    /// Trusted as they are, should a server show one of them.
    certificates: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// Reads what the options name; `None` where they do not ask.
    pub fn load(args: &VerifyArgs) -> anyhow::Result<Option<Self>> {
        if !args.verify_cert {
            return Ok(None);
        }
        let path = match &args.ca_cert {
            Some(path) => path.clone(),
            None => system_bundle()?,
        };
        let option = || format!("--ca-cert {}", path.display());
        let certificates = CertificateDer::pem_file_iter(&path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("{}: cannot read a certificate", option()))?;
        let mut roots = RootCertStore::empty();
        // One that rustls cannot read must not keep the others from being used.
        let (added, _) = roots.add_parsable_certificates(certificates.iter().cloned());
        if added == 0 {
            bail!("{}: no certificate of an authority is in it", option());
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .with_context(option)?;
        Ok(Some(Self {
            verifier,
            certificates,
        }))
    }

    /// What the handshake itself has to prove.
    pub fn possession(&self, met: Met) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Possession(Arc::clone(&self.verifier), met))
    }

    /// Judges the certificates that a server showed, its own first.
    pub fn judge(&self, shown: &[CertificateDer<'_>], target: &Target) -> Result<(), Miss> {
        let Some((own, others)) = shown.split_first() else {
            return Err(refused("the server showed no certificate"));
        };
        let name = target.certified_name();
        let server = ServerName::try_from(name.to_owned()).map_err(|_| {
            refused(&format!(
                "'{name}' is no name that a certificate can be for"
            ))
        })?;
        let now = UnixTime::now();
        let verdict = if self.certificates.iter().any(|trusted| trusted == own) {
            by_itself(own, &server, now)
        } else {
            let verifier = &self.verifier;
            verifier
                .verify_server_cert(own, others, &server, &[], now)
                .map(|_| ())
        };
        verdict.map_err(|error| why(&error, name))
    }
}

fn system_bundle() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let found = BUNDLES.iter().find(|path| Path::new(path).exists());
    found.map(PathBuf::from).context(
        "-D: this host has no file of trusted authorities (package ca-certificates): name one with --ca-cert",
    )
}

/// A certificate that is trusted as such needs nobody above it.
fn by_itself(own: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), Error> {
    verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
    let (_, certificate) =
        X509Certificate::from_der(own).map_err(|_| Error::from(Wrong::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now > certificate.validity().not_after.timestamp() {
        return Err(Wrong::Expired.into());
    }
    if now < certificate.validity().not_before.timestamp() {
        return Err(Wrong::NotValidYet.into());
    }
    Ok(())
}

/// What this host cannot verify of a certificate shows in the handshake already, where the server proves that it is its
/// own. `None`: it failed for another reason.
pub fn beyond_us(error: &io::Error) -> Option<Miss> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    match why(error, "") {
        host @ Miss::Host(_) => Some(host),
        Miss::Server(..) | Miss::NoMatch(_) => None,
    }
}

fn refused(why: &str) -> Miss {
    Miss::Server(
        Kind::Certificate,
        format!("Certificate verification failed: {why}"),
    )
}

fn why(error: &Error, name: &str) -> Miss {
    let Error::InvalidCertificate(wrong) = error else {
        return refused(&error.to_string());
    };
    match wrong {
        Wrong::Expired | Wrong::ExpiredContext { .. } => refused("a certificate has expired"),
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            refused("a certificate is not valid yet")
        }
        Wrong::UnknownIssuer => refused("no trusted authority vouches for it"),
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => {
            refused(&format!("it is not for '{name}'"))
        }
        Wrong::BadSignature => refused("a signature in it is wrong"),
        Wrong::BadEncoding => refused("a certificate cannot be read"),
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            refused("it is not one for servers")
        }
        // What this library does not know may be good all the same: that is not for it to say.
        other => Miss::Host(format!(
            "-D: this program cannot verify such a certificate ({other}): use check_curl -D, or leave out -D"
        )),
    }
}

/// Has a server prove in the handshake that the certificate's key is its own. The certificate itself is judged right
/// behind the handshake: so what was shown is known even where it is not good.
#[derive(Debug)]
struct Possession(Arc<WebPkiServerVerifier>, Met);

impl ServerCertVerifier for Possession {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.1.note();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
