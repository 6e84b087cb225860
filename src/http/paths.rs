//! The ways to one server: which there are, and that redirects stay on them.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail, ensure};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::plan::Plan;
use super::proxy::Proxy;
use super::resolve::{self, fits};
use super::target::{Target, bracketed, host_and_port, literal};
use crate::plugin::Run;

/// The most paths of one run.
const MOST: usize = 64;

/// The longest name of a path.
const NAME_LIMIT: usize = 60;

/// Their options.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Paths")]
pub struct PathArgs {
    /// Send the request by this way, too (repeat): to an address, with a port of its own or not; NAME alone is the usual way
    #[arg(long, value_name = "NAME=ADDRESS[:PORT]")]
    pub via: Vec<String>,

    /// Send the request to every address of the server's name in turn, looked up anew for each run
    #[arg(long, conflicts_with = "via")]
    pub all_addresses: bool,
}

/// What the paths of a run are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// The usual way alone.
    One,
    /// Those that `--via` names.
    Named,
    /// All addresses of a name: [`look_up`] finds them.
    Addresses,
}

/// A named way to the server.
#[derive(Debug, Clone)]
pub struct Path {
    /// Its name, as in the report.
    pub name: String,
    /// Where it leads, as in the report: an address or a name, with the port where it has one of its own.
    pub address: String,
    /// Where the first request goes.
    pub target: Target,
    /// Whether redirects to the same server stay at this address.
    pinned: bool,
}

impl Path {
    /// The usual way.
    pub fn usual(name: &str, target: &Target) -> Self {
        Self {
            name: name.to_owned(),
            address: target.address.clone(),
            target: target.clone(),
            pinned: false,
        }
    }

    /// To an address in the place of the usual one.
    fn to(name: String, address: &str, port: Option<u16>, usual: &Target) -> Self {
        let target = Target {
            address: address.to_owned(),
            port: port.unwrap_or(usual.port),
            name: Some(usual.address.clone()),
            ..usual.clone()
        };
        Self {
            name,
            address: match port {
                Some(port) => format!("{}:{port}", bracketed(address)),
                None => address.to_owned(),
            },
            target,
            pinned: true,
        }
    }

    /// Whether it has an address of its own, which redirects to the same server do not leave.
    pub fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Keeps a redirect on this path where it leads to the same server: at the path's address, and at its port where the
    /// server's is the same as before.
    pub fn keep(&self, next: Target) -> Target {
        let server = self.target.server_name();
        let same = next
            .host
            .as_ref()
            .is_some_and(|host| host.eq_ignore_ascii_case(server));
        if !self.pinned || !same {
            return next;
        }
        Target {
            address: self.target.address.clone(),
            name: self.target.name.clone(),
            port: if next.host_port == self.target.host_port {
                self.target.port
            } else {
                next.host_port
            },
            ..next
        }
    }
}

impl PathArgs {
    /// The paths to a server, as far as they are known without asking for addresses.
    pub fn paths(
        &self,
        usual: &Target,
        proxy: Option<&Proxy>,
        fitting: impl Fn(&IpAddr) -> bool,
    ) -> anyhow::Result<(Ways, Vec<Path>)> {
        // Icinga passes a macro that is empty as an empty argument.
        let via: Vec<_> = self.via.iter().filter(|text| !text.is_empty()).collect();
        let option = if via.is_empty() {
            "--all-addresses"
        } else {
            "--via"
        };
        ensure!(
            !usual.is_file() || (via.is_empty() && !self.all_addresses),
            "{option}: -I {} is a socket in the file system, there is one way to it",
            usual.address
        );
        if self.all_addresses {
            of_addresses(usual, proxy)?;
            return Ok((Ways::Addresses, vec![Path::usual(&usual.address, usual)]));
        }
        if via.is_empty() {
            return Ok((Ways::One, vec![Path::usual(&usual.address, usual)]));
        }
        ensure!(
            via.len() <= MOST,
            "--via: {} paths are more than the {MOST} that can be compared",
            via.len()
        );
        let mut paths: Vec<Path> = Vec::new();
        for text in via {
            let path = named(text, usual, &fitting)?;
            ensure!(
                paths.iter().all(|other| other.name != path.name),
                "--via {text}: there is a path of this name already"
            );
            paths.push(path);
        }
        Ok((Ways::Named, paths))
    }
}

