//! Names, passwords and tokens. Whatever runs on this host can read a command line, and Icinga keeps it with every
//! result: so that each of them can come from a file or from the environment instead. None of them is ever printed.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::args::Args;

/// The most that is read of a file; header values are shorter.
const LIMIT: u64 = 64 * 1024;

/// `USER:PASSWORD` for the server.
const AUTHORIZATION_VARIABLE: &str = "CHECK_HTTP_RETRY_AUTHORIZATION";
/// `USER:PASSWORD` for the proxy.
const PROXY_VARIABLE: &str = "CHECK_HTTP_RETRY_PROXY_AUTHORIZATION";
/// A token.
const BEARER_VARIABLE: &str = "CHECK_HTTP_RETRY_BEARER_TOKEN";
/// `NAME: VALUE` lines.
const HEADERS_VARIABLE: &str = "CHECK_HTTP_RETRY_HEADERS";

/// Where secrets are, beside `-a`, `-b` and `-k`.
#[derive(Debug, Clone, clap::Args)]
pub struct SecretArgs {
    /// A file with the USER:PASSWORD of -a; CHECK_HTTP_RETRY_AUTHORIZATION in the environment may hold it as well
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Request",
        conflicts_with = "authorization"
    )]
    pub authorization_file: Option<PathBuf>,

    /// A file with that of -b; or CHECK_HTTP_RETRY_PROXY_AUTHORIZATION in the environment
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Request",
        conflicts_with = "proxy_authorization"
    )]
    pub proxy_authorization_file: Option<PathBuf>,

    /// A file with a token, sent as 'Authorization: Bearer TOKEN'; or CHECK_HTTP_RETRY_BEARER_TOKEN in the environment
    #[arg(long, value_name = "FILE", help_heading = "Request", conflicts_with_all = ["authorization", "authorization_file"])]
    pub bearer_token_file: Option<PathBuf>,

    /// A header whose value is in a file (repeat); CHECK_HTTP_RETRY_HEADERS in the environment may hold NAME: VALUE lines
    #[arg(long, value_name = "NAME=FILE", help_heading = "Request")]
    pub header_file: Vec<String>,
}

/// The headers that files and the environment give, and what `-a` and its kin make.
pub fn headers(args: &Args) -> anyhow::Result<Vec<(HeaderName, HeaderValue)>> {
    let mut headers = Vec::new();
    for text in args.secrets.header_file.iter().filter(|t| !t.is_empty()) {
        let origin = format!("--header-file {text}");
        let (name, file) = text
            .split_once('=')
            .and_then(|(name, file)| Some((name.trim().parse().ok()?, file)))
            .with_context(|| format!("{origin}: give NAME=FILE"))?;
        headers.push((name, value(&origin, &read(&origin, Path::new(file))?)?));
    }
    for line in variable(HEADERS_VARIABLE)?.unwrap_or_default().lines() {
        if !line.trim().is_empty() {
            let (name, text) = line
                .split_once(':')
                .and_then(|(name, text)| Some((name.trim().parse().ok()?, text.trim())))
                .with_context(|| {
                    format!("{HEADERS_VARIABLE}: each of its lines must be NAME: VALUE")
                })?;
            headers.push((name, value(HEADERS_VARIABLE, text)?));
        }
    }
    if let Some(authorization) = authorization(args)? {
        headers.push((AUTHORIZATION, authorization));
    }
    Ok(headers)
}

/// The value of `Authorization`. What the command line names goes before the environment.
fn authorization(args: &Args) -> anyhow::Result<Option<HeaderValue>> {
    if let Some(pair) = &args.authorization {
        return basic("-a", pair).map(Some);
    }
    if let Some(path) = &args.secrets.authorization_file {
        let origin = "--authorization-file";
        return basic(origin, &read(origin, path)?).map(Some);
    }
    if let Some(path) = &args.secrets.bearer_token_file {
        let origin = "--bearer-token-file";
        return bearer(origin, &read(origin, path)?).map(Some);
    }
    match (
        variable(AUTHORIZATION_VARIABLE)?,
        variable(BEARER_VARIABLE)?,
    ) {
        (Some(_), Some(_)) => bail!(
            "{AUTHORIZATION_VARIABLE} and {BEARER_VARIABLE} are both in the environment: give one of them"
        ),
        (Some(pair), None) => basic(AUTHORIZATION_VARIABLE, &pair).map(Some),
        (None, Some(token)) => bearer(BEARER_VARIABLE, &token).map(Some),
        (None, None) => Ok(None),
    }
}

/// `USER:PASSWORD` for the proxy.
pub fn proxy_pair(args: &Args) -> anyhow::Result<Option<String>> {
    if let Some(pair) = &args.proxy_authorization {
        return Ok(Some(pair.clone()));
    }
    match &args.secrets.proxy_authorization_file {
        Some(path) => read("--proxy-authorization-file", path).map(Some),
        None => variable(PROXY_VARIABLE),
    }
}

/// Basic authentication, by RFC 7617.
pub fn basic(origin: &str, pair: &str) -> anyhow::Result<HeaderValue> {
    value(origin, &format!("Basic {}", base64(pair.as_bytes())))
}

fn bearer(origin: &str, token: &str) -> anyhow::Result<HeaderValue> {
    value(origin, &format!("Bearer {token}"))
}

fn value(origin: &str, text: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_bytes(text.as_bytes())
        .ok()
        .with_context(|| format!("{origin}: what is there cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A file without the white space around what it holds.
fn read(origin: &str, path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let place = || format!("{origin}: cannot read {}", path.display());
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_string(&mut text))
        .with_context(place)?;
    ensure!(
        text.len() as u64 <= LIMIT,
        "{origin}: {} is longer than any header may be",
        path.display()
    );
    let text = text.trim();
    ensure!(!text.is_empty(), "{origin}: {} is empty", path.display());
    Ok(text.to_owned())
}

/// A variable of the environment. Icinga sets one to nothing where a macro is not defined: that is none.
fn variable(name: &str) -> anyhow::Result<Option<String>> {
    std::env::var_os(name)
        .filter(|text| !text.is_empty())
        .map(OsString::into_string)
        .transpose()
        .ok()
        .with_context(|| format!("{name}: what is there is no UTF-8"))
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .chain([0; 2].iter())
            .take(3)
            .fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        for at in 0..4 {
            if at <= group.len() {
                out.push(char::from(DIGITS[number >> (18 - 6 * at) & 63]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("user:pass", "dXNlcjpwYXNz"),
        ] {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn an_error_does_not_tell_the_secret() {
        let error = format!("{:#}", bearer("--bearer-token-file", "hush\n").unwrap_err());
        assert_eq!(
            error,
            "--bearer-token-file: what is there cannot stand in a header"
        );
    }
}
