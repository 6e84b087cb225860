//! Every claim of the README about speed beside its yardstick, in one run and one table:
//!
//! ```text
//! bench_claims FOLDER     the folder with the release binaries; `benches/claims.sh` builds what is needed
//! ```
//!
//! Processor time of whole processes (or their peak of memory), in rounds in which all take turns; the ratio is that of
//! each round, so that other work on the machine meets both alike. Leaves with 1 when a claim does not hold.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context, ensure};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const CHECK_HTTP: &str = "/usr/lib/nagios/plugins/check_http";

/// The log that is read, in bytes.
const LOG: usize = 128 << 20;

/// A claim: ours costs at most `bar` times the yardstick.
struct Claim {
    words: &'static str,
    of: Of,
    ours: Vec<String>,
    yardstick: Vec<String>,
    bar: f64,
    /// How often each runs in a round: what takes a millisecond is too short for one.
    times: u32,
    rounds: usize,
    namespace: Option<File>,
}

impl Claim {
    /// One about processor time, measured once in each of eleven rounds.
    fn new(words: &'static str, ours: Vec<String>, yardstick: Vec<String>, bar: f64) -> Self {
        Self {
            words,
            of: Of::Processor,
            ours,
            yardstick,
            bar,
            times: 1,
            rounds: 11,
            namespace: None,
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// In milliseconds.
    Processor,
    /// In MB, at its peak.
    Memory,
}

impl Of {
    fn unit(self) -> &'static str {
        match self {
            Self::Processor => "ms",
            Self::Memory => "MB",
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let folder = std::env::args()
        .nth(1)
        .context("give the folder with the binaries")?;
    let work = tempfile::tempdir()?;
    let folder = installed(Path::new(&folder), work.path())?;
    let log = work.path().join("error.log");
    write_log(&log)?;
    let port = serve()?;
    let mut sockets = Held::start()?;

    let mut text = format!(
        "{:<62}{:>10}{:>12}{:>8}{:>16}{:>7}\n",
        "claim", "ours", "yardstick", "ratio", "10th-90th", "bar"
    );
    let mut missed = 0;
    for claim in claims(&folder, &log, port, sockets.namespace.take()) {
        let name = Path::new(&claim.yardstick[0]);
        if !name.is_absolute() || name.exists() {
            missed += usize::from(!measured(&claim, &mut text)?);
        } else {
            let _ = writeln!(
                text,
                "{:<62} not compared: no {}",
                claim.words,
                name.display()
            );
        }
    }
    io::stdout().write_all(text.as_bytes())?;
    if missed > 0 {
        writeln!(io::stdout(), "{missed} claims do not hold")?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The programs as a package manager puts them there, in one go. What a linker wrote lies in the page cache in small pieces,
/// and costs a sixth more to start.
fn installed(built: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let folder = work.join("plugins");
    std::fs::create_dir(&folder)?;
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        std::fs::copy(built.join(name), folder.join(name)).with_context(|| name.to_owned())?;
    }
    Ok(folder)
}

fn claims(folder: &Path, log: &Path, port: u16, namespace: Option<File>) -> Vec<Claim> {
    let program = |name: &str, rest: &str| words(&folder.join(name).display().to_string(), rest);
    let log = log.display();
    let once = format!("-I 127.0.0.1 -p {port}");
    let probe = || program("check_http_retry", &format!("{once} --attempts 1"));
    let start = |words, name| Claim {
        times: 20,
        rounds: 15,
        ..Claim::new(
            words,
            program(name, "--version"),
            self::words(CHECK_HTTP, "--version"),
            1.0,
        )
    };
    vec![
        start(
            "check_http_retry starts faster than check_http",
            "check_http_retry",
        ),
        start(
            "check_port_exhaustion starts faster than check_http",
            "check_port_exhaustion",
        ),
        start(
            "check_nginx_upstream_bind starts faster than check_http",
            "check_nginx_upstream_bind",
        ),
        Claim {
            times: 10,
            rounds: 15,
            ..Claim::new(
                "one probe costs less than a check_http",
                probe(),
                words(CHECK_HTTP, &once),
                1.0,
            )
        },
        Claim {
            of: Of::Memory,
            rounds: 21,
            ..Claim::new(
                "one probe takes no more memory than a check_http",
                probe(),
                words(CHECK_HTTP, &once),
                1.0,
            )
        },
        Claim {
            rounds: 7,
            ..Claim::new(
                "a hundred probes cost less than ten check_http",
                program("check_http_retry", &format!("{once} --attempts 100")),
                shell(format!(
                    "for i in 1 2 3 4 5 6 7 8 9 0; do for j in 1 2 3 4 5 6 7 8 9 0; do {CHECK_HTTP} {once}; done; done"
                )),
                0.1,
            )
        },
        Claim::new(
            "a log is read in less than twice the time of grep -c",
            program(
                "check_nginx_upstream_bind",
                &format!("-f {log} --last 2d --cause refused,bind-in-use --state-file {log}.state"),
            ),
            shell(format!("grep -c 'failed (9' {log} | cat")),
            2.0,
        ),
        Claim {
            rounds: 15,
            namespace,
            ..Claim::new(
                "55 000 sockets take less than a third of what ss -Htan takes",
                program("check_port_exhaustion", ""),
                words("ss", "-Htan"),
                0.33,
            )
        },
    ]
}

/// A command line.
fn words(program: &str, rest: &str) -> Vec<String> {
    let rest = rest.split(' ').filter(|word| !word.is_empty());
    std::iter::once(program)
        .chain(rest)
        .map(str::to_owned)
        .collect()
}

fn shell(line: String) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), line]
}

/// Measures a claim and adds its row. Whether it holds.
fn measured(claim: &Claim, text: &mut String) -> anyhow::Result<bool> {
    let mut ours = Vec::new();
    let mut yardstick = Vec::new();
    let state = PathBuf::from(claim.ours.last().map_or("", String::as_str));
    // The first round finds cold caches.
    for round in 0..=claim.rounds {
        if state.extension().is_some_and(|end| end == "state") {
            // With a state there would be nothing left to read.
            let _ = std::fs::remove_file(&state);
        }
        let cost = |words| match claim.of {
            Of::Processor => processor(words, claim),
            Of::Memory => peak_memory(words),
        };
        let (own, other) = (cost(&claim.ours)?, cost(&claim.yardstick)?);
        if round > 0 {
            ours.push(own);
            yardstick.push(other);
        }
    }
    let mut ratios: Vec<_> = ours.iter().zip(&yardstick).map(|(a, b)| a / b).collect();
    for values in [&mut ours, &mut yardstick, &mut ratios] {
        values.sort_by(f64::total_cmp);
    }
    let at = |values: &[f64], share: usize| values[(values.len() - 1) * share / 100];
    let ratio = at(&ratios, 50);
    let holds = ratio <= claim.bar;
    let unit = claim.of.unit();
    let spread = format!("{:.2}-{:.2}", at(&ratios, 10), at(&ratios, 90));
    let _ = writeln!(
        text,
        "{:<62}{:>7.2} {unit}{:>9.2} {unit}{:>8.2}{spread:>16}{:>7.2}{}",
        claim.words,
        at(&ours, 50),
        at(&yardstick, 50),
        ratio,
        claim.bar,
        if holds { "" } else { "  MISSED" }
    );
    Ok(holds)
}

/// Milliseconds of processor time that one run of a command takes, with all that it starts.
fn processor(words: &[String], claim: &Claim) -> anyhow::Result<f64> {
    let before = children();
    let work = || -> anyhow::Result<()> {
        if let Some(namespace) = &claim.namespace {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        for _ in 0..claim.times {
            let mut child = Command::new(&words[0])
                .args(&words[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {}", words[0]))?;
            let mut output = child.stdout.take().context("its output")?;
            io::copy(&mut output, &mut io::sink())?;
            child.wait()?;
        }
        Ok(())
    };
    // A thread of its own, which may move into the namespace.
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| anyhow::anyhow!("a panic"))??;
    Ok((children() - before) * 1000.0 / f64::from(claim.times))
}

/// Megabytes that a command has at its peak. Through GNU time, which is small: a process inherits the peak of the one that it
/// was started from.
fn peak_memory(words: &[String]) -> anyhow::Result<f64> {
    let output = Command::new("/usr/bin/time")
        .args(["-f", "%M"])
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("cannot start /usr/bin/time")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let kilobytes: f64 = text.trim().parse().with_context(|| text.into_owned())?;
    Ok(kilobytes / 1024.0)
}

/// Seconds of processor time that ended child processes took.
fn children() -> f64 {
    // SAFETY: all zeros are a valid rusage, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// A log of today: mostly files that are not there, some refused upstreams, now and then no client port.
fn write_log(path: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let now = Timestamp::now().to_zoned(TimeZone::system());
    let mut size = 0;
    for number in 0_u64.. {
        if size >= LOG {
            break;
        }
        // Within the last day, in order.
        let second = i64::try_from(number / 8 % 86_000)?;
        let time = now.checked_sub(24.hours())?.checked_add(second.seconds())?;
        let what = match number % 50 {
            0 => {
                "[crit] 7#7: *1 bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream"
            }
            1..=9 => {
                "[error] 7#7: *2 connect() failed (111: Connection refused) while connecting to upstream"
            }
            _ => {
                "[error] 7#7: *3 open() \"/srv/html/assets/no-such-picture.png\" failed (2: No such file or directory)"
            }
        };
        let line = format!(
            "{} {what}, client: 192.0.2.{}, server: shop.example, request: \"GET /api/v1/items/{number}?page=3 HTTP/1.1\", \
             upstream: \"http://198.51.100.2:8080/api/v1/items/{number}\", host: \"shop.example\"\n",
            time.strftime("%Y/%m/%d %H:%M:%S"),
            number % 250,
        );
        size += line.len();
        file.write_all(line.as_bytes())?;
    }
    file.flush()?;
    Ok(())
}

/// A server that answers everything alike and closes, on a free port, until the process ends.
fn serve() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
            );
        }
    });
    Ok(port)
}

/// A network namespace with 55 000 sockets, which `bench_ports` holds for us.
struct Held {
    holder: Child,
    namespace: Option<File>,
}

impl Held {
    fn start() -> anyhow::Result<Self> {
        let this = std::env::current_exe()?;
        let program: PathBuf = this.with_file_name("bench_ports");
        let mut holder = Command::new(program)
            .arg("--hold-busy")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut path = String::new();
        let output = holder.stdout.take().context("its output")?;
        BufReader::new(output).read_line(&mut path)?;
        ensure!(
            !path.is_empty(),
            "bench_ports could not make its sockets (that needs root)"
        );
        let namespace = Some(File::open(path.trim_end())?);
        Ok(Self { holder, namespace })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
