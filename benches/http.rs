//! Measures `check_http_retry` beside its yardsticks; `benches/http.sh` says how, and builds what is needed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

const PLUGINS: &str = "/usr/lib/nagios/plugins";

/// How often each command runs.
struct Effort {
    /// Rounds of single attempts.
    attempts: usize,
    /// Rounds of the loop.
    loops: usize,
    /// Probes in a loop over http and over https.
    probes: [u32; 2],
}

const FULL: Effort = Effort {
    attempts: 101,
    loops: 5,
    probes: [20_000, 5_000],
};

const QUICK: Effort = Effort {
    attempts: 31,
    loops: 3,
    probes: [4_000, 1_000],
};

fn main() -> anyhow::Result<()> {
    let mut effort = FULL;
    let mut ours = PathBuf::from("target/release/check_http_retry");
    for argument in std::env::args().skip(1) {
        match &*argument {
            "--quick" => effort = QUICK,
            path => ours = path.into(),
        }
    }
    ensure!(ours.exists(), "there is no {}", ours.display());
    let server = Server::start()?;
    let ours = server.installed(&ours)?;
    say(&format!("{}\n", machine()))?;
    for https in [false, true] {
        attempts(&server, &ours, https, &effort)?;
    }
    for https in [false, true] {
        for concurrency in [1, 8] {
            loops(&server, &ours, https, concurrency, &effort)?;
        }
    }
    Ok(())
}

/// One attempt of each plugin, in turns.
fn attempts(server: &Server, ours: &Path, https: bool, effort: &Effort) -> anyhow::Result<()> {
    let port = server.port(https);
    let plugin = |path: PathBuf, more: &[&str]| {
        let mut words = vec![path.display().to_string()];
        words.extend(["-I", "127.0.0.1", "-H", "localhost", "-p", &port].map(str::to_owned));
        words.extend(https.then(|| "-S".to_owned()));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    };
    let commands = [
        (
            "check_http_retry",
            plugin(ours.into(), &["--attempts", "1"]),
        ),
        (
            "check_http",
            plugin(Path::new(PLUGINS).join("check_http"), &[]),
        ),
        (
            "check_curl",
            plugin(Path::new(PLUGINS).join("check_curl"), &[]),
        ),
    ];
    let mut costs = vec![Vec::new(); commands.len()];
    for _ in 0..effort.attempts {
        for ((_, words), costs) in commands.iter().zip(&mut costs) {
            costs.push(Cost::of(words)?);
        }
    }
    let scheme = scheme(https);
    say(&format!(
        "\nOne attempt over {scheme}, {} rounds\n",
        effort.attempts
    ))?;
    say(&format!(
        "{:<18}{:>9}{:>9}{:>10}   ratio to check_http: wall, CPU, memory\n",
        "", "wall ms", "CPU ms", "peak MB"
    ))?;
    for ((name, words), costs_of_it) in commands.iter().zip(&costs) {
        let wall = |cost: &Cost| cost.wall;
        let cpu = |cost: &Cost| cost.cpu;
        let memory = peak_memory(words)?;
        say(&format!(
            "{name:<18}{:>9.2}{:>9.2}{:>10.1}   {:.2} {:.2} {:.2}\n",
            median(costs_of_it.iter().map(wall)) * 1e3,
            median(costs_of_it.iter().map(cpu)) * 1e3,
            memory,
            ratio(costs_of_it, &costs[1], wall),
            ratio(costs_of_it, &costs[1], cpu),
            memory / peak_memory(&commands[1].1)?,
        ))?;
    }
    Ok(())
}

/// Many probes, each on a new connection, of each client, in turns.
fn loops(
    server: &Server,
    ours: &Path,
    https: bool,
    concurrency: u32,
    effort: &Effort,
) -> anyhow::Result<()> {
    let port = server.port(https);
    let probes = effort.probes[usize::from(https)];
    let scheme = scheme(https);
    let url = format!("{scheme}://127.0.0.1:{port}/");
    let words = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let ssl = if https { " -S" } else { "" };
    let commands = [
        (
            "check_http_retry",
            words(format!(
                "{} -I 127.0.0.1 -H localhost -p {port}{ssl} --attempts {probes} --concurrency {concurrency} --deadline 10m",
                ours.display()
            )),
        ),
        (
            "ab",
            words(format!("ab -q -n {probes} -c {concurrency} {url}")),
        ),
        (
            "wrk",
            [
                words(format!("wrk -t 1 -c {concurrency} -d 2 -H")),
                vec!["Connection: close".to_owned(), url.clone()],
            ]
            .concat(),
        ),
    ];
    let mut costs = vec![Vec::new(); commands.len()];
    for _ in 0..effort.loops {
        for ((name, words), costs) in commands.iter().zip(&mut costs) {
            let mut cost = Cost::of(words)?;
            // wrk runs for a time and says how many it sent.
            let number = match *name {
                "wrk" => requests(&cost.output).context("wrk does not say how many")?,
                _ => f64::from(probes),
            };
            cost.wall /= number;
            cost.cpu /= number;
            costs.push(cost);
        }
    }
    say(&format!(
        "\n{probes} probes over {scheme}, {concurrency} at a time, {} rounds\n",
        effort.loops
    ))?;
    say(&format!(
        "{:<18}{:>9}{:>14}   ratio to ab: rate, CPU\n",
        "", "probes/s", "CPU ms/probe"
    ))?;
    for ((name, _), costs_of_it) in commands.iter().zip(&costs) {
        let pace = |cost: &Cost| 1.0 / cost.wall;
        let cpu = |cost: &Cost| cost.cpu;
        say(&format!(
            "{name:<18}{:>9.0}{:>14.3}   {:.2} {:.2}\n",
            median(costs_of_it.iter().map(pace)),
            median(costs_of_it.iter().map(cpu)) * 1e3,
            ratio(costs_of_it, &costs[1], pace),
            ratio(costs_of_it, &costs[1], cpu),
        ))?;
    }
    Ok(())
}

