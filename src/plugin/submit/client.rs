//! The two requests to the Icinga 2 API: a passive check result, and what Icinga has of the service.

use std::error::Error as StdError;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use anyhow::Context;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{RequestBuilder, StatusCode, Url, redirect, retry};
use rustls::CertificateError as Wrong;
use serde_json::{Value, json};

use super::passive::Passive;
use super::plan::Plan;
use crate::plugin::clean::clean_cut;

/// The longest that one request may take.
const TIME: Duration = Duration::from_secs(10);

/// The longest that the connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Icinga closes idle connections after ten seconds.
const IDLE: Duration = Duration::from_secs(5);

/// The most that is read of a reply: what is wanted is shorter than a kibibyte.
const REPLY_LIMIT: usize = 64 * 1024;

/// Times closer than this are the same one: they went through decimals and back.
const SAME: u64 = 500;

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened.
    pub text: String,
    /// What to do about it; empty for what passes by itself.
    pub advice: String,
    /// It stays until somebody changes something.
    pub lasting: bool,
    /// Icinga may have done what was asked all the same.
    pub ambiguous: bool,
    /// What it answered, if it did.
    pub code: Option<u16>,
}

/// What Icinga says to a result.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Taken,
    /// It has one that began later, and threw this one away.
    TooOld,
}

/// What Icinga keeps of the service's results: when the last one of each state was over, in microseconds since 1970, 0
/// for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last(pub(super) [i64; 4]);

impl Last {
    /// Whether this result arrived; `None` if there is no telling. No two results of ours are over at the same time.
    pub fn has(&self, result: &Passive) -> Option<bool> {
        let end = self.0[usize::from(result.state).min(3)];
        if same(end, result.end) {
            return Some(true);
        }
        // A later one with the same state has taken its place, if it had one.
        (end < result.end).then_some(false)
    }

    /// When the last result was over: it began no later. Of our own it is known better, by their ends and beginnings.
    pub fn began_by(&self, ours: [(i64, i64); 2]) -> i64 {
        let latest = self.0.into_iter().max().unwrap_or_default();
        let known = ours.into_iter().find(|(end, _)| same(*end, latest));
        known.map_or(latest, |(_, start)| start)
    }
}

fn same(one: i64, other: i64) -> bool {
    one.abs_diff(other) < SAME
}

/// The way to the API.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    action: Url,
    object: Url,
    permission: String,
    host: String,
    user: Option<(String, String)>,
    service: String,
    source: String,
    ttl: Option<Duration>,
}

impl Client {
    /// Makes one. Nothing is sent yet.
    pub fn new(plan: &Plan) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(plan.tls.clone())
            .user_agent(concat!("proxy-checks/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .https_only(true)
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::none())
            // An ambiguous send is settled first; nobody may repeat it.
            .retry(retry::never())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .connect_timeout(CONNECT_TIME)
            .timeout(TIME);
        if let Some(address) = &plan.address {
            builder = builder.dns_resolver(Elsewhere(address.clone()));
        }
        let join = |path: &str| plan.url.join(path).context("--submit: no such URL");
        let mut object = join("v1/objects/services")?;
        object
            .path_segments_mut()
            .ok()
            .context("--submit: no such URL")?
            .push(&plan.service);
        let attributes =
            ["critical", "ok", "unknown", "warning"].map(|state| format!("last_state_{state}"));
        // Not the result itself: a reply of more than a kibibyte leaves Icinga in two parts, the second one 40 ms later.
        object
            .query_pairs_mut()
            .extend_pairs(attributes.iter().map(|name| ("attrs", name.as_str())));
        Ok(Self {
            http: builder
                .build()
                .context("--submit: cannot set up a client")?,
            action: join("v1/actions/process-check-result")?,
            object,
            permission: plan.permission(),
            host: plan.url.host_str().unwrap_or_default().to_owned(),
            user: plan.user.clone(),
            service: plan.service.clone(),
            source: plan.source.clone(),
            ttl: plan.ttl,
        })
    }

    /// Sends a result, with a note below its text.
    pub async fn send(&self, result: &Passive, note: &str) -> Result<Answer, Trouble> {
        let mut body = json!({
            "type": "Service",
            "service": self.service,
            "exit_status": result.state,
            "plugin_output": format!("{}{note}", result.output),
            "performance_data": result.perfdata,
            "check_source": self.source,
            "execution_start": seconds(result.start),
            "execution_end": seconds(result.end),
        });
        if let Some(ttl) = self.ttl {
            body["ttl"] = json!(ttl.as_secs_f64());
        }
        let request = self.http.post(self.action.clone()).body(body.to_string());
        let (status, reply) = self.talk(request).await?;
        let (code, words) = said(status, &reply);
        match code {
            200..=299 => Ok(Answer::Taken),
            409 => Ok(Answer::TooOld),
            _ => Err(self.refused(code, &words)),
        }
    }

