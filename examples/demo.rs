//! `make demo`: replays the incident for about a minute and shows what the three plugins make of it. Where network
//! namespaces cannot be made, it says why, and shows `check_http_retry` on a server that fails now and then.
//!
//! The first argument, if any, is the folder with the plugins.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

use support::incident::{BACKEND, BASE, Incident, Kind, PORTS, PROXY, RANGE};
use support::plugin::binary_folder;

/// The widest line; longer ones are broken between words.
const WIDTH: usize = 100;

fn main() -> ExitCode {
    let demo = Demo::new();
    match demo.and_then(|demo| demo.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            let _ = writeln!(io::stdout(), "\nStopped; nothing is left behind.");
            INTERRUPTED.into()
        }
        Err(error) => {
            let _ = writeln!(io::stdout(), "\nThe demo ended early: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a shell's command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Ctrl-C, or somebody's SIGTERM.
#[derive(Debug)]
struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

struct Demo {
    plugins: PathBuf,
    begun: Instant,
    interrupted: Arc<AtomicBool>,
}

impl Demo {
    fn new() -> anyhow::Result<Self> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let plugins = match std::env::args_os().nth(1) {
            Some(folder) => fs::canonicalize(folder).context("the folder with the plugins")?,
            None => binary_folder(),
        };
        Ok(Self {
            plugins,
            begun: Instant::now(),
            interrupted,
        })
    }

    fn run(&self) -> anyhow::Result<()> {
        match Incident::possible() {
            Ok(()) => self.replay(),
            Err(why) => self.flaky_server(&why),
        }
    }

    /// The incident, with a real nginx.
    fn replay(&self) -> anyhow::Result<()> {
        let incident = Incident::start_with(Kind::Bind, self.plugins.clone());
        self.say(&format!(
            "Three network namespaces, a real nginx in two of them:\n\
             \n\
             \x20   client 192.0.2.1 --- {ip} proxy 198.51.100.1 --- {BACKEND} backend\n\
             \n\
             The proxy has {PORTS} client ports ({}-{}) for its connections to the backend; {BASE} of them are in \
             TIME_WAIT. Its nginx binds before it connects, as old ones do. (Long lines are broken here, and long \
             answers cut.)",
            RANGE.0,
            RANGE.1,
            ip = PROXY.ip(),
        ))?;

        self.heading("All is well")?;
        self.show(
            incident.check_http_retry(),
            "--duration 5s --interval 100ms",
        )?;
        self.show(incident.check_port_exhaustion(), "")?;
        self.show(incident.check_nginx_upstream_bind(), "")?;

        self.heading("Now and then a crowd takes the last port")?;
        incident.squeeze();
        let status = incident.status();
        incident.relax();
        self.say(&format!(
            "For a moment no port was left, and somebody got a {status}. When the check comes by, which asks once, \
             some users have gone, and it finds nothing:"
        ))?;
        self.show(incident.check_http_retry(), "--attempts 1")?;
        self.say(
            "From here on it goes like that all the time: for 1.7 s a few ports, for 0.5 s none.",
        )?;
        let load = incident.oscillate(Duration::from_millis(1700), Duration::from_millis(500));

        self.heading("check_http_retry asks until it fails")?;
        self.say("On a terminal, waiting for the moment:")?;
        self.show(
            incident.check_http_retry(),
            "--attempts 1 --until critical --every 300ms",
        )?;
        self.say("Under Icinga, in every check, for as long as you like; here 30 seconds:")?;
        self.show_part(
            incident.check_http_retry(),
            "-A probe --duration 30s --interval 100ms -v",
            12,
        )?;
        self.say(
            "Each probe carries a request id of its own, by which the proxy's access log has it:",
        )?;
        let requests = incident.nginx().requests();
        let failed = requests
            .iter()
            .rfind(|line| line.agent == "probe" && line.status != 200);
        let failed = failed.context("no probe failed, though now and then there was no port")?;
        self.show_line(&incident.nginx().access_log(), &failed.id)?;

        self.heading("check_port_exhaustion says what the kernel has left to give")?;
        self.show(
            incident.check_port_exhaustion(),
            "--mode both --sample 5s --explain",
        )?;

        self.heading("check_nginx_upstream_bind counts what nginx had to say")?;
        self.show(incident.check_nginx_upstream_bind(), "")?;
        self.say("The last line of that kind:")?;
        self.show_line(&incident.nginx().error_log(), Kind::Bind.error())?;

        self.heading("The crowd goes")?;
        drop(load);
        incident.calm();
        self.show(incident.check_http_retry(), "")?;
        self.show(incident.check_port_exhaustion(), "")?;
        self.say("The log still tells of the last ten minutes: looking twice makes nothing good.")?;
        self.show(incident.check_nginx_upstream_bind(), "")?;
        drop(incident);
        self.say("That is all; nothing is left behind.")
    }

    /// What can be shown without namespaces.
    fn flaky_server(&self, why: &str) -> anyhow::Result<()> {
        self.say(&format!(
            "The incident cannot be replayed here: {why}.\n\
             Instead: a small web server on 127.0.0.1 that answers every seventh request with 500."
        ))?;
        let port = serve_every_seventh_500()?;
        let check = || {
            let mut command = Command::new(self.plugins.join("check_http_retry"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        };
        self.heading("An ordinary check asks once")?;
        self.show(check(), "--attempts 1")?;
        self.heading("check_http_retry asks until it fails")?;
        self.show(check(), "--attempts 1 --until critical --every 100ms")?;
        self.show_part(check(), "--attempts 50 -v", 12)
    }

    fn heading(&self, text: &str) -> anyhow::Result<()> {
        let line = format!("[{:3} s] {text}", self.begun.elapsed().as_secs());
        self.write(&format!("{line}\n{}\n", "-".repeat(line.chars().count())))
    }

    fn say(&self, text: &str) -> anyhow::Result<()> {
        let lines: Vec<_> = text.lines().map(|line| wrap(line, "")).collect();
        self.write(&format!("{}\n", lines.join("\n")))
    }

    /// Shows a plugin's command line with these words added, runs it, and shows what it printed.
    fn show(&self, command: Command, words: &str) -> anyhow::Result<()> {
        self.show_part(command, words, usize::MAX)
    }

    /// The same, but of what it printed no more than these first lines.
    fn show_part(&self, mut command: Command, words: &str, limit: usize) -> anyhow::Result<()> {
        command.args(words.split_whitespace());
        self.check_interrupted()?;
        let line = format!("$ {}", self.command_line(&command));
        writeln!(io::stdout(), "{}", wrap(&line, "    "))?;
        let output = command.output().with_context(|| format!("{command:?}"))?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        // The performance data on a line of its own.
        let text = text.replacen('|', "\n  |", 1);
        let mut lines: Vec<_> = text.lines().map(|line| wrap(line, "  ")).collect();
        let more = lines.len().saturating_sub(limit);
        if more > 0 {
            lines.truncate(limit);
            lines.push(format!("... and {more} lines more"));
        }
        let code = output
            .status
            .code()
            .map_or("none".to_owned(), |code| code.to_string());
        self.write(&format!("{}\n(exit code {code})\n", lines.join("\n")))
    }

    /// Shows the last line of a file that holds a text.
    fn show_line(&self, path: &Path, needle: &str) -> anyhow::Result<()> {
        let text = fs::read(path).with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&text);
        let last = text
            .lines()
            .rfind(|line| line.contains(needle))
            .unwrap_or_default();
        let name = path.file_name().unwrap_or_default().display();
        self.write(&format!(
            "$ grep -F '{needle}' {name} | tail -n 1\n{}\n",
            wrap(last, "  ")
        ))
    }

    /// A command line as one would type it in the right namespace.
    fn command_line(&self, command: &Command) -> String {
        let words = command.get_args().map(|word| word.to_string_lossy());
        let plugins = format!("{}/", self.plugins.display());
        // ip netns exec NAME stands in front of those that run in a namespace.
        let start = if command.get_program() == "ip" { 3 } else { 0 };
        let program = command.get_program().to_string_lossy();
        let program = (start == 0).then_some(program);
        let words: Vec<_> = program.into_iter().chain(words.skip(start)).collect();
        words.join(" ").replace(&plugins, "")
    }

    fn check_interrupted(&self) -> anyhow::Result<()> {
        if self.interrupted.load(Ordering::SeqCst) {
            bail!(Interrupted);
        }
        Ok(())
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        self.check_interrupted()?;
        writeln!(io::stdout(), "{text}")?;
        Ok(())
    }
}

/// Breaks a line between words so that it is at most [`WIDTH`] wide; `indent` starts every line but the first.
fn wrap(line: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut width = 0;
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if width + length > WIDTH && width > indent.len() {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(indent);
            width = indent.len();
        }
        out.push_str(word);
        width += word.chars().count();
    }
    out
}

/// Serves on a free port until the process ends.
fn serve_every_seventh_500() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for (number, stream) in (1_u64..).zip(listener.incoming()) {
            let status = if number % 7 == 0 {
                "500 Internal Server Error"
            } else {
                "200 OK"
            };
            // A client that went away is none of this server's business.
            let _ = stream.and_then(|stream| answer(stream, status));
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream, status: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    for line in BufReader::new(stream.try_clone()?).lines().take(100) {
        if line?.is_empty() {
            break;
        }
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
    )
}
