//! What `check_port_exhaustion` costs on a busy host, beside what people use by hand, in one run.
//!
//!     bench_ports target/release/check_port_exhaustion
//!
//! A network namespace gets 55 000 sockets, most of them in TIME_WAIT; then the commands take turns. Needs root and `ss`.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[path = "../tests/support/mod.rs"]
mod support;
use support::oracle::Scene;
use support::sockets::Choice::Connect;

const USAGE: &str = "give the path of check_port_exhaustion";
/// How this program is told to be the yardstick.
const FLOOR: &str = "--floor";

const TIME_WAITS: usize = 47_000;
/// Both ends of each are in the namespace.
const CONNECTIONS: usize = 4_000;
/// One of each command a round.
const ROUNDS: usize = 15;
const FROM: &str = "192.0.2.1";
const TO: [&str; 5] = [
    "192.0.2.2:80",
    "192.0.2.2:81",
    "192.0.2.3:80",
    "192.0.2.3:81",
    "192.0.2.4:80",
];

fn main() -> anyhow::Result<ExitCode> {
    let argument = std::env::args().nth(1);
    match argument.as_deref().context(USAGE)? {
        "--hold-idle" => hold(&Scene::new("idle", "32768 60999"))?,
        "--hold-busy" => hold(&busy()?)?,
        "--hold-crowd" => hold(&crowd()?)?,
        FLOOR => floor()?,
        plugin => {
            let plugin = std::fs::canonicalize(plugin)?;
            return compare(plugin.to_str().context("a path in UTF-8")?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(plugin: &str) -> anyhow::Result<ExitCode> {
    let this = std::env::current_exe()?;
    let this = this.to_str().context("a path in UTF-8")?;
    let idle = Held::start(this, "--hold-idle")?;
    let mut idle_rows = [
        Row::new("check_port_exhaustion, idle", &idle, &[plugin]),
        Row::new("true, idle", &idle, &["true"]),
    ];
    // The kernel has one table for all namespaces: what is idle is measured while it is nearly empty.
    measure(&mut idle_rows)?;
    let busy = Held::start(this, "--hold-busy")?;
    let netstat = "netstat -tan | grep -v :443 | grep -v :80 | grep TIME_WAIT | wc -l";
    let has_netstat = Command::new("sh")
        .args(["-c", "command -v netstat"])
        .stdout(Stdio::null())
        .status()?
        .success();
    let mut rows = vec![
        Row::new("check_port_exhaustion", &busy, &[plugin]),
        Row::new("the kernel's part of it", &busy, &[this, FLOOR]),
        Row::new("ss -Htan", &busy, &["ss", "-Htan"]),
        Row::new("ss -Htan | wc -l", &busy, &["sh", "-c", "ss -Htan | wc -l"]),
    ];
    if has_netstat {
        rows.push(Row::new(
            "the incident's netstat pipeline",
            &busy,
            &["sh", "-c", netstat],
        ));
    }
    measure(&mut rows)?;
    rows.extend(idle_rows);
    let counted = sockets(&busy, plugin)?;
    let crowd = Held::start(this, "--hold-crowd")?;
    let mut crowd_rows = [Row::new("check_port_exhaustion, crowd", &crowd, &[plugin])];
    for row in &mut crowd_rows {
        row.costs.push(row.run()?);
    }
    let crowded = sockets(&crowd, plugin)?;
    rows.extend(crowd_rows);
    table(&rows, &counted, &crowded);
    Ok(bars(&rows, has_netstat))
}

/// A namespace whose sockets another process holds: what is started here inherits none of them, as under Icinga.
struct Held {
    holder: Child,
    namespace: File,
}

impl Held {
    fn start(this: &str, what: &str) -> anyhow::Result<Self> {
        let mut holder = Command::new(this)
            .arg(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut path = String::new();
        let output = holder.stdout.take().context("its output")?;
        BufReader::new(output).read_line(&mut path)?;
        let namespace = File::open(path.trim_end())
            .with_context(|| format!("{what} could not build its sockets"))?;
        Ok(Self { holder, namespace })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Says where the scene is, and keeps it until there is no more input.
fn hold(scene: &Scene) -> anyhow::Result<()> {
    say(&format!("{}\n", scene.ns.path()));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// What nobody who reads the same sockets can do without: one dump, and nothing done with it.
fn floor() -> anyhow::Result<()> {
    use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    // As the plugin asks: without what the kernel adds for administrators.
    let mut rights = capabilities(None)?;
    rights.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, rights)?;
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    // struct nlmsghdr: length, TCPDIAG_GETSOCK, NLM_F_REQUEST | NLM_F_DUMP; struct inet_diag_req: all states but bound
    let mut request = vec![0_u8; 76];
    request[..8].copy_from_slice(&[76, 0, 0, 0, 18, 0, 0x01, 0x03]);
    request[68..72].copy_from_slice(&0xffe_u32.to_ne_bytes());
    socket.send(&request, 0)?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    loop {
        buffer.clear();
        socket.recv(&mut buffer, 0)?;
        // NLMSG_ERROR or NLMSG_DONE
        if buffer.get(4).is_none_or(|kind| matches!(kind, 2 | 3)) {
            return Ok(());
        }
    }
}

/// One of each in turn; the first run of each is for the caches.
fn measure(rows: &mut [Row]) -> anyhow::Result<()> {
    for round in 0..=ROUNDS {
        for row in &mut *rows {
            let cost = row.run()?;
            if round > 0 {
                row.costs.push(cost);
            }
        }
    }
    Ok(())
}

/// A namespace with 55 000 sockets.
fn busy() -> anyhow::Result<Scene> {
    allow_files(20_000)?;
    let mut scene = Scene::new("bench", "1024 65535");
    scene.ns.set("ipv4/tcp_max_tw_buckets", "1000000");
    for to in TO {
        scene.listen(to);
        scene.connect(FROM, to, CONNECTIONS / TO.len(), Connect);
    }
    for _ in 0..TIME_WAITS / 1000 {
        for to in TO {
            scene.time_wait(FROM, to, 1000 / TO.len(), Connect);
        }
    }
    Ok(scene)
}

/// One with a million or nearly so, if the machine can make as many in the minute that each stays: to forty
/// destinations, so that connect() finds a port at once.
fn crowd() -> anyhow::Result<Scene> {
    allow_files(20_000)?;
    let mut scene = Scene::new("crowd", "1024 65535");
    scene.ns.set("ipv4/tcp_max_tw_buckets", "2000000");
    let to: Vec<_> = (80..120).map(|port| format!("192.0.2.2:{port}")).collect();
    for to in &to {
        scene.listen(to);
    }
    for _ in 0..1_000_000 / 1000 / to.len() {
        for to in &to {
            scene.time_wait(FROM, to, 1000, Connect);
        }
    }
    Ok(scene)
}

fn allow_files(count: u64) -> anyhow::Result<()> {
    let limit = Rlimit {
        current: Some(count),
        maximum: Some(count),
    };
    setrlimit(Resource::Nofile, limit)
        .with_context(|| format!("the connections need {count} files open"))
}

/// What the plugin says of a namespace: sockets, and those in TIME_WAIT.
fn sockets(held: &Held, plugin: &str) -> anyhow::Result<String> {
    let output = within(&held.namespace, || Command::new(plugin).output())??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of = |label: &str| {
        let rest = text.split_once(&format!("'{label}'="))?.1;
        rest.split(';').next().map(str::to_owned)
    };
    Ok(format!(
        "{} sockets, {} of them in TIME_WAIT",
        of("sockets").unwrap_or_default(),
        of("time_wait").unwrap_or_default()
    ))
}

/// Runs a function in a thread that has moved into a namespace.
fn within<T: Send>(namespace: &File, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        thread.join().map_err(|_| anyhow!("a thread failed"))?
    })
}

struct Row<'a> {
    name: &'static str,
    held: &'a Held,
    words: Vec<String>,
    costs: Vec<Cost>,
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    wall: Duration,
    cpu: Duration,
    kib: i64,
}

impl<'a> Row<'a> {
    fn new(name: &'static str, held: &'a Held, words: &[&str]) -> Self {
        Self {
            name,
            held,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            costs: Vec::new(),
        }
    }

    fn run(&self) -> anyhow::Result<Cost> {
        within(&self.held.namespace, || {
            let begun = Instant::now();
            let child = Command::new(&self.words[0])
                .args(&self.words[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {}", self.words[0]))?;
            let (cpu, kib) = wait(&child)?;
            Ok(Cost {
                wall: begun.elapsed(),
                cpu,
                kib,
            })
        })?
    }

    fn median(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        let mut values: Vec<_> = self.costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Milliseconds of processor time.
    fn cpu(&self) -> f64 {
        self.median(|cost| cost.cpu.as_secs_f64() * 1000.0)
    }

    fn least_cpu(&self) -> f64 {
        let times = self.costs.iter().map(|cost| cost.cpu);
        times
            .min()
            .map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1000.0)
    }

    fn mib(&self) -> f64 {
        self.median(|cost| cost.kib as f64 / 1024.0)
    }
}

fn table(rows: &[Row], counted: &str, crowded: &str) {
    let mut text = format!(
        "{counted}; median of {ROUNDS} rounds; idle: no sockets; crowd: {crowded}\n{:<34}{:>10}{:>10}{:>10}{:>10}\n",
        "", "wall ms", "cpu ms", "RSS MiB", "cpu ratio"
    );
    let own = rows[0].cpu();
    for row in rows {
        let _ = writeln!(
            text,
            "{:<34}{:>10.1}{:>10.1}{:>10.1}{:>10.2}",
            row.name,
            row.median(|cost| cost.wall.as_secs_f64() * 1000.0),
            row.cpu(),
            row.mib(),
            row.cpu() / own,
        );
    }
    say(&text);
}

/// What the documentation says of it. Processor time, since the machine may be busy with something else.
fn bars(rows: &[Row], has_netstat: bool) -> ExitCode {
    let row = |name: &str| rows.iter().find(|row| row.name.starts_with(name));
    let cpu = |name: &str| row(name).map_or(f64::NAN, Row::cpu);
    let mib = |name: &str| row(name).map_or(f64::NAN, Row::mib);
    let own = rows[0].cpu();
    // The least disturbed one: a time of its own, and no share of another's that suffers as well.
    let idle = row("check_port_exhaustion, idle").map_or(f64::NAN, Row::least_cpu);
    let mut claims = vec![
        ("a third of 'ss -Htan'", own, cpu("ss -Htan") / 3.0),
        ("8 MiB", rows[0].mib(), 8.0),
        ("5 ms on an idle host", idle, 5.0),
        (
            "64 MiB in the crowd",
            mib("check_port_exhaustion, crowd"),
            64.0,
        ),
    ];
    let pipeline = cpu("the incident's netstat pipeline");
    if has_netstat {
        claims.push(("a tenth of the netstat pipeline", own, pipeline / 10.0));
    } else {
        say("netstat is not installed (net-tools): not compared\n");
    }
    let mut missed = 0;
    for (name, value, bar) in claims {
        let word = if value <= bar { "kept" } else { "MISSED" };
        missed += usize::from(value > bar);
        say(&format!("{word}: {name}: {value:.1} of {bar:.1}\n"));
    }
    if missed > 0 {
        say(&format!(
            "{missed} claims of the documentation are missed\n"
        ));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn say(text: &str) {
    let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
}

/// Waits for a process; returns the processor time of it and of those it waited for, and the most memory that one of
/// them had, in KiB.
fn wait(child: &Child) -> anyhow::Result<(Duration, i64)> {
    /// `struct rusage` where a long has 64 bits.
    #[repr(C)]
    #[derive(Default)]
    struct Usage {
        user: [i64; 2],
        system: [i64; 2],
        most_kib: i64,
        rest: [i64; 13],
    }
    unsafe extern "C" {
        fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut Usage) -> i32;
    }
    let mut usage = Usage::default();
    let pid = i32::try_from(child.id())?;
    // SAFETY: the structure has the size and the layout that the kernel fills, and lives until the call returns.
    let waited = unsafe { wait4(pid, std::ptr::null_mut(), 0, &raw mut usage) };
    if waited != pid {
        return Err(io::Error::last_os_error()).context("wait4");
    }
    let time = |[seconds, micros]: [i64; 2]| {
        Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(micros.unsigned_abs())
    };
    Ok((time(usage.user) + time(usage.system), usage.most_kib))
}