    /// Asks what Icinga has.
    pub async fn last(&self) -> Result<Last, Trouble> {
        let (status, reply) = self.talk(self.http.get(self.object.clone())).await?;
        let attributes = &reply["results"][0]["attrs"];
        if !status.is_success() || !attributes.is_object() {
            let (code, words) = said(status, &reply);
            return Err(self.refused(code, &words));
        }
        let end = |state: &str| micros(&attributes[format!("last_state_{state}")]);
        Ok(Last(["ok", "warning", "critical", "unknown"].map(end)))
    }

    /// One request and its reply, of which no more than a limit is read.
    async fn talk(&self, mut request: RequestBuilder) -> Result<(StatusCode, Value), Trouble> {
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, Some(password));
        }
        let request = request
            .header("accept", "application/json")
            .header("content-type", "application/json");
        let mut response = request.send().await.map_err(|error| self.broken(&error))?;
        let mut reply = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broken(&error))?
        {
            reply.extend_from_slice(&chunk);
            if reply.len() > REPLY_LIMIT {
                return Err(Trouble {
                    text: format!("the reply is longer than {} KiB", REPLY_LIMIT >> 10),
                    advice: "look what answers there: it is no Icinga 2".to_owned(),
                    lasting: true,
                    ambiguous: true,
                    code: None,
                });
            }
        }
        let reply = serde_json::from_slice(&reply)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&reply).into_owned()));
        Ok((response.status(), reply))
    }

    /// What Icinga's refusal means.
    fn refused(&self, code: u16, words: &str) -> Trouble {
        let service = &self.service;
        let (text, advice) = match code {
            401 => (
                "Icinga knows no such user, or not this password (401)".to_owned(),
                match &self.user {
                    Some((name, _)) => format!(
                        "compare --submit-password-file with: object ApiUser \"{name}\" {{ password = … }}"
                    ),
                    None => "the client certificate's common name must be the client_cn of an ApiUser, and its authority Icinga's"
                        .to_owned(),
                },
            ),
            403 if words.contains("Passive checks are disabled") => (
                format!("passive checks of {service} are disabled (403)"),
                "set enable_passive_checks = true for the service".to_owned(),
            ),
            403 => (
                format!("the user may not do that (403: {words})"),
                format!("the ApiUser needs {}", self.permission),
            ),
            404 => (
                format!("Icinga has no service {service} (404), or not one that this user may see"),
                format!("make the service, see icinga2-conf/passive.conf; the ApiUser needs {}", self.permission),
            ),
            300..=399 => (
                format!("something sends elsewhere ({code}), which is not followed"),
                "give the address of the Icinga 2 API itself".to_owned(),
            ),
            500.. | 408 | 429 => {
                return Trouble {
                    text: format!("Icinga says {code}: {words}"),
                    advice: String::new(),
                    lasting: false,
                    // A gateway in between says so of requests that went through.
                    ambiguous: matches!(code, 502 | 504 | 408),
                    code: Some(code),
                };
            }
            _ => (
                format!("it says {code}: {words}"),
                "look what answers there, and whether it is an Icinga 2".to_owned(),
            ),
        };
        Trouble {
            text,
            advice,
            lasting: true,
            ambiguous: false,
            code: Some(code),
        }
    }

    /// What a broken connection means.
    fn broken(&self, error: &reqwest::Error) -> Trouble {
        let ambiguous = !error.is_connect() && !error.is_builder();
        let text = innermost(error);
        let advice = tls_error(error).map(|error| self.tls_advice(error));
        let lasting = matches!(&advice, Some((_, true)));
        let text = match error.is_timeout() {
            true if error.is_connect() => {
                format!("no connection within {} s", CONNECT_TIME.as_secs())
            }
            true => format!("no reply within {} s", TIME.as_secs()),
            false => text,
        };
        Trouble {
            text: clean_cut(text, 300),
            advice: advice.map_or(String::new(), |(advice, _)| advice),
            lasting,
            ambiguous,
            code: None,
        }
    }

    /// What to do about trouble with TLS, and whether it lasts.
    fn tls_advice(&self, error: &rustls::Error) -> (String, bool) {
        let advice = match error {
            rustls::Error::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature) => {
                "the certificate is not of the authority in --submit-ca: copy /var/lib/icinga2/certs/ca.crt of that Icinga anew".to_owned()
            }
            rustls::Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => format!(
                "the certificate is not for '{}': give --submit https://NODENAME:PORT with the name that it is for, and --submit-address {}",
                self.host, self.host
            ),
            rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
                "renew the certificate of that Icinga".to_owned()
            }
            rustls::Error::InvalidMessage(_) => "that is no TLS: look what answers at that port".to_owned(),
            rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_) => {
                String::new()
            }
            _ => return (String::new(), false),
        };
        (advice, true)
    }
}

