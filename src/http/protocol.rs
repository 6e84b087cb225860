//! How HTTP is spoken: the version, and whether pages may come packed.

use hyper::header::{ACCEPT_ENCODING, HOST, HeaderValue};
use hyper::{Request, Version};

use super::target::Target;

/// Its options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Request")]
pub struct ProtocolArgs {
    /// The version of HTTP to speak; 2 over https alone, and where the server has it [default: 1.1, without -H 1.0]
    #[arg(long, value_name = "1.0|1.1|2", value_parser = parse_version)]
    pub http_version: Option<Version>,

    /// Ask for a page that is packed (gzip, deflate, br, zstd), and look at what is in it
    #[arg(long)]
    pub enable_automatic_decompression: bool,
}

impl ProtocolArgs {
    /// Whether HTTP/2 is offered to the server.
    pub fn offers_http2(&self) -> bool {
        self.http_version == Some(Version::HTTP_2)
    }

    /// Puts a request into the form that they ask for. HTTP/1.1 knows none without a Host.
    pub fn shape<B>(&self, request: &mut Request<B>, target: &Target) {
        let headers = request.headers_mut();
        if self.http_version.is_some() && !headers.contains_key(HOST) {
            let named = Target {
                host: Some(target.server_name().to_owned()),
                ..target.clone()
            };
            // What cannot stand there (a path of a socket can) is left out.
            let host = named.host_header().and_then(|host| host.parse().ok());
            headers.extend(host.map(|host: HeaderValue| (HOST, host)));
        }
        if self.enable_automatic_decompression && !headers.contains_key(ACCEPT_ENCODING) {
            headers.insert(
                ACCEPT_ENCODING,
                HeaderValue::from_static("deflate, gzip, br, zstd"),
            );
        }
        match self.http_version {
            // What the handshake agrees on decides whether it becomes one of HTTP/2.
            Some(Version::HTTP_2) => *request.version_mut() = Version::HTTP_11,
            Some(version) => *request.version_mut() = version,
            None => {}
        }
    }
}

fn parse_version(text: &str) -> Result<Version, String> {
    match text {
        "1" | "1.0" => Ok(Version::HTTP_10),
        "1.1" => Ok(Version::HTTP_11),
        "2" | "2.0" => Ok(Version::HTTP_2),
        _ => Err(format!("'{text}': give 1.0, 1.1 or 2")),
    }
}
