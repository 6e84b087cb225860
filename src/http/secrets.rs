//! Names, passwords and tokens. Whatever runs on this host can read a command line, and Icinga keeps it with every
//! result: so that each of them can come from a file or from the environment instead. None of them is ever printed.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::args::Args;
use crate::plugin::secret;

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
        headers.push((
            name,
            value(&origin, &secret::from_file(&origin, Path::new(file))?)?,
        ));
    }
    for line in secret::from_environment(HEADERS_VARIABLE)?
        .unwrap_or_default()
        .lines()
    {
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
        return basic(origin, &secret::from_file(origin, path)?).map(Some);
    }
    if let Some(path) = &args.secrets.bearer_token_file {
        let origin = "--bearer-token-file";
        return bearer(origin, &secret::from_file(origin, path)?).map(Some);
    }
    match (
        secret::from_environment(AUTHORIZATION_VARIABLE)?,
        secret::from_environment(BEARER_VARIABLE)?,
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
        Some(path) => secret::from_file("--proxy-authorization-file", path).map(Some),
        None => secret::from_environment(PROXY_VARIABLE),
    }
}

/// Basic authentication, by RFC 7617.
pub fn basic(origin: &str, pair: &str) -> anyhow::Result<HeaderValue> {
    value(origin, &format!("Basic {}", BASE64_STANDARD.encode(pair)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_does_not_tell_the_secret() {
        let error = format!("{:#}", bearer("--bearer-token-file", "hush\n").unwrap_err());
        assert_eq!(
            error,
            "--bearer-token-file: what is there cannot stand in a header"
        );
    }
}
