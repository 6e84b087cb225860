//! One probe: an exchange, the redirects behind it, and the limit on all of it.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::PROXY_AUTHORIZATION;
use jiff::Timestamp;
use tokio::time::timeout_at;
use tokio_rustls::TlsConnector;

use super::args::OnRedirect;
use super::certificate::{self, Link};
use super::checks::{Judgement, status_of, stays};
use super::connect::{Means, Miss, open};
use super::cookie_file::Cookies;
use super::cpu_wait::CpuWait;
use super::evidence::{Recorder, Recording};
use super::exchange::{Received, exchange};
use super::page::PAGE_SHOWN;
use super::plan::Plan;
use super::pool::{Carrier, Pool, Use};
use super::probe::{Kind, Phases, Probe};
use super::proxy::ProxyKind;
use super::redirect;
use super::reply;
use super::request;
use super::target::Target;
use super::tls;
use super::trace::{Stage, Trace};
use super::unpack::unpack;
use crate::plugin::State;
use crate::plugin::metric::plain;

/// How much of a failing reply is kept to be shown.
const EVIDENCE: usize = 4096;

/// What is not worth another wait: this much of waiting for a CPU is nothing out of the ordinary.
const GAIN: Duration = Duration::from_millis(10);

/// How much of a head is kept to be compared.
const HEAD: usize = 8192;

/// What sends probes: the plan, and what is built once for all of them.
pub struct Prober {
    plan: Plan,
    run_number: u64,
    /// What keeps evidence.
    recorder: Option<Recorder>,
    /// Of the thread that sends the probes: the one that makes this.
    cpu_wait: CpuWait,
    /// Where connections rest between two requests.
    pool: Option<Pool>,
    /// Built at the start for https, or when a redirect leads there.
    tls: OnceLock<Result<TlsConnector, String>>,
    /// The same for proxies that are spoken to over TLS.
    proxy_tls: OnceLock<Result<TlsConnector, String>>,
}

/// What is known of a probe on its way, over all its exchanges.
#[derive(Debug)]
struct Course {
    /// Phases of the exchanges that are over.
    phases: Phases,
    /// What was kept of them.
    recording: Option<Recording>,
    /// The exchange that runs, or ran last.
    trace: Trace,
    /// The head of the last page, where it is shown.
    page: Vec<u8>,
    /// When it counts as timed out.
    until: Option<Instant>,
    /// What is thought of the first certificate, where a request follows.
    certificate: Option<Judgement>,
    /// The certificates that the first server showed, where they matter.
    chain: Vec<Link>,
    /// The `X-Request-Id` of the last reply.
    reply_id: Option<String>,
    /// What it made of connections.
    connections: Use,
}

