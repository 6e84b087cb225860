//! How long a certificate is still good, in `check_http`'s words. No I/O.

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use super::checks::Judgement;
use super::probe::Kind;
use crate::plugin::State;

const DAY: i64 = 86_400;

/// What `check_http` calls a certificate whose subject has no common name.
const UNNAMED: &str = "Unknown CN";

/// The most certificates of a chain that are looked at.
const CHAIN: usize = 10;

/// Days left, at which a certificate starts to be a WARNING and to be CRITICAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaysLeft {
    /// From here on down a WARNING.
    pub warning: i64,
    /// From here on down CRITICAL.
    pub critical: i64,
}

impl DaysLeft {
    /// As `-C` names them: `14` or `14,7`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let pair = text.split_once(',');
        let (warning, critical) = pair.unwrap_or((text, "0"));
        let days = |word: &str| {
            let days: Option<u32> = match word.trim() {
                // As in check_http, `14,` and `,7` leave the other one at 0.
                "" if pair.is_some() => Some(0),
                word => word.parse().ok(),
            };
            days.map(i64::from)
                .with_context(|| format!("-C {text}: give days, as in 14 or 14,7"))
        };
        Ok(Self {
            warning: days(warning)?,
            critical: days(critical)?,
        })
    }
}

/// A certificate that a server showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its common name or, without one, the first name that it is for.
    pub name: String,
    /// The common name of who signed it.
    pub issuer: String,
    /// When it ends, in seconds since 1970.
    pub end: i64,
    /// The days that it is good for, less than zero when it is over.
    pub days: i64,
}

impl Link {
    /// The end, as in `check_http`'s words.
    pub fn until(&self) -> String {
        date(self.end)
    }
}

/// The certificates of a chain, as far as they can be read.
pub fn chain(shown: &[CertificateDer<'_>], now: Timestamp) -> Vec<Link> {
    shown
        .iter()
        .take(CHAIN)
        .filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let end = certificate.validity().not_after.timestamp();
            Some(Link {
                name: common_name(certificate.subject())
                    .or_else(|| alternative_name(&certificate))
                    .unwrap_or_else(|| UNNAMED.to_owned()),
                issuer: common_name(certificate.issuer()).unwrap_or_else(|| UNNAMED.to_owned()),
                end,
                days: end.saturating_sub(now.as_second()).div_euclid(DAY),
            })
        })
        .collect()
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let name = name.iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject_alternative_name().ok()??;
    names
        .value
        .general_names
        .iter()
        .find_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
}

/// Judges the certificate that a server showed; `None`: it showed none.
pub fn judge(der: Option<&[u8]>, limits: DaysLeft, now: Timestamp) -> Judgement {
    let (state, words) = match der.map(X509Certificate::from_der) {
        None => (
            State::Critical,
            "Cannot retrieve server certificate.".to_owned(),
        ),
        Some(Err(error)) => (
            State::Critical,
            format!("Cannot read server certificate: {error}"),
        ),
        Some(Ok((_, certificate))) => by_time(&certificate, limits, now),
    };
    Judgement {
        state,
        kind: (state != State::Ok).then_some(Kind::Certificate),
        words,
        sized: false,
        status: None,
    }
}

fn by_time(certificate: &X509Certificate<'_>, limits: DaysLeft, now: Timestamp) -> (State, String) {
    let end = certificate.validity().not_after.timestamp();
    let name = common_name(certificate.subject());
    let name = name.as_deref().unwrap_or(UNNAMED);
    let left = end.saturating_sub(now.as_second());
    let days = left / DAY;
    let state = if days > limits.critical {
        State::Warning
    } else {
        State::Critical
    };
    let when = date(end);
    if left < 0 {
        let words = format!("Certificate '{name}' expired on {when}.");
        (State::Critical, words)
    } else if days == 0 {
        let (number, unit) = if left >= 3600 {
            (left / 3600, "hours")
        } else {
            (left / 60, "minutes")
        };
        let words = format!("Certificate '{name}' expires in {number} {unit} ({when})");
        (state, words)
    } else if days <= limits.warning {
        let words = format!("Certificate '{name}' expires in {days} day(s) ({when}).");
        (state, words)
    } else {
        let words = format!("Certificate '{name}' will expire on {when}.");
        (State::Ok, words)
    }
}

/// A time as the C library's `%c %z` has it, in UTC wherever this host is, as in `check_http`.
fn date(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time
            .to_zoned(TimeZone::UTC)
            .strftime("%a %b %e %H:%M:%S %Y %z")
            .to_string(),
        // A year that no clock shows: 253402300799 is the end of 9999.
        Err(_) => format!("second {seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_follow_from_the_time_that_is_left() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a.test");
        parameters.not_after = rcgen::date_time_ymd(2027, 2, 20);
        let certificate = parameters.self_signed(&key).unwrap();
        let end: Timestamp = "2027-02-20T00:00:00Z".parse().unwrap();
        for (left, warning, critical, state, words) in [
            (
                30 * DAY,
                14,
                0,
                State::Ok,
                "Certificate 'a.test' will expire on ",
            ),
            (
                4 * DAY + 1,
                14,
                0,
                State::Warning,
                "Certificate 'a.test' expires in 4 day(s) (",
            ),
            (
                4 * DAY + 1,
                14,
                7,
                State::Critical,
                "Certificate 'a.test' expires in 4 day(s) (",
            ),
            (
                4 * DAY + 1,
                3,
                0,
                State::Ok,
                "Certificate 'a.test' will expire on ",
            ),
            (
                3 * 3600 + 5,
                14,
                0,
                State::Critical,
                "Certificate 'a.test' expires in 3 hours (",
            ),
            (
                150,
                0,
                0,
                State::Critical,
                "Certificate 'a.test' expires in 2 minutes (",
            ),
            (
                -1,
                14,
                0,
                State::Critical,
                "Certificate 'a.test' expired on ",
            ),
        ] {
            let now = Timestamp::from_second(end.as_second() - left).unwrap();
            let limits = DaysLeft { warning, critical };
            let judgement = judge(Some(certificate.der()), limits, now);
            assert_eq!(judgement.state, state, "{left}");
            assert!(
                judgement.words.starts_with(words),
                "{left}: {}",
                judgement.words
            );
        }
    }

    #[test]
    fn what_is_no_certificate_is_critical() {
        let limits = DaysLeft {
            warning: 14,
            critical: 0,
        };
        for der in [
            None,
            Some(&b""[..]),
            Some(b"\x30\x82\xff\xff"),
            Some(b"hello"),
        ] {
            let judgement = judge(der, limits, Timestamp::UNIX_EPOCH);
            assert_eq!(judgement.kind, Some(Kind::Certificate), "{der:?}");
        }
    }
}
