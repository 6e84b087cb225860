//! What the options of `--submit` come to: read, parsed and consistent before anything is measured.

use std::fmt::{self, Debug, Formatter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use reqwest::Url;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::args::SubmitArgs;
use crate::plugin::{secret, state_file};

/// The ApiUser's password, where no file has it.
const PASSWORD_VARIABLE: &str = "PROXY_CHECKS_SUBMIT_PASSWORD";

/// How many results wait at the most, where `--submit-queue-limit` does not say.
const QUEUE_LIMIT: u32 = 10_000;

/// Where results go, and as whom.
pub struct Plan {
    /// The API, with a slash at its end.
    pub url: Url,
    /// Where to connect to, if not to the host of the URL.
    pub address: Option<String>,
    /// The object's name in Icinga: `HOST!SERVICE`.
    pub service: String,
    /// User and password; without them the client certificate says who this is.
    pub user: Option<(String, String)>,
    /// Whom to trust, and what to show.
    pub tls: ClientConfig,
    /// Within which time Icinga is to expect the next result.
    pub ttl: Option<Duration>,
    /// What Icinga shows as the source of the check: this host.
    pub source: String,
    /// The folder of the results that wait, this service's own.
    pub queue: PathBuf,
    /// Whether that folder was asked for by name.
    pub queue_given: bool,
    /// How many results may wait.
    pub limit: usize,
}

impl Debug for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.service, self.url)
    }
}

impl Plan {
    /// Reads what the options name; `None` where they do not ask for anything.
    pub fn of(args: &SubmitArgs, binary: &str) -> anyhow::Result<Option<Self>> {
        match (&args.submit, &args.submit_service) {
            (Some(url), Some(service)) => Self::read(url, service, args, binary).map(Some),
            _ => Ok(None),
        }
    }

