//! Cookies that outlive a run: a file of Netscape's form, as libcurl and wget read and write it.
//!
//! What stands in it opens sessions: it is never printed, is written whole with nobody else able to
//! read it, and a link is not followed.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use clap::builder::{OsStringValueParser, TypedValueParser};
use hyper::header::{COOKIE, HOST, HeaderValue};
use hyper::{HeaderMap, Request};
use jiff::Timestamp;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::cookies::{Cookie, Jar, Site};
use super::reply::Reply;
use super::target::{Target, host_and_port};

/// The largest file that is read.
const LIMIT: u64 = 8 << 20;

/// What such a file begins with.
const FIRST_LINE: &str = "# Netscape HTTP Cookie File\n";

/// Stands before the domain of a cookie that scripts must not see.
const HTTP_ONLY: &str = "#HttpOnly_";

/// Its option.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Request")]
pub struct CookieArgs {
    /// Send the cookies of this file, take what servers set, and store them in it at the end; '': in each probe alone
    #[arg(long, value_name = "FILE", allow_hyphen_values = true, value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub cookie_jar: Option<PathBuf>,
}

/// The cookies of a run.
#[derive(Debug)]
pub struct Cookies {
    /// Where they come from and go to; without it, each probe begins with none.
    file: Option<PathBuf>,
    jar: SharedJar,
}

/// Those of one probe, which it may share with all others.
#[derive(Debug, Clone, Default)]
pub struct SharedJar(Arc<Mutex<Jar>>);

impl Cookies {
    /// Reads what the option names; `None` where it is not given.
    pub fn load(args: &CookieArgs) -> anyhow::Result<Option<Self>> {
        let Some(path) = &args.cookie_jar else {
            return Ok(None);
        };
        let file = Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        let jar = match &file {
            Some(path) => read(path).with_context(|| format!("--cookie-jar {}", path.display()))?,
            None => Jar::default(),
        };
        Ok(Some(Self {
            file,
            jar: SharedJar(Arc::new(Mutex::new(jar))),
        }))
    }

    /// What a probe begins with: in a run with a file what the others have left, as if each of them were a run.
    pub fn begin(&self) -> SharedJar {
        match &self.file {
            Some(_) => self.jar.clone(),
            None => SharedJar::default(),
        }
    }

    /// Stores them where that is asked for and servers have changed them.
    pub fn store(&self) -> anyhow::Result<()> {
        let jar = self.jar.lock();
        match &self.file {
            Some(path) if jar.is_changed() => write(path, jar.cookies())
                .with_context(|| format!("--cookie-jar: cannot write {}", path.display())),
            _ => Ok(()),
        }
    }
}

impl SharedJar {
    /// Gives a request the cookies that are for its server. Returns how cookies call that.
    pub fn add_to<B>(&self, request: &mut Request<B>, target: &Target) -> String {
        let server = host(request.headers(), target);
        let line = self.lock().line(site(&server, target), now());
        let Some(mut line) = line else { return server };
        let headers = request.headers_mut();
        // There is one such header in a request, and not two.
        if let Some(own) = headers.get(COOKIE).and_then(|own| own.to_str().ok()) {
            line += "; ";
            line += own;
        }
        if let Ok(mut value) = HeaderValue::try_from(line) {
            value.set_sensitive(true);
            headers.insert(COOKIE, value);
        }
        server
    }

    /// Takes what a server of that name sets in its reply.
    pub fn take(&self, reply: &Reply, server: &str, target: &Target) {
        if reply.head.starts_with(b"HTTP/") {
            self.lock()
                .take(reply.all("set-cookie"), site(server, target), now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jar> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the server that a request is for: its Host, as a cookie means it.
fn host(headers: &HeaderMap, target: &Target) -> String {
    headers
        .get(HOST)
        .and_then(|value| Some(host_and_port(value.to_str().ok()?)?.0))
        .unwrap_or_else(|| target.server_name().to_owned())
}

fn site<'a>(host: &'a str, target: &'a Target) -> Site<'a> {
    // The form for proxies that the path may have: a whole URL.
    let path = match target.within_url() {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => &target.path,
    };
    Site {
        host,
        path: path.split(['?', '#']).next().unwrap_or_default(),
        https: target.https,
    }
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

#[cold]
fn read(path: &Path) -> anyhow::Result<Jar> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK))
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Jar::default()),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            bail!("this is a link: name the file that it points to")
        }
        Err(error) => return Err(error).context("cannot read it"),
    };
    ensure!(file.metadata()?.is_file(), "this is no regular file");
    let mut text = String::new();
    file.take(LIMIT + 1)
        .read_to_string(&mut text)
        .context("cannot read it")?;
    ensure!(text.len() as u64 <= LIMIT, "it is larger than 8 MiB");
    parse(&text)
}

