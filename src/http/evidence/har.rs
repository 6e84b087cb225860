//! A probe in the form of HTTP Archive 1.2, for browsers' developer tools and everything else that reads it. No I/O.

use std::time::Instant;

use base64::prelude::{BASE64_STANDARD, Engine};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::parts::Parts;
use super::record::Recording;
use crate::http::trace::{Stage, Trace};

/// What the archive is made of.
pub struct Archive<'a> {
    /// What the probe came to, in a line.
    pub title: &'a str,
    /// The exchanges.
    pub recording: &'a Recording,
    /// The same, taken apart.
    pub parts: &'a [Parts],
    /// Their URLs.
    pub urls: &'a [String],
    /// Why the last one has no reply.
    pub error: Option<&'a str>,
}

/// The document.
pub fn document(archive: &Archive<'_>) -> Value {
    let recording = archive.recording;
    let last = recording.hops.len().saturating_sub(1);
    let entries: Vec<_> = recording
        .hops
        .iter()
        .zip(archive.parts)
        .zip(archive.urls)
        .enumerate()
        .map(|(at, ((hop, parts), url))| {
            let error = archive.error.filter(|_| at == last);
            entry(recording, hop, parts, url, error)
        })
        .collect();
    let started = recording.hops.first().map(|hop| hop.started);
    let started = started.map_or(Value::Null, |at| json!(date(recording.time_of(at))));
    let comment = match recording.left_out {
        0 => archive.title.to_owned(),
        n => format!(
            "{}; {n} redirects before the last exchange are left out",
            archive.title
        ),
    };
    json!({"log": {
        "version": "1.2",
        "creator": {"name": "check_http_retry", "version": env!("CARGO_PKG_VERSION")},
        "pages": [{
            "startedDateTime": started,
            "id": "probe",
            "title": archive.title,
            "pageTimings": {},
        }],
        "entries": entries,
        "comment": comment,
    }})
}

fn entry(
    recording: &Recording,
    hop: &Trace,
    parts: &Parts,
    url: &str,
    error: Option<&str>,
) -> Value {
    let timings = Timings::of(hop, hop.done.unwrap_or(recording.ended));
    let mut entry = json!({
        "pageref": "probe",
        "startedDateTime": date(recording.time_of(hop.started)),
        "time": rounded(timings.total()),
        "request": request(parts, url),
        "response": response(parts, error),
        "cache": {},
        "timings": timings.json(),
    });
    if let Some(remote) = hop.remote {
        entry["serverIPAddress"] = json!(remote.ip().to_string());
    }
    if let Some(local) = hop.local {
        entry["connection"] = json!(local.port().to_string());
    }
    entry
}

fn date(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system())
        .strftime("%Y-%m-%dT%H:%M:%S%.6f%:z")
        .to_string()
}

/// Milliseconds; below zero where a phase was not needed.
struct Timings {
    dns: f64,
    connect: f64,
    ssl: f64,
    send: f64,
    wait: f64,
    receive: f64,
}

impl Timings {
    /// Where the time went. The phase that the exchange broke off in lasts until its end.
    fn of(hop: &Trace, end: Instant) -> Self {
        let ms =
            |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        let resolved = hop.resolved.unwrap_or(hop.started);
        let ready = hop.ready();
        let tape = &hop.tape;
        let sent = tape.last_write.filter(|_| hop.stage == Stage::Talking);
        Self {
            dns: match (hop.resolved, hop.stage) {
                (Some(resolved), _) => ms(hop.started, resolved),
                (None, Stage::Resolving) => ms(hop.started, end),
                _ => -1.0,
            },
            // The handshake is a part of it, by the format.
            connect: match (ready, hop.stage) {
                (_, Stage::Connecting | Stage::Tunnelling | Stage::Securing) => ms(resolved, end),
                (Some(ready), _) if hop.reused.is_none() => ms(resolved, ready),
                _ => -1.0,
            },
            ssl: match (hop.connected, hop.secured, hop.stage) {
                (Some(connected), Some(secured), _) => ms(connected, secured),
                (Some(connected), None, Stage::Securing) => ms(connected, end),
                _ => -1.0,
            },
            send: match (ready, sent, hop.stage) {
                (Some(ready), Some(sent), _) => ms(ready, sent),
                (Some(ready), None, Stage::Talking) => ms(ready, end),
                _ => 0.0,
            },
            // A reply may begin before the request is out.
            wait: sent.map_or(0.0, |sent| ms(sent, tape.first_read.unwrap_or(end))),
            receive: tape
                .first_read
                .map_or(0.0, |first| ms(sent.unwrap_or(first).max(first), end)),
        }
    }

    fn total(&self) -> f64 {
        [self.dns, self.connect, self.send, self.wait, self.receive]
            .into_iter()
            .map(rounded)
            .filter(|ms| *ms > 0.0)
            .sum()
    }

    fn json(&self) -> Value {
        json!({
            "blocked": -1,
            "dns": rounded(self.dns),
            "connect": rounded(self.connect),
            "ssl": rounded(self.ssl),
            "send": rounded(self.send),
            "wait": rounded(self.wait),
            "receive": rounded(self.receive),
        })
    }
}

