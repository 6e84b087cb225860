//! `--until STATE` and `--forever`: one plugin run again and again, told as it goes.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::options::Format;
use super::report::local_time;
use super::run::{Signals, Watch};
use super::submit::Submitter;
use super::window::Windows;
use super::{Arguments, Common, Plugin, Report, Run, State, clean, output};

/// The deadline of a loop that has none: a year.
const FOREVER: Duration = Duration::from_hours(366 * 24);

/// How often a loop that waits looks whether there is something to tell of its results.
const NEWS: Duration = Duration::from_secs(1);
/// How long the last result of a loop may take to be submitted.
const SUBMIT_LAST: Duration = Duration::from_secs(3);
/// How long that of a single run may take, if it has the time.
const SUBMIT_ONE: Duration = Duration::from_secs(5);
/// How long it may take where there is no time left: the watch thread waits a second behind a signal.
const SUBMIT_HURRIED: Duration = Duration::from_millis(400);

/// Runs a plugin once, or as often as its options say. Returns the text to print last, and its state.
pub fn run<A: Arguments>(plugin: &Plugin<A>, args: &A) -> anyhow::Result<(String, State)> {
    let signals = Signals::catch()?;
    let common = args.common();
    // What --submit needs is read below it: a file may be a FIFO, or hang.
    let watch = Watch::start(&signals, args.limit())?;
    let loops = common.until.is_some() || common.forever;
    // Without a deadline of its own a loop has no end; each round of it has.
    let limit = if loops {
        common.deadline.unwrap_or(FOREVER)
    } else {
        args.limit()
    };
    let run = Run::new(&signals, limit);
    let submitter = Submitter::start(common, plugin.names())?;
    if loops {
        drop(watch);
        return repeat(plugin, args, &signals, &submitter, &run);
    }
    let run = run.heard_by(&submitter);
    let mut report = measure(plugin, args, &run);
    say_if_cut_short(&mut report, &run);
    submitter.submit(&report, &run);
    submitter.finish(match run.ended() {
        Some(_) => SUBMIT_HURRIED,
        None => SUBMIT_ONE.min(run.remaining().max(SUBMIT_HURRIED)),
    });
    submitter.annotate(&mut report);
    // The watch still stands while the report is written: a reader that never reads is ended, too.
    std::mem::forget(watch);
    Ok((
        report.render(plugin.names(), common, Some(&run)),
        report.state,
    ))
}

/// Whether a round came to no result.
fn knows_nothing(report: &Report) -> bool {
    let progress = report.progress.as_ref();
    report.state == State::Unknown && progress.is_some_and(|progress| progress.tried == 0)
}

/// How long the last result of a loop may take, within the loop's own deadline.
fn patience(whole: &Run) -> Duration {
    SUBMIT_LAST.min(whole.remaining().max(SUBMIT_HURRIED))
}

/// One measurement; its error becomes the UNKNOWN report that it would end as.
fn measure<A: Arguments>(plugin: &Plugin<A>, args: &A, run: &Run) -> Report {
    (plugin.check)(args, run).unwrap_or_else(|error| Report::unknown(&error))
}

/// A last line that is no performance data: Icinga glues its own words to the last line of a plugin that it ended.
fn say_if_cut_short(report: &mut Report, run: &Run) {
    if let Some(end) = run.ended() {
        report.line(0, format!("ended early by {}", end.words()));
    }
}

#[cold]
fn repeat<A: Arguments>(
    plugin: &Plugin<A>,
    args: &A,
    signals: &Signals,
    submitter: &Submitter,
    whole: &Run,
) -> anyhow::Result<(String, State)> {
    let common = args.common();
    let mut tale = Tale::new(common);
    let mut windows = Windows::begin(Instant::now());
    loop {
        let begun = Instant::now();
        let limit = args
            .limit()
            .min(whole.remaining().max(Duration::from_millis(100)));
        let watch = Watch::start(signals, limit + Duration::from_secs(1))?;
        let run = Run::new(signals, limit).heard_by(submitter);
        let mut report = measure(plugin, args, &run);
        let ended = Instant::now();
        let stopped = whole.ended();
        // That nothing is known since somebody ended the loop is no result for others.
        let cut_off = stopped.is_some() && knows_nothing(&report);
        if !cut_off {
            windows.take(&report, ended);
        }
        windows.tell(&mut report, ended);
        tale.last_hour = windows.last_hour(ended);
        drop(watch);
        if !cut_off {
            submitter.submit(&report, &run);
        }
        let reached = common.until == Some(report.state);
        if reached || stopped.is_some() {
            tale.count(&report);
            tale.clear();
            let why = if reached {
                "reached".to_owned()
            } else {
                format!("ended by {}", stopped.map_or("", super::End::words))
            };
            submitter.finish(patience(whole));
            submitter.annotate(&mut report);
            report.line(0, tale.sum_up(&why));
            return Ok((
                report.render(plugin.names(), common, Some(&run)),
                report.state,
            ));
        }
        submitter.annotate(&mut report);
        tale.tell(plugin, &report, &run);
        if !tale.pause(
            whole,
            common.every.saturating_sub(begun.elapsed()),
            submitter,
        ) {
            tale.clear();
            let why = format!("ended by {}", whole.ended().map_or("", super::End::words));
            submitter.finish(patience(whole));
            submitter.annotate(&mut report);
            report.line(0, tale.sum_up(&why));
            return Ok((
                report.render(plugin.names(), common, Some(&run)),
                report.state,
            ));
        }
    }
}

