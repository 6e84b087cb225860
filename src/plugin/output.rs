//! The only writer to standard output, and the only place that ends the process early.
//!
//! Icinga reads standard output and standard error from one pipe, so nothing is ever written to the latter. A
//! result is written whole and once: whoever comes first (the report, a panic, a missed deadline) has the word.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use rustix::io::Errno;

use super::options::Format;
use super::wrap::wrap;
use super::{Common, Names, Report, State, clean};

static NAMES: OnceLock<Names> = OnceLock::new();

/// How last words are to be said.
static OPTIONS: OnceLock<Common> = OnceLock::new();

/// 0 while nothing final was said, 1 as soon as somebody has the word.
static SPOKEN: AtomicU8 = AtomicU8::new(0);

/// The exit code of what is being written, for the case that the reader never takes it.
static CODE: AtomicI32 = AtomicI32::new(3);

/// Says whose words the line of a panic or a missed deadline is.
pub fn introduce(names: Names) {
    let _ = NAMES.set(names);
}

/// Has last words said in the form that was asked for.
pub fn speak_as(options: &Common) {
    let _ = OPTIONS.set(options.clone());
}

/// Writes the result, once, and gives the exit code for `main` to return.
pub fn finish(text: &str, state: State) -> u8 {
    finish_as_it_is(&shown(text), state)
}

/// The same for a text whose lines are to stay as they are on a terminal, too.
pub fn finish_as_it_is(text: &str, state: State) -> u8 {
    let state = OPTIONS
        .get()
        .map_or(state, |options| options.format.exit_state(state));
    let code = state.exit_code();
    if SPOKEN.swap(1, Ordering::SeqCst) == 0 {
        CODE.store(code, Ordering::SeqCst);
        write_all(text.as_bytes());
    }
    u8::try_from(code).unwrap_or(3)
}

/// Writes a line that is no result: what `--until` and `--forever` tell on the way.
pub fn say(text: &str) {
    write_all(shown(text).as_bytes());
}

/// As it is, but for a person at a terminal with its lines broken between words.
fn shown(text: &str) -> Cow<'_, str> {
    let form = OPTIONS.get().map_or(Format::Text, |options| options.format);
    match terminal_width() {
        Some(width) if form == Format::Text => wrap(text, width).into(),
        _ => text.into(),
    }
}

/// The width of the terminal that standard output is, if it is one.
pub fn terminal_width() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok();
    // A terminal that does not know its width says 0.
    let width = size.map_or(0, |size| usize::from(size.ws_col));
    Some(if width == 0 { 80 } else { width.max(20) })
}

/// Makes a panic, in any thread, one UNKNOWN line and exit code 3.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|panic| last_words(&describe(panic))));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map(|at| format!(" at {}:{}", at.file(), at.line()));
    let what = panic.payload_as_str().unwrap_or("no message");
    format!(
        "internal error{}: {what} - please report this with the command line",
        place.unwrap_or_default()
    )
}

/// Says one UNKNOWN line, unless a result is on its way already, and ends the process.
#[allow(clippy::disallowed_methods)] // the one place that may: there is no way back to main from here
pub fn last_words(why: &str) -> ! {
    if SPOKEN.swap(1, Ordering::SeqCst) == 0 {
        let unnamed = Names {
            name: "PLUGIN",
            binary: "plugin",
        };
        let names = *NAMES.get().unwrap_or(&unnamed);
        let report = Report::new(State::Unknown, clean::clean_cut(why, 500));
        let text = match OPTIONS.get() {
            Some(options) => report.render(names, options, None),
            None => report.text(names.name, 0),
        };
        write_all(shown(&text).as_bytes());
    }
    std::process::exit(CODE.load(Ordering::SeqCst))
}

/// Writes all of it, or gives up where nobody reads it (EPIPE) or it cannot be stored (ENOSPC): the exit code is
/// what counts then, and it does not change.
fn write_all(mut bytes: &[u8]) {
    let stdout = std::io::stdout();
    while !bytes.is_empty() {
        match rustix::io::write(&stdout, bytes) {
            Ok(0) => return,
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            // A non-blocking pipe that is full: wait for the reader, the watch thread ends a wait without end.
            Err(Errno::AGAIN) => {
                let mut fds = [rustix::event::PollFd::new(
                    &stdout,
                    rustix::event::PollFlags::OUT,
                )];
                let _ = rustix::event::poll(&mut fds, None);
            }
            Err(_) => return,
        }
    }
}
