//! What `check_port_exhaustion` costs on a busy host, beside what people use by hand, in one run.
//!
//!     bench_ports target/release/check_port_exhaustion
//!
//! A network namespace gets 55 000 sockets, most of them in TIME_WAIT; then the commands take turns. Needs root and `ss`.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, setrlimit};

#[path = "../tests/support/mod.rs"]
mod support;
use support::oracle::Scene;
use support::sockets::Choice::Connect;

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

fn main() -> anyhow::Result<()> {
    let plugin = std::env::args()
        .nth(1)
        .context("give the path of check_port_exhaustion")?;
    let plugin = std::fs::canonicalize(plugin)?;
    let plugin = plugin.to_str().context("a path in UTF-8")?;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(20_000),
            maximum: Some(20_000),
        },
    )
    .context("the connections need 20000 files open")?;
    let idle = Scene::new("idle", "32768 60999");
    let busy = busy();
    let netstat = "netstat -tan | grep -v :443 | grep -v :80 | grep TIME_WAIT | wc -l";
    let has_netstat = Command::new("sh")
        .args(["-c", "command -v netstat"])
        .stdout(Stdio::null())
        .status()?
        .success();
    let mut rows = vec![
        Row::new("check_port_exhaustion", &busy, &[plugin]),
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
    rows.push(Row::new("check_port_exhaustion, idle", &idle, &[plugin]));
    rows.push(Row::new("true, idle", &idle, &["true"]));
    // The first run of each is for the caches.
    for round in 0..=ROUNDS {
        for row in &mut rows {
            let cost = row.run()?;
            if round > 0 {
                row.costs.push(cost);
            }
        }
    }
    let counted = busy.ns.within(|| sockets(plugin))?;
    table(&rows, &counted);
    bars(&rows, has_netstat)
}

/// A namespace with 55 000 sockets.
fn busy() -> Scene {
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
    scene
}

/// What the plugin says of its namespace: sockets, and those in TIME_WAIT.
fn sockets(plugin: &str) -> anyhow::Result<String> {
    let output = Command::new(plugin).output()?;
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

struct Row<'a> {
    name: &'static str,
    scene: &'a Scene,
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
    fn new(name: &'static str, scene: &'a Scene, words: &[&str]) -> Self {
        Self {
            name,
            scene,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            costs: Vec::new(),
        }
    }

    fn run(&self) -> anyhow::Result<Cost> {
        self.scene.ns.within(|| {
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
        })
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

    fn mib(&self) -> f64 {
        self.median(|cost| cost.kib as f64 / 1024.0)
    }
}

fn table(rows: &[Row], counted: &str) {
    let mut text = format!(
        "{counted}; median of {ROUNDS} rounds\n{:<34}{:>10}{:>10}{:>10}{:>10}\n",
        "", "wall ms", "cpu ms", "RSS MiB", "cpu ratio"
    );
    let own = rows[0].cpu();
    for row in rows {
        text += &format!(
            "{:<34}{:>10.1}{:>10.1}{:>10.1}{:>10.2}\n",
            row.name,
            row.median(|cost| cost.wall.as_secs_f64() * 1000.0),
            row.cpu(),
            row.mib(),
            row.cpu() / own,
        );
    }
    say(&text);
}

/// The promises. Processor time, since the machine may be busy with something else.
fn bars(rows: &[Row], has_netstat: bool) -> anyhow::Result<()> {
    let row = |name: &str| rows.iter().find(|row| row.name.starts_with(name));
    let cpu = |name: &str| row(name).map_or(f64::NAN, Row::cpu);
    let own = rows[0].cpu();
    let idle = cpu("check_port_exhaustion, idle");
    let mut kept = vec![
        ("a third of 'ss -Htan'", own, cpu("ss -Htan") / 3.0),
        ("8 MiB", rows[0].mib(), 8.0),
        ("5 ms on an idle host", idle, 5.0),
    ];
    if has_netstat {
        let pipeline = cpu("the incident's netstat pipeline");
        kept.push(("a tenth of the netstat pipeline", own, pipeline / 10.0));
    } else {
        say("netstat is not installed (net-tools): not compared\n");
    }
    let mut missed = 0;
    for (name, value, bar) in kept {
        let word = if value <= bar { "kept" } else { "MISSED" };
        missed += usize::from(value > bar);
        say(&format!("{word}: {name}: {value:.1} of {bar:.1}\n"));
    }
    if missed > 0 {
        bail!("{missed} bars are missed");
    }
    Ok(())
}

fn say(text: &str) {
    use io::Write;
    let _ = io::stdout().write_all(text.as_bytes());
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