/// Reads a `--via`.
fn named(text: &str, usual: &Target, fitting: impl Fn(&IpAddr) -> bool) -> anyhow::Result<Path> {
    let (name, place) = match text.split_once('=') {
        Some((name, place)) => (name.trim(), Some(place.trim())),
        None => (text.trim(), None),
    };
    ensure!(
        !name.is_empty() && name.chars().count() <= NAME_LIMIT,
        "--via {text}: a path has a name of 1 to {NAME_LIMIT} characters, as in proxy1=192.0.2.9"
    );
    let Some(place) = place else {
        return Ok(Path::usual(name, usual));
    };
    ensure!(
        !place.starts_with('/'),
        "--via {text}: a socket in the file system cannot be a path, give an address"
    );
    let (address, port) = host_and_port(place)
        .filter(|(address, _)| !address.contains(':') || literal(address).is_some())
        .with_context(|| format!("--via {text}: '{place}' is no ADDRESS, nor ADDRESS:PORT"))?;
    ensure!(port != Some(0), "--via {text}: there is no port 0");
    if let Some(literal) = literal(&address) {
        ensure!(
            fitting(&literal),
            "--via {text}: -4, -6 or --local-address do not allow this kind of address"
        );
    }
    Ok(Path::to(name.to_owned(), &address, port, usual))
}

/// Whether there are addresses to find.
fn of_addresses(usual: &Target, proxy: Option<&Proxy>) -> anyhow::Result<()> {
    let address = &usual.address;
    if literal(address).is_some() {
        bail!(
            "--all-addresses: {address} is one address: give the server's name with -H, and no -I"
        );
    }
    let asked = proxy.filter(|proxy| proxy.serves(usual) && !proxy.wants_address());
    if let Some(proxy) = asked {
        bail!(
            "--all-addresses: {} looks up {address} by itself: name the addresses with --via",
            proxy.name()
        );
    }
    Ok(())
}

/// Puts all addresses that the server's name has now in the place of the usual way. A name without any, or that nobody
/// tells in time, stays as it is: then the probes say so.
pub async fn look_up(plan: &mut Plan, run: &Run, signal: &UnixStream) {
    let usual = plan.paths[0].target.clone();
    let limit = plan.timeout.unwrap_or(run.remaining()).min(run.remaining());
    let family = resolve::wanted(plan.family, &plan.source);
    let found = tokio::select! {
        _ = signal.readable() => return,
        found = timeout(limit, resolve::look_up(&usual.address, usual.port, family)) => found,
    };
    let Ok(Ok(found)) = found else { return };
    plan.set_addresses(found);
}

impl Plan {
    /// Makes a path of each of these addresses that fits.
    fn set_addresses(&mut self, mut found: Vec<SocketAddr>) {
        found.retain(|address| fits(self.family, &self.source, &address.ip()));
        // The order of the answer changes from one to the next.
        found.sort_unstable();
        found.dedup();
        self.left_out = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        if found.is_empty() {
            return;
        }
        let usual = self.paths[0].target.clone();
        let path = |address: SocketAddr| {
            let text = resolve::with_zone(address);
            Path::to(text.clone(), &text, None, &usual)
        };
        self.paths = found.into_iter().map(path).collect();
    }

    /// How many probes there are at most, over all paths.
    pub fn probes(&self) -> Option<u64> {
        let paths = self.paths.len() as u64;
        Some(self.pace.attempts?.saturating_mul(paths))
    }
}

#[cfg(test)]
mod tests {
    use super::super::args::{Args, OnRedirect};
    use super::*;
    use crate::plugin::options;

    fn plan(line: &str) -> Plan {
        let words = ["check_http_retry"].into_iter().chain(line.split(' '));
        let args: Args = options::parse("HTTP", words.map(Into::into)).unwrap();
        Plan::try_from(&args).unwrap()
    }