/// The code and the words of a reply: those for the object where there are some.
fn said(status: StatusCode, reply: &Value) -> (u16, String) {
    let result = &reply["results"][0];
    let code = result["code"]
        .as_f64()
        .filter(|code| (100.0..1000.0).contains(code));
    // Checked above, and codes are whole.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let code = code.map_or(status.as_u16(), |code| code as u16);
    let words = [&result["status"], &reply["status"], reply]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default();
    (code, clean_cut(words.trim(), 200))
}

/// Microseconds as the seconds that Icinga counts in.
fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

fn micros(seconds: &Value) -> i64 {
    let seconds = seconds.as_f64().filter(|seconds| seconds.is_finite());
    #[allow(clippy::cast_possible_truncation)]
    // saturates, which is as good a time as any that wrong
    seconds.map_or(0, |seconds| (seconds * 1e6).round() as i64)
}

/// The words of the last error in the chain: the others say no more than "error sending request".
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    let named = error
        .downcast_ref::<io::Error>()
        .map(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                "nobody listens there (connection refused)".to_owned()
            }
            _ => error.to_string(),
        });
    named.unwrap_or_else(|| error.to_string())
}

/// What rustls has to do with it. An I/O error keeps its cause to itself: it is no link of the chain.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut link = Some(error);
    while let Some(error) = link {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        link = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Gives the addresses of another name than the one that was asked for.
struct Elsewhere(String);

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let name = self
            .0
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Box::pin(async move {
            // The port is that of the URL.
            let found = tokio::net::lookup_host((name, 0)).await?;
            let addresses: Addrs = Box::new(found.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

/// For the messages of this module.
impl Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(state: u8, start: i64, end: i64) -> Passive {
        Passive {
            state,
            output: String::new(),
            perfdata: Vec::new(),
            start,
            end,
        }
    }

    #[test]
    fn a_result_is_known_by_its_times_even_behind_one_of_somebody_else() {
        let ours = result(2, 100, 102_000_000);
        for (ends, has, began) in [
            ([50, 0, 0, 0], Some(false), 7),
            ([0, 0, 102_000_000, 0], Some(true), 100),
            ([0, 0, 102_000_001, 0], Some(true), 100),
            ([0, 0, 91_000_000, 0], Some(false), 91_000_000),
            // A check of Icinga's own came later and found another state.
            ([0, 0, 102_000_000, 200_000_000], Some(true), 200_000_000),
            ([0, 0, 91_000_000, 200_000_000], Some(false), 200_000_000),
            // It found the same one: there is no telling.
            ([0, 0, 200_000_000, 0], None, 200_000_000),
        ] {
            assert_eq!(Last(ends).has(&ours), has, "{ends:?}");
            assert_eq!(
                Last(ends).began_by([(50, 7), (ours.end, ours.start)]),
                began,
                "{ends:?}"
            );
        }
    }

    #[test]
    fn no_times_at_the_ends_of_what_numbers_can_say_wrap_round() {
        for (theirs, end) in [(i64::MIN, 1), (i64::MIN, 0), (i64::MAX, -1), (0, i64::MIN)] {
            let has = Last([theirs; 4]).has(&result(0, end, end));
            assert_ne!(has, Some(true), "{theirs} {end}");
        }
    }

    #[test]
    fn times_survive_the_way_through_decimals() {
        for time in [1_700_000_000_123_456, 1_999_999_999_999_999, 1] {
            let text = json!(seconds(time)).to_string();
            let back = micros(&serde_json::from_str(&text).unwrap());
            assert!((back - time).abs() <= 1, "{time} {text}");
        }
        assert_eq!(micros(&Value::Null), 0);
        assert_eq!(micros(&json!(1e300)), i64::MAX);
    }

    #[test]
    fn the_code_is_that_of_the_object_and_the_words_are_clean() {
        let reply = json!({"results": [{"code": 409.0, "status": "Newer\u{1b}[2J"}]});
        let (code, words) = said(StatusCode::INTERNAL_SERVER_ERROR, &reply);
        assert_eq!((code, words.as_str()), (409, "Newer\\x1b[2J"));
        let reply = json!({"error": 404.0, "status": "No objects found."});
        assert_eq!(
            said(StatusCode::NOT_FOUND, &reply),
            (404, "No objects found.".to_owned())
        );
        let reply = Value::String("<h1>".repeat(10_000));
        assert!(said(StatusCode::BAD_REQUEST, &reply).1.len() < 300);
    }
}