/// To the microsecond.
fn rounded(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

fn request(parts: &Parts, url: &str) -> Value {
    let (line, headers) = head(&parts.request);
    let mut words = line.split(' ');
    let method = words.next().unwrap_or_default();
    let version = words.next_back().unwrap_or_default();
    let (body, size) = &parts.body;
    let cookies: Vec<_> = values(&headers, "cookie")
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let parameters: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let mut request = json!({
        "method": method,
        "url": url,
        "httpVersion": version,
        "cookies": cookies,
        "headers": listed(&headers),
        "queryString": parameters,
        "headersSize": size_of(&parts.request),
        "bodySize": size,
    });
    if *size > 0 {
        let text = String::from_utf8_lossy(body);
        request["postData"] = json!({
            "mimeType": values(&headers, "content-type").next().unwrap_or_default(),
            "params": [],
            "text": text,
        });
        if *size > body.len() as u64 {
            let comment = format!("the first {} of {size} bytes", body.len());
            request["postData"]["comment"] = json!(comment);
        }
    }
    if parts.request.is_empty() {
        request["comment"] = json!("it came to no request");
    }
    request
}

fn response(parts: &Parts, error: Option<&str>) -> Value {
    let (line, headers) = head(&parts.reply);
    let mut words = line.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let reason = words.nth(1).unwrap_or_default().trim();
    let cookies: Vec<_> = values(&headers, "set-cookie").filter_map(cookie).collect();
    let some = !parts.reply.is_empty();
    let mut response = json!({
        "status": parts.status,
        "statusText": if parts.status > 0 { reason } else { "" },
        "httpVersion": if parts.status > 0 { version } else { "" },
        "cookies": cookies,
        "headers": listed(&headers),
        "content": content(parts, &headers),
        "redirectURL": values(&headers, "location").next().unwrap_or_default(),
        "headersSize": size_of(&parts.reply),
        "bodySize": if some { json!(parts.page_size) } else { json!(-1) },
    });
    if let Some(error) = error {
        // Browsers have it under this name.
        response["_error"] = json!(error);
        response["comment"] = json!(error);
    }
    response
}

fn content(parts: &Parts, headers: &[(String, String)]) -> Value {
    let page = &parts.page;
    let kind = values(headers, "content-type").next();
    let size = if parts.page_cut {
        parts.page_size.max(page.len() as u64)
    } else {
        page.len() as u64
    };
    let mut content = Map::new();
    content.insert("size".to_owned(), json!(size));
    if let (Some(Ok(())), false, Ok(saved)) = (
        &parts.packed,
        parts.page_cut,
        i64::try_from(size).map(|size| size.saturating_sub_unsigned(parts.page_size)),
    ) {
        content.insert("compression".to_owned(), json!(saved));
    }
    content.insert("mimeType".to_owned(), json!(kind.unwrap_or("x-unknown")));
    if !page.is_empty() {
        let text = if let Ok(text) = std::str::from_utf8(page) {
            json!(text)
        } else {
            content.insert("encoding".to_owned(), json!("base64"));
            json!(BASE64_STANDARD.encode(page))
        };
        content.insert("text".to_owned(), text);
    }
    let mut comments = Vec::new();
    if parts.page_cut {
        comments.push(format!("the first {} bytes", page.len()));
    }
    if let Some(Err(why)) = &parts.packed {
        comments.push(format!("still packed: {why}"));
    }
    if !comments.is_empty() {
        content.insert("comment".to_owned(), json!(comments.join("; ")));
    }
    Value::Object(content)
}

/// First line and headers of a block, in their order and case. A line that goes on with a blank belongs to the one
/// before it; one without a colon is a name alone.
pub fn head(block: &[u8]) -> (String, Vec<(String, String)>) {
    let mut lines = block
        .split(|b| *b == b'\n')
        .map(|line| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)));
    let first = lines.next().unwrap_or_default().into_owned();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match headers.last_mut() {
            Some((_, value)) if line.starts_with([' ', '\t']) => {
                value.push(' ');
                value.push_str(line.trim());
            }
            _ => {
                // The names of HTTP/2 that are none begin with one.
                let colon = line.char_indices().skip(1).find(|(_, c)| *c == ':');
                let (name, value) = match colon {
                    Some((at, _)) => (&line[..at], &line[at + 1..]),
                    None => (&*line, ""),
                };
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
    }
    (first, headers)
}

fn listed(headers: &[(String, String)]) -> Vec<Value> {
    headers
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// A cookie that a server sets. Its end is not read as a date: the format wants one of its own, and the header is there.
fn cookie(text: &str) -> Option<Value> {
    let mut parts = text.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let mut cookie = json!({"name": name, "value": value});
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match &*key.to_ascii_lowercase() {
            "path" => cookie["path"] = json!(value),
            "domain" => cookie["domain"] = json!(value),
            "httponly" => cookie["httpOnly"] = json!(true),
            "secure" => cookie["secure"] = json!(true),
            _ => {}
        }
    }
    Some(cookie)
}

/// The size of a head with its empty line; below zero where there is none.
fn size_of(head: &[u8]) -> i64 {
    match head.len() {
        0 => -1,
        length => i64::try_from(length).unwrap_or(i64::MAX),
    }
}