/// `  14532 requests in 2.10s, 11.34MB read`
fn requests(output: &str) -> Option<f64> {
    let line = output.lines().find(|line| line.contains(" requests in "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What a process took, in seconds.
#[derive(Debug, Clone)]
struct Cost {
    wall: f64,
    cpu: f64,
    output: String,
}

impl Cost {
    fn of(words: &[String]) -> anyhow::Result<Self> {
        let mut output = tempfile::tempfile()?;
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?);
        let before = cpu_of_children()?;
        let began = Instant::now();
        let status = command
            .status()
            .with_context(|| format!("cannot start {}", words[0]))?;
        let wall = began.elapsed().as_secs_f64();
        let cpu = cpu_of_children()? - before;
        let mut text = String::new();
        io::Seek::rewind(&mut output)?;
        io::Read::read_to_string(&mut output, &mut text)?;
        ensure!(status.success(), "{words:?} failed: {text}");
        Ok(Self {
            wall,
            cpu,
            output: text,
        })
    }
}

/// Seconds of all children that were waited for.
fn cpu_of_children() -> anyhow::Result<f64> {
    // SAFETY: all bytes zero is a valid rusage, and the call fills what it points to.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) != 0 {
            bail!(io::Error::last_os_error());
        }
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// In MB, the median of 21 runs: where the kernel puts a program differs, and with it how much of it is mapped. Through GNU
/// time: a process inherits the peak of the one that it was started from, and this one is larger than what it measures.
fn peak_memory(words: &[String]) -> anyhow::Result<f64> {
    let mut peaks = Vec::new();
    for _ in 0..21 {
        let output = Command::new("/usr/bin/time")
            .args(["-f", "%M"])
            .args(words)
            .stdout(Stdio::null())
            .output()
            .context("cannot start /usr/bin/time")?;
        let text = String::from_utf8_lossy(&output.stderr);
        let kilobytes: f64 = text.trim().parse().with_context(|| text.into_owned())?;
        peaks.push(kilobytes / 1024.0);
    }
    Ok(median(peaks.into_iter()))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of the rounds' ratios.
fn ratio(costs: &[Cost], yardstick: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    median(
        costs
            .iter()
            .zip(yardstick)
            .map(|(cost, other)| of(cost) / of(other)),
    )
}

fn scheme(https: bool) -> &'static str {
    if https { "https" } else { "http" }
}

/// What the figures were taken on.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(": ")?.1))
        .unwrap_or("unknown");
    let number = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{number} x {model}, load {load} at the start; nginx on the same machine, a page of 600 bytes, P-256"
    )
}

#[allow(clippy::disallowed_macros)] // no plugin: its own output goes to a person
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// An nginx of our own, http and https, ended when dropped.
struct Server {
    child: Child,
    ports: [u16; 2],
    /// It goes when this does.
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(path("certificate.pem"), made.cert.pem())?;
        fs::write(path("key.pem"), made.signing_key.serialize_pem())?;
        fs::create_dir(path("html"))?;
        fs::write(path("html/index.html"), "x".repeat(600))?;
        let ports = [free_port()?, free_port()?];
        fs::write(
            path("nginx.conf"),
            format!(
                "daemon off; user root; worker_processes 1; pid nginx.pid; error_log error.log error;
                events {{ worker_connections 1024; }}
                http {{ access_log off; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
                uwsgi_temp_path tmp; scgi_temp_path tmp; default_type text/html; root html;
                server {{ listen 127.0.0.1:{} backlog=4096; }}
                server {{ listen 127.0.0.1:{} ssl backlog=4096; ssl_session_tickets off; ssl_session_cache off;
                ssl_certificate certificate.pem; ssl_certificate_key key.pem; }} }}\n",
                ports[0], ports[1]
            ),
        )?;
        let log = File::create(path("output"))?;
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "TERM",
                "nginx",
                "-c",
                "nginx.conf",
                "-e",
                "error.log",
                "-p",
            ])
            .arg(path(""))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start nginx")?;
        let server = Self {
            child,
            ports,
            folder,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).is_err() {
            ensure!(Instant::now() < deadline, "nginx does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The program as a package manager puts it there, in one go. What a linker wrote lies in the page cache in small
    /// pieces, and costs a sixth more to start.
    fn installed(&self, program: &Path) -> anyhow::Result<PathBuf> {
        let copy = self.folder.path().join("check_http_retry");
        fs::copy(program, &copy)?;
        Ok(copy)
    }

    fn port(&self, https: bool) -> String {
        self.ports[usize::from(https)].to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