/// What is told while a loop runs: on a terminal one live line and a dated line for each change, elsewhere the
/// dated lines alone; with `--forever --format json` one document for each round.
struct Tale<'a> {
    common: &'a Common,
    begun: Instant,
    rounds: u64,
    states: [u64; 4],
    /// What was tried in all, and how much of it failed.
    tried: u64,
    failed: u64,
    last: Option<State>,
    /// What failed in the last hour of a longer loop.
    last_hour: Option<u64>,
}

impl<'a> Tale<'a> {
    fn new(common: &'a Common) -> Self {
        Self {
            common,
            begun: Instant::now(),
            rounds: 0,
            states: [0; 4],
            tried: 0,
            failed: 0,
            last: None,
            last_hour: None,
        }
    }

    fn count(&mut self, report: &Report) {
        self.rounds += 1;
        if let Some(progress) = &report.progress {
            self.tried += progress.tried;
            self.failed += progress.failed;
        }
        self.states[usize::try_from(report.state.exit_code())
            .unwrap_or(3)
            .min(3)] += 1;
    }

    fn tell<A: Arguments>(&mut self, plugin: &Plugin<A>, report: &Report, run: &Run) {
        self.count(report);
        if self.common.format != Format::Text {
            // With --until there is one document at the end, as without it.
            if self.common.forever {
                output::say(&report.render(plugin.names(), self.common, Some(run)));
            }
            return;
        }
        let headline = report.headline(plugin.name);
        if self.last.replace(report.state) != Some(report.state) {
            self.clear();
            output::say(&format!("{} {headline}\n", local_time(Timestamp::now())));
        }
        if let Some(width) = output::terminal_width() {
            let line = self.live_line(report, &headline);
            output::say(&format!("\r\x1b[K{}", clean::cut(line, width - 1)));
        }
    }

    /// Waits for the next round, and tells what happens to the results until then. Returns whether to go on.
    fn pause(&self, whole: &Run, time: Duration, submitter: &Submitter) -> bool {
        let until = Instant::now() + time;
        loop {
            // In a document it stands among the findings.
            for line in submitter
                .news()
                .iter()
                .filter(|_| self.common.format == Format::Text)
            {
                self.clear();
                let now = local_time(Timestamp::now());
                output::say(&format!("{now} {}\n", clean::clean(line)));
            }
            let left = until.saturating_duration_since(Instant::now());
            let step = if submitter.is_on() {
                left.min(NEWS)
            } else {
                left
            };
            if !whole.sleep(step) {
                return false;
            }
            if step == left {
                return true;
            }
        }
    }

    /// Time, count, rate, failures and what came last; of a plugin that does not count, its first line.
    fn live_line(&self, report: &Report, headline: &str) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        let Some(progress) = &report.progress else {
            return format!("[run {}, {seconds:.0} s] {headline}", self.rounds);
        };
        let last_hour = self
            .last_hour
            .map(|failed| format!(" ({failed} in the last hour)"));
        format!(
            "[{seconds:.0} s] {} {}, {:.1}/s, {} failed{}, last: {}",
            self.tried,
            progress.noun,
            self.tried as f64 / seconds.max(0.001),
            self.failed,
            last_hour.unwrap_or_default(),
            clean::clean(&progress.last)
        )
    }

    /// Takes the live line away.
    fn clear(&self) {
        if self.common.format == Format::Text && output::terminal_width().is_some() {
            output::say("\r\x1b[K");
        }
    }

    fn sum_up(&self, why: &str) -> String {
        let [ok, warning, critical, unknown] = self.states;
        format!(
            "{why} after {} run{} in {:.1} s: {ok} OK, {warning} WARNING, {critical} CRITICAL, {unknown} UNKNOWN",
            self.rounds,
            if self.rounds == 1 { "" } else { "s" },
            self.begun.elapsed().as_secs_f64()
        )
    }
}