impl Prober {
    /// For one run.
    pub fn new(
        plan: Plan,
        run_number: u64,
        recorder: Option<Recorder>,
        pool: Option<Pool>,
    ) -> anyhow::Result<Self> {
        let tls = OnceLock::new();
        // Here its errors (a missing -J file, say) come as what they are: before any probe.
        if plan.paths.iter().any(|path| path.target.https) {
            let _ = tls.set(Ok(tls::connector(&plan.tls)?));
        }
        Ok(Self {
            plan,
            run_number,
            recorder,
            cpu_wait: CpuWait::of_this_thread(),
            pool,
            tls,
            proxy_tls: OnceLock::new(),
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sends probe `number`. An error is that this host could not: no fact about the server.
    pub async fn probe(&self, number: u64) -> anyhow::Result<Probe> {
        let at = Timestamp::now();
        let started = Instant::now();
        let waited_before = self.cpu_wait.at(started);
        let request_id = self
            .plan
            .request_id
            .then(|| format!("{:016x}{number:016x}", self.run_number));
        let path = self.plan.path_of(number, self.run_number);
        let mut course = Course {
            phases: Phases::default(),
            recording: self
                .recorder
                .as_ref()
                .map(|_| Recording::begin(at, started)),
            trace: self.trace(),
            page: Vec::new(),
            until: self.plan.timeout.map(|limit| started + limit),
            certificate: None,
            chain: Vec::new(),
            reply_id: None,
            connections: Use::default(),
        };
        let follow = self.follow(path, request_id.as_deref(), &mut course);
        let waited = || self.cpu_wait.total().saturating_sub(waited_before);
        let ended = match self.plan.timeout {
            Some(limit) => in_time(started, limit, waited, follow)
                .await
                .unwrap_or_else(|| Err(Miss::Server(Kind::Timeout, String::new()))),
            None => follow.await,
        };
        let elapsed = course.trace.done.unwrap_or_else(Instant::now) - started;
        // What was waited for behind the reply is none of its time.
        let waited = course
            .trace
            .waited
            .map_or_else(waited, |total| total.saturating_sub(waited_before));
        let waited = waited.min(elapsed);
        let mut judgement = match ended {
            Ok(judgement) => judgement,
            Err(Miss::Server(Kind::Timeout, _)) => self.timed_out(course.trace.stage),
            Err(Miss::Server(Kind::ConnectTimeout, words)) => {
                Judgement::final_word(self.plan.timeout_result, Kind::ConnectTimeout, words)
            }
            Err(Miss::Server(kind, words)) => Judgement::final_word(State::Critical, kind, words),
            Err(Miss::NoMatch(words)) => Judgement::final_word(State::Unknown, Kind::Tls, words),
            Err(Miss::Host(why)) => return Err(anyhow!(why)),
        };
        let mut excused = self.plan.checks.judge_time(&mut judgement, elapsed, waited);
        if let Some(certificate) = course.certificate {
            judgement.words = format!("{} - {}", certificate.words, judgement.words);
            judgement.worsen(certificate.state, Kind::Certificate);
        }
        course.phases.add(&course.trace.phases());
        excused |= self
            .plan
            .checks
            .phases
            .judge(&mut judgement, &course.phases, waited);
        let mut head = Vec::new();
        if self.plan.evidence.compares() {
            let received = &course.trace.tape.received;
            let (start, end, _) = reply::split(received).unwrap_or((0, 0, 0));
            head = received[start..end.min(start + HEAD)].to_vec();
        }
        Ok(Probe {
            number,
            at,
            path,
            elapsed,
            waited,
            excused,
            phases: course.phases,
            state: judgement.state,
            kind: judgement.kind,
            words: judgement.words,
            replied: judgement.sized,
            status: judgement.status,
            size: course.trace.tape.size,
            local: course.trace.local,
            remote: course.trace.remote,
            reused: course.trace.reused.is_some(),
            connections: course.connections,
            head,
            request_id,
            reply_id: course.reply_id,
            page: course.page,
            received: if self.plan.show.exchange && judgement.kind.is_some() {
                let received = &course.trace.tape.received;
                received[..received.len().min(EVIDENCE)].to_vec()
            } else {
                Vec::new()
            },
            chain: course.chain,
            recording: course.recording.map(|mut recording| {
                recording.add(course.trace);
                Arc::new(recording)
            }),
        })
    }

    fn trace(&self) -> Trace {
        Trace::begin(self.recorder.as_ref().map(Recorder::record))
    }

    /// Sends the request and goes where redirects lead, as far as `-f` allows.
    async fn follow(
        &self,
        path: usize,
        request_id: Option<&str>,
        course: &mut Course,
    ) -> Result<Judgement, Miss> {
        let plan = &self.plan;
        let mut target = plan.paths[path].target.clone();
        let mut redirects = 0;
        let mut by_get = false;
        let jar = plan.cookies.as_ref().map(Cookies::begin);
        let mut anew = false;
        loop {
            let means = self.means(&target, course.until)?;
            if let Some(record) = &mut course.trace.tape.record {
                record.url = target.url();
            }
            let way = (&*plan.paths[path].name, &target);
            let carrier = self.carrier(means, way, anew, course).await?;
            if target.https && plan.shows_chain() && course.chain.is_empty() {
                course.chain = certificate::chain(carrier.certificates(), Timestamp::now());
            }
            if let Some(trust) = plan.tls.trust.as_ref().filter(|_| target.https) {
                trust.judge(carrier.certificates(), &target)?;
            }
            if let (Some(limits), None) = (plan.certificate, &course.certificate) {
                let own = carrier.certificates().first();
                let judged = certificate::judge(own.map(AsRef::as_ref), limits, Timestamp::now());
                if !plan.ask {
                    return Ok(judged);
                }
                course.certificate = Some(judged);
            }
            let first = &plan.paths[path].target;
            let mut request = self.request(means, first, request_id, by_get)?;
            let server = jar.as_ref().map(|jar| jar.add_to(&mut request, &target));
            let repeatable = !anew && request.method().is_idempotent();
            let received = exchange(means, carrier, request, &mut course.trace).await;
            anew = repeatable && has_ended(&course.trace, &received);
            if anew {
                course.connections.resent += 1;
                self.next_trace(course);
                continue;
            }
            let mut received = received.map_err(|miss| not_repeated(miss, &course.trace))?;
            if let (Some(pool), Some(rest)) = (&self.pool, received.rest.take()) {
                let ends = (course.trace.local, course.trace.remote);
                pool.put(plan, way, rest, ends);
            }
            course.reply_id = received.reply.request_id();
            if let (Some(jar), Some(server)) = (&jar, &server) {
                jar.take(&received.reply, server, &target);
            }
            let packed = if plan.protocol.enable_automatic_decompression {
                unpack(&mut received.reply, plan.page.limit()).err()
            } else {
                None
            };
            if plan.show.page {
                let page = &received.reply.page;
                course.page = page[..page.len().min(PAGE_SHOWN)].to_vec();
            }
            let mut judgement =
                match plan
                    .checks
                    .judge_status(&received.reply, &target, plan.on_redirect)
                {
                    Ok(judgement) => judgement,
                    Err(last) => return Ok(last),
                };
            let curl = plan.on_redirect == OnRedirect::Curl;
            let stays = stays(&received.reply, plan.on_redirect);
            if stays || !judgement.follows(&plan.checks, plan.on_redirect) {
                let size = course.trace.tape.size;
                plan.checks
                    .judge_content(&mut judgement, &received, size, &target);
                if let Some(why) = packed {
                    judgement.words += " - the page cannot be unpacked: ";
                    judgement.words += &why;
                    judgement.worsen(State::Critical, Kind::Content);
                }
                return Ok(judgement);
            }
            by_get |= curl && plan.request.posts() && matches!(judgement.status, Some(301..=303));
            redirects += 1;
            target = match redirect::next(plan, path, &target, &received.reply, redirects) {
                Ok(next) => next,
                Err(last) => {
                    return Ok(Judgement {
                        status: judgement.status,
                        ..last
                    });
                }
            };
            course.phases.add(&course.trace.phases());
            self.next_trace(course);
        }
    }

    /// The request to a target, to which the one to `first` has led.
    fn request(
        &self,
        means: Means<'_>,
        first: &Target,
        id: Option<&str>,
        by_get: bool,
    ) -> Result<Request<Full<Bytes>>, Miss> {
        let plan = &self.plan;
        let target = means.target;
        // The first target was tried when the plan was made: only one that a redirect named can fail here.
        let forwards = means.proxy.filter(|proxy| !proxy.tunnels(target));
        let asked = forwards.map(|proxy| proxy.forwarded(target));
        let mut request = plan
            .request
            .build(asked.as_ref().unwrap_or(target), id)
            .map_err(|error| Miss::Server(Kind::Redirect, format!("{error:#}")))?;
        let trusted = target.may_know_secrets_of(first);
        if !trusted {
            request::drop_secrets(&mut request);
        }
        // In a tunnel it would be the server that reads it.
        let authorization = forwards.map_or(&plan.proxy_authorization, |p| &p.authorization);
        if let Some(value) = authorization
            .as_ref()
            .filter(|_| trusted || forwards.is_some())
        {
            let headers = request.headers_mut();
            headers.insert(PROXY_AUTHORIZATION, value.clone());
        }
        if by_get {
            request::make_get(&mut request);
        }
        plan.protocol.shape(&mut request, target);
        Ok(request)
    }

    /// A connection to send a request on: one that rests, unless it has to be a new one.
    async fn carrier(
        &self,
        means: Means<'_>,
        (path, target): (&str, &Target),
        anew: bool,
        course: &mut Course,
    ) -> Result<Carrier, Miss> {
        if let Some(pool) = self.pool.as_ref().filter(|_| !anew) {
            let (idle, closed) = pool.take(path, target).await;
            course.connections.closed += u64::from(closed);
            if let Some(idle) = idle {
                course.connections.reused += 1;
                let encrypted = idle.carrier.is_encrypted();
                course.trace.reuses(idle.local, idle.remote, encrypted);
                return Ok(idle.carrier);
            }
        }
        let stream = open(means, &mut course.trace).await?;
        course.connections.opened += 1;
        Ok(Carrier::Stream(stream))
    }

    /// Puts the exchange aside, for another one to begin.
    fn next_trace(&self, course: &mut Course) {
        let over = std::mem::replace(&mut course.trace, self.trace());
        if let Some(recording) = &mut course.recording {
            recording.add(over);
        }
    }

    fn means<'a>(&'a self, target: &'a Target, until: Option<Instant>) -> Result<Means<'a>, Miss> {
        let tls = &self.plan.tls;
        let proxy = self.plan.proxies.serving(target);
        Ok(Means {
            target,
            family: self.plan.family,
            source: &self.plan.source,
            proxy,
            announce: self.plan.announce,
            tls: if target.https {
                Some(built(&self.tls, || tls::connector(tls))?)
            } else {
                None
            },
            settings: tls,
            proxy_tls: if proxy.is_some_and(|proxy| proxy.kind == ProxyKind::Https) {
                Some(built(&self.proxy_tls, || tls::to_proxy(tls))?)
            } else {
                None
            },
            trust: tls.trust.as_ref(),
            page: self.plan.page,
            keep: self.pool.is_some(),
            until,
            cpu_wait: &self.cpu_wait,
        })
    }

    fn timed_out(&self, stage: Stage) -> Judgement {
        let kind = match stage {
            Stage::Resolving => Kind::Dns,
            Stage::Connecting => Kind::ConnectTimeout,
            Stage::Tunnelling | Stage::Securing | Stage::Talking => Kind::Timeout,
        };
        let seconds = plain(self.plan.timeout.unwrap_or(Duration::ZERO).as_secs_f64());
        let words = format!("Socket timeout after {seconds} seconds");
        Judgement::final_word(self.plan.timeout_result, kind, words)
    }
}

/// Waits for a probe until its limit; what it waited for a CPU meanwhile does not count, up to as much again.
async fn in_time<T>(
    started: Instant,
    limit: Duration,
    waited: impl Fn() -> Duration,
    probe: impl Future<Output = T>,
) -> Option<T> {
    let mut probe = pin!(probe);
    let mut allowed = limit;
    loop {
        if let Ok(done) = timeout_at((started + allowed).into(), &mut probe).await {
            return Some(done);
        }
        let more = limit + waited().min(limit);
        if more <= allowed + GAIN {
            return None;
        }
        allowed = more;
    }
}

/// Whether the server had done with a connection that was there before this exchange, so that it says nothing about the
/// request: it may be sent once more (RFC 9112, 9.3.1; RFC 9110, 15.5.9).
fn has_ended(trace: &Trace, received: &Result<Received, Miss>) -> bool {
    trace.reused.is_some()
        && match received {
            Err(_) => trace.gone,
            Ok(received) => {
                received.rest.is_none() && status_of(&received.reply.status_line()) == Some(408)
            }
        }
}

/// Says why a request was not sent once more, though nothing but its connection may have been at an end.
fn not_repeated(miss: Miss, trace: &Trace) -> Miss {
    match miss {
        Miss::Server(kind, words) if trace.gone && trace.reused.is_some() => {
            let why = "on a reused connection, and not for sending twice";
            Miss::Server(kind, format!("{words} ({why})"))
        }
        other => other,
    }
}

/// What is built when it is first needed.
fn built(
    cell: &OnceLock<Result<TlsConnector, String>>,
    build: impl FnOnce() -> anyhow::Result<TlsConnector>,
) -> Result<&TlsConnector, Miss> {
    cell.get_or_init(|| build().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| Miss::Host(error.clone()))
}
