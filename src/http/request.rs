//! The request that every probe sends.

use anyhow::Context;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Uri, Version};

use super::args::Args;
use super::secrets;
use super::target::Target;

/// The name under which it introduces itself, in the form that `check_http` uses.
pub const AGENT: &str = concat!(
    "check_http_retry/v",
    env!("CARGO_PKG_VERSION"),
    " (proxy-checks)"
);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// All of a request but where it goes.
#[derive(Debug)]
pub struct Template {
    method: Method,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What `-P` gives, which may be nothing.
    body: Option<Bytes>,
    /// What it says of the connection.
    connection: &'static str,
}

impl Template {
    /// The request for one exchange. Without a host name it is one of HTTP/1.0, as with `check_http`.
    pub fn build(&self, target: &Target, id: Option<&str>) -> anyhow::Result<Request<Full<Bytes>>> {
        let uri: Uri = escaped(&target.path)
            .parse()
            .with_context(|| format!("'{}' cannot be asked for", target.path))?;
        let mut request = Request::new(Full::new(self.body.clone().unwrap_or_default()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        self.defaults(target, headers)?;
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(id) = id {
            headers.insert(REQUEST_ID, id.try_into()?);
        }
        if target.host.is_none() {
            *request.version_mut() = Version::HTTP_10;
        }
        Ok(request)
    }

    /// The headers that are sent unless `-k` names them.
    fn defaults(&self, target: &Target, headers: &mut HeaderMap) -> anyhow::Result<()> {
        let mut default = |name: HeaderName, value: HeaderValue| {
            if !self.has(&name) {
                headers.insert(name, value);
            }
        };
        default(USER_AGENT, HeaderValue::from_static(AGENT));
        default(CONNECTION, HeaderValue::from_static(self.connection));
        if let Some(host) = target.host_header() {
            let value = host
                .parse()
                .with_context(|| format!("'{host}' cannot stand in a Host header"))?;
            default(HOST, value);
        }
        if let Some(body) = &self.body {
            default(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            // Of what is there, hyper tells the length; servers answer 411 where it is missing.
            if body.is_empty() {
                default(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        Ok(())
    }

    /// Whether the user gave a request id of his own.
    pub fn has_request_id(&self) -> bool {
        self.has(&REQUEST_ID)
    }

    /// The values of its headers that are secrets by where they come from.
    pub fn secrets(&self) -> impl Iterator<Item = &HeaderValue> {
        let values = self.headers.iter().map(|(_, value)| value);
        values.filter(|value| value.is_sensitive())
    }

    /// Whether it is a POST.
    pub fn posts(&self) -> bool {
        self.method == Method::POST
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.headers.iter().any(|(other, _)| other == name)
    }
}

impl TryFrom<&Args> for Template {
    type Error = anyhow::Error;

    fn try_from(args: &Args) -> anyhow::Result<Self> {
        let mut headers = Vec::new();
        let mut add = |option: &str, name: HeaderName, value: &str| {
            HeaderValue::from_bytes(value.as_bytes())
                .map(|value| headers.push((name, value)))
                .with_context(|| format!("{option}: '{value}' cannot stand in a header"))
        };
        if let Some(agent) = &args.useragent {
            add("-A", USER_AGENT, agent)?;
        }
        // Icinga passes a macro that is empty as an empty argument.
        for header in args.header.iter().filter(|header| !header.is_empty()) {
            let (name, value) = header
                .split_once(':')
                .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim())))
                .with_context(|| format!("-k {header}: a header is NAME: VALUE"))?;
            add("-k", name, value)?;
        }
        if let Some(content_type) = &args.content_type {
            add("-T", CONTENT_TYPE, content_type)?;
        }
        headers.extend(secrets::headers(args)?);
        let method = match (&args.method, &args.post) {
            (Some(text), _) => Method::from_bytes(method_for_server(text).as_bytes())
                .ok()
                .with_context(|| format!("-j {text}: this is no method"))?,
            (None, Some(_)) => Method::POST,
            (None, None) => Method::GET,
        };
        Ok(Self {
            method,
            headers,
            body: args.post.clone().map(Bytes::from),
            connection: if args.pace.keepalive {
                "keep-alive"
            } else {
                "close"
            },
        })
    }
}

/// Of `METHOD[:PROXY_METHOD]` the method for the server: behind CONNECT, which is for the proxy, the second one.
fn method_for_server(text: &str) -> &str {
    match text.split_once(':').unwrap_or((text, "")) {
        ("CONNECT", "") => "GET",
        ("CONNECT", method) | (method, _) => method,
    }
}

/// Takes out what only the server that it was given for may know: a redirect leads wherever a server likes.
pub fn drop_secrets(request: &mut Request<Full<Bytes>>) {
    let headers = request.headers_mut();
    let secret = |(name, value): (&HeaderName, &HeaderValue)| {
        (value.is_sensitive() || [AUTHORIZATION, COOKIE].contains(name)).then(|| name.clone())
    };
    let names: Vec<_> = headers.iter().filter_map(secret).collect();
    for name in names {
        headers.remove(name);
    }
}

/// Makes a GET of it, as curl does behind a POST that was redirected.
pub fn make_get(request: &mut Request<Full<Bytes>>) {
    *request.method_mut() = Method::GET;
    *request.body_mut() = Full::default();
    for name in [CONTENT_TYPE, CONTENT_LENGTH] {
        request.headers_mut().remove(name);
    }
}

/// Escapes what must not stand in a request line, a blank for one: `check_http` sends it as it is, and servers answer
/// that with 400.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0..=b' ' | 0x7f.. | b'<' | b'>' | b'^' | b'`' | b'\\' => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_sent_as_given_where_it_can_be() {
        for (path, sent) in [
            ("/a/b?c=d&e=%20", "/a/b?c=d&e=%20"),
            ("/a b", "/a%20b"),
            ("/ö", "/%C3%B6"),
            ("/a\r\nX: y", "/a%0D%0AX:%20y"),
            ("/{a}|\"", "/{a}|\""),
        ] {
            assert_eq!(escaped(path), sent);
            escaped(path).parse::<Uri>().expect(path);
        }
    }
}