/// A file that holds anything else is not one to write over.
pub(super) fn parse(text: &str) -> anyhow::Result<Jar> {
    let mut cookies = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let comment = line.starts_with('#') && !line.starts_with(HTTP_ONLY);
        if !comment && !line.trim().is_empty() {
            let cookie = parse_line(line)
                .with_context(|| format!("line {} is none of a Netscape cookie file", at + 1))?;
            cookies.push(cookie);
        }
    }
    Ok(Jar::of(cookies))
}

fn parse_line(line: &str) -> Option<Cookie> {
    let (line, http_only) = match line.strip_prefix(HTTP_ONLY) {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let fields: Vec<_> = line.split('\t').collect();
    // Some leave the last one out where it is empty.
    let (fields, value) = match fields.split_last() {
        Some((value, fields)) if fields.len() == 6 => (fields, *value),
        _ => (&*fields, ""),
    };
    let [domain, subdomains, path, secure, expires, name] = *fields else {
        return None;
    };
    let expires: i64 = expires.parse().ok()?;
    let cookie = Cookie {
        domain: domain.trim_start_matches('.').to_ascii_lowercase(),
        subdomains: truth(subdomains)?,
        // libcurl writes down what it was told, and takes what is no path for the root.
        path: Some(path)
            .filter(|path| path.starts_with('/'))
            .unwrap_or("/")
            .to_owned(),
        secure: truth(secure)?,
        http_only,
        expires: (expires != 0).then_some(expires),
        name: name.to_owned(),
        value: value.to_owned(),
    };
    cookie.is_sound().then_some(cookie)
}

fn truth(word: &str) -> Option<bool> {
    match word {
        "TRUE" => Some(true),
        "FALSE" => Some(false),
        _ => None,
    }
}

pub(super) fn told(cookies: &[Cookie]) -> String {
    let mut text = format!(
        "{FIRST_LINE}# Written by check_http_retry; whoever reads it has these sessions\n\n"
    );
    let word = |truth| if truth { "TRUE" } else { "FALSE" };
    for cookie in cookies {
        let _ = writeln!(
            text,
            "{}{}{}\t{}\t{}\t{}\t{}\t{}\t{}",
            if cookie.http_only { HTTP_ONLY } else { "" },
            if cookie.subdomains { "." } else { "" },
            cookie.domain,
            word(cookie.subdomains),
            cookie.path,
            word(cookie.secure),
            cookie.expires.unwrap_or(0),
            cookie.name,
            cookie.value,
        );
    }
    text
}

/// Puts a new file in the place of the old one, or of a link, which is not followed.
fn write(path: &Path, cookies: &[Cookie]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let whole = || -> io::Result<()> {
        let mut file = create(&temporary)?;
        file.write_all(told(cookies).as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    whole().inspect_err(|_| drop(std::fs::remove_file(&temporary)))
}

fn create(path: &Path) -> io::Result<File> {
    let new = || {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(flags(OFlags::NOFOLLOW))
            .open(path)
    };
    match new() {
        // Left behind by a run of this number that was killed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            new()
        }
        other => other,
    }
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from((flags | OFlags::CLOEXEC).bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_libcurl_has_written_it_and_the_other_way_round() {
        let text = "# Netscape HTTP Cookie File\n# https://curl.se/docs/http-cookies.html\n\n\
            www.test\tFALSE\t/\tFALSE\t0\tf\t\"q v\"\n\
            .www.test\tTRUE\t/\tFALSE\t0\td\t4\n\
            #HttpOnly_www.test\tFALSE\t/sub\tTRUE\t4000000000\tb\t2\n\
            www.test\tFALSE\t/\tFALSE\t0\tempty\n";
        let jar = parse(text).unwrap();
        let [f, d, b, empty] = jar.cookies() else {
            panic!("{jar:?}")
        };
        assert_eq!((&*f.value, f.subdomains), ("\"q v\"", false));
        assert_eq!((&*d.domain, d.subdomains), ("www.test", true));
        assert_eq!(
            (b.http_only, b.secure, b.expires, &*b.path),
            (true, true, Some(4_000_000_000), "/sub")
        );
        assert_eq!(&*empty.value, "");
        let again = parse(&told(jar.cookies())).unwrap();
        assert_eq!(again.cookies(), jar.cookies());
    }

    #[test]
    fn a_file_that_holds_something_else_is_not_taken_for_one() {
        for (text, line) in [
            ("root:x:0:0:root:/root:/bin/bash\n", 1),
            ("\nwww.test FALSE / FALSE 0 a 1\n", 2),
            ("www.test\tFALSE\t/\tFALSE\tsoon\ta\t1\n", 1),
            ("www.test\tmaybe\t/\tFALSE\t0\ta\t1\n", 1),
            ("www.test\tFALSE\t/\tFALSE\t0\ta\t1\t2\n", 1),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line {line} is none")),
                "{error}"
            );
        }
    }
}