    #[test]
    fn a_path_has_its_address_and_port_and_the_servers_name() {
        for (line, address, port, host, server, shown) in [
            (
                "-H a.test --via p=192.0.2.9",
                "192.0.2.9",
                80,
                Some("a.test"),
                "a.test",
                "192.0.2.9",
            ),
            (
                "-H a.test -S --via p=[::1]:8443",
                "::1",
                8443,
                Some("a.test"),
                "a.test",
                "[::1]:8443",
            ),
            (
                "-H a.test --via p=[fe80::1%eth0]:81",
                "fe80::1%eth0",
                81,
                Some("a.test"),
                "a.test",
                "[fe80::1%eth0]:81",
            ),
            (
                "-I a.test -p 81 --via p=::1",
                "::1",
                81,
                None,
                "a.test",
                "::1",
            ),
            (
                "-H a.test:8080 --via p=b.test:81",
                "b.test",
                81,
                Some("a.test:8080"),
                "a.test",
                "b.test:81",
            ),
            (
                "-H a.test -I 192.0.2.1 --via p",
                "192.0.2.1",
                80,
                Some("a.test"),
                "a.test",
                "192.0.2.1",
            ),
        ] {
            let plan = plan(line);
            let [path] = &plan.paths[..] else {
                panic!("{line}");
            };
            let target = &path.target;
            assert_eq!((&*path.name, &*path.address), ("p", shown), "{line}");
            assert_eq!((&*target.address, target.port), (address, port), "{line}");
            assert_eq!(target.host_header().as_deref(), host, "{line}");
            assert_eq!(target.server_name(), server, "{line}");
        }
    }

    #[test]
    fn redirects_to_the_server_stay_on_the_path_and_others_leave_it() {
        let plan = plan("-H a.test --via p=192.0.2.9:8080 --via usual");
        let go = |at: usize, location| {
            let path: &Path = &plan.paths[at];
            let led = path
                .target
                .redirected(location, OnRedirect::Follow, path.pinned);
            let next = path.keep(led.unwrap().next);
            format!("{}:{} {}", next.address, next.port, next.url())
        };
        for (location, there) in [
            ("/x", "192.0.2.9:8080 http://a.test:8080/x"),
            ("http://a.test/x", "192.0.2.9:8080 http://a.test:8080/x"),
            ("http://A.TEST:81/x", "192.0.2.9:81 http://A.TEST:81/x"),
            ("https://a.test/x", "192.0.2.9:443 https://a.test:443/x"),
            ("http://b.test/x", "b.test:80 http://b.test:80/x"),
        ] {
            assert_eq!(go(0, location), there, "{location}");
        }
        let usual = go(1, "https://a.test/x");
        assert_eq!(usual, "a.test:443 https://a.test:443/x");
    }

    #[test]
    fn addresses_are_sorted_and_neither_doubled_nor_without_end() {
        let ip = |n: u8| SocketAddr::from(([192, 0, 2, n], 80));
        let six = |text: &str| format!("[{text}]:80").parse().unwrap();
        let mut few = plan("-H a.test --all-addresses");
        few.set_addresses(vec![ip(9), six("fe80::1%7"), six("::1"), ip(3), ip(9)]);
        let names: Vec<_> = few.paths.iter().map(|path| &*path.name).collect();
        assert_eq!(names, ["192.0.2.3", "192.0.2.9", "::1", "fe80::1%7"]);
        assert_eq!(few.paths[2].target.server_name(), "a.test");
        assert_eq!((few.probes(), few.left_out), (Some(40), 0));

        let mut many = plan("-H a.test --all-addresses");
        many.set_addresses((0..100).map(ip).collect());
        assert_eq!((many.paths.len(), many.left_out), (64, 36));

        let mut other = plan("-H a.test --all-addresses -6");
        other.set_addresses(vec![ip(1)]);
        assert_eq!((&*other.paths[0].name, other.paths.len()), ("a.test", 1));
    }
}