    #[cold]
    fn read(url: &str, service: &str, args: &SubmitArgs, binary: &str) -> anyhow::Result<Self> {
        let url = parse_url(url)?;
        let service = parse_service(service)?;
        let user = user(args)?;
        ensure!(
            user.is_some() || args.submit_cert.is_some(),
            "--submit: give --submit-user and its password, or --submit-cert and --submit-key: Icinga wants to know who it is"
        );
        ensure!(
            args.submit_address.is_none() || url.domain().is_some(),
            "--submit-address: the URL of --submit has an address already; give the name that is in the certificate there"
        );
        let place = place(&url, &service);
        let queue = match &args.submit_queue {
            Some(folder) => folder.join(place),
            None => state_file::default_path(binary, "")
                .with_file_name("submit")
                .join(place),
        };
        let limit = args.submit_queue_limit.unwrap_or(QUEUE_LIMIT);
        Ok(Self {
            tls: tls(args)?,
            url,
            address: args.submit_address.clone(),
            service,
            user,
            ttl: args.submit_ttl,
            source: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            queue,
            queue_given: args.submit_queue.is_some(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    /// The lines of an ApiUser that may do no more than this needs.
    pub fn permission(&self) -> String {
        let (host, service) = self.service.split_once('!').unwrap_or_default();
        let filter =
            format!("filter = {{{{ host.name == \"{host}\" && service.name == \"{service}\" }}}}");
        format!(
            "permissions = [ {{ permission = \"actions/process-check-result\"; {filter} }}, \
             {{ permission = \"objects/query/Service\"; {filter} }} ]"
        )
    }
}

fn parse_url(text: &str) -> anyhow::Result<Url> {
    let mut url = Url::parse(text).with_context(|| {
        format!("--submit '{text}' is no URL: give https://HOST:PORT, as in https://icinga.example.org:5665")
    })?;
    ensure!(
        url.password().is_none() && url.username().is_empty(),
        "--submit: no user and password in the URL, where everybody can read them: give --submit-user and --submit-password-file"
    );
    ensure!(
        url.scheme() == "https" && url.host_str().is_some(),
        "--submit '{text}': Icinga's API speaks https alone: give https://HOST:PORT"
    );
    ensure!(
        url.query().is_none() && url.fragment().is_none(),
        "--submit '{text}': no query and no fragment, as in https://icinga.example.org:5665"
    );
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn parse_service(text: &str) -> anyhow::Result<String> {
    match text.split_once('!') {
        Some((host, service))
            if !host.is_empty()
                && !service.is_empty()
                && !service.contains('!')
                && !text.contains(|c: char| c.is_control() || c == '"') =>
        {
            Ok(text.to_owned())
        }
        _ => bail!(
            "--submit-service '{text}': give HOST!SERVICE, in single quotes, as the names of the objects are in Icinga"
        ),
    }
}

fn user(args: &SubmitArgs) -> anyhow::Result<Option<(String, String)>> {
    let Some(name) = &args.submit_user else {
        return Ok(None);
    };
    let password = match &args.submit_password_file {
        Some(path) => secret::from_file("--submit-password-file", path)?,
        None => secret::from_environment(PASSWORD_VARIABLE)?.with_context(|| {
            format!("--submit-user {name}: give --submit-password-file, or the password in {PASSWORD_VARIABLE} in the environment")
        })?,
    };
    Ok(Some((name.clone(), password)))
}

/// Trusts the named authority and no other one.
fn tls(args: &SubmitArgs) -> anyhow::Result<ClientConfig> {
    let path = args.submit_ca.as_deref().context(
        "--submit: give --submit-ca FILE. Icinga's API has an authority of its own: /var/lib/icinga2/certs/ca.crt on the \
         Icinga host and on each of its agents; copy that file, it holds no secret (or name your system's bundle where a \
         public authority signed)",
    )?;
    let origin = || format!("--submit-ca {}", path.display());
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path).with_context(origin)?);
    ensure!(
        added > 0,
        "{}: no authority's certificate is in it",
        origin()
    );
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&args.submit_cert, &args.submit_key) else {
        return Ok(config.with_no_client_auth());
    };
    let origin = || format!("--submit-cert {}", certificate.display());
    let chain = certificates(certificate).with_context(origin)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("--submit-key {}: cannot read a private key", key.display()))?;
    config
        .with_client_auth_cert(chain, secret)
        .with_context(|| {
            format!(
                "{}: cannot be used with the key in {}",
                origin(),
                key.display()
            )
        })
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .context("cannot read a certificate")?;
    ensure!(!chain.is_empty(), "no certificate is in it");
    Ok(chain)
}

/// The name of the folder for what goes to one service of one Icinga, so that several may lie side by side.
fn place(url: &Url, service: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '_'
        }
    };
    let readable: String = service.chars().take(64).map(plain).collect();
    let sum = state_file::checksum(format!("{url} {service}").as_bytes());
    format!("{}-{sum:016x}", readable.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_an_api_and_hold_no_secret() {
        for (text, url) in [
            ("https://icinga:5665", "https://icinga:5665/"),
            ("https://icinga", "https://icinga/"),
            ("https://[2001:db8::1]:5665/", "https://[2001:db8::1]:5665/"),
            (
                "https://gate.example/icinga",
                "https://gate.example/icinga/",
            ),
        ] {
            assert_eq!(parse_url(text).unwrap().as_str(), url);
        }
        for text in [
            "",
            "icinga",
            "icinga:5665",
            "http://icinga:5665",
            "https://",
            "https://icinga?x",
            "file:///x",
        ] {
            assert!(parse_url(text).is_err(), "{text} was taken");
        }
        let error = parse_url("https://root:hush@icinga")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn a_service_has_the_name_of_its_host() {
        assert_eq!(parse_service("web!a b/c").unwrap(), "web!a b/c");
        for text in ["", "web", "!x", "web!", "a!b!c", "web!x\ny", "web!\"x"] {
            assert!(parse_service(text).is_err(), "{text} was taken");
        }
    }

    #[test]
    fn services_that_look_alike_have_folders_of_their_own() {
        let url = parse_url("https://icinga").unwrap();
        let other = parse_url("https://other").unwrap();
        let places = [
            place(&url, "web!a/b"),
            place(&url, "web!a_b"),
            place(&other, "web!a_b"),
            place(&url, "..!."),
        ];
        for (at, one) in places.iter().enumerate() {
            assert!(!places[..at].contains(one) && !one.contains('/') && !one.starts_with('.'));
        }
    }
}
