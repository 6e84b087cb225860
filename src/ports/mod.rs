//! `check_port_exhaustion`: how many more connections the kernel grants before it says no.
//!
//! ```text
//! Args -> Plan -> [ Look: sysctl, sockets ] -> Census -> Headroom -> Verdict -> Report
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and the settings that they mean |
//! | `netns`, `watch` | which network namespaces; what is kept of looks at them |
//! | `look` | one look: settings and sockets of a network namespace |
//! | `sysctl`, `sock_diag`, `proc_net` | where the look gets them from |
//! | `limits` | other limits that look alike when they are reached |
//! | `owners` | the processes that hold the sockets |
//! | `memory` | what one run tells the next |
//! | `socket`, `port_set` | one socket; a set of ports |
//! | `census`, `port_table`, `taken` | the sockets, counted by destination, port and address |
//! | `active`, `sockopt` | trying ports one by one |
//! | `evidence` | who chose the ports: connect() or bind() |
//! | `headroom`, `sources` | what the kernel still grants to connect(), and to bind() |
//! | `forecast`, `closing` | for how long |
//! | `udp` | the same for UDP |
//! | `record` | one look as a line of the journal |
//! | `verdict`, `findings`, `report` | the state, what was found, the words |
//! | `advice`, `explain` | what to do about a finding, what to change |
//! | `details` | the JSON document |

mod active;
mod advice;
mod args;
mod census;
mod closing;
mod details;
mod evidence;
mod explain;
mod findings;
mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod headroom;
mod limits;
mod look;
mod memory;
mod netns;
mod owners;
mod plan;
mod port_set;
mod port_table;
mod proc_net;
mod record;
mod report;
mod sock_diag;
mod socket;
mod sockopt;
mod sources;
mod sysctl;
mod taken;
mod udp;
mod verdict;
mod watch;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::FromArgMatches;

pub use args::Args;

use self::memory::Store;
use self::owners::{OpenFiles, Owners};
use self::plan::Plan;
use self::record::Recorder;
use self::report::{Facts, Sampled};
use crate::plugin::{Arguments, Plugin, Report, Run, State, options};

/// How long the kernel keeps a TIME_WAIT, in milliseconds (`TCP_TIMEWAIT_LEN`, no setting changes it).
const TIME_WAIT_MS: u32 = 60_000;
/// `--sample` rests this many times as long as a look takes: one part in twenty of one processor.
const IDLE: u32 = 19;
/// The bounds of that rest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "PORTS",
    binary: "check_port_exhaustion",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    measure(args, &Plan::try_from(args)?, run)
}

/// One look for another check: what the connections to a destination take, and what to change. `process` is one in
/// the network namespace to look at, where that is another one than ours. Nothing is kept.
pub(crate) fn explain_towards(
    destination: SocketAddr,
    process: Option<u32>,
    run: &Run,
) -> anyhow::Result<Report> {
    let mut line = vec![PLUGIN.binary.to_owned(), "--explain".to_owned()];
    line.push(format!("--destination={destination}"));
    line.extend(process.map(|pid| format!("--netns=pid:{pid}")));
    let matches = options::command::<Args>().try_get_matches_from(line)?;
    let args = Args::from_arg_matches(&matches)?;
    let plan = Plan {
        state_file: None,
        ..Plan::try_from(&args)?
    };
    measure(&args, &plan, run)
}

fn measure(args: &Args, plan: &Plan, run: &Run) -> anyhow::Result<Report> {
    let now = run.started().as_second();
    let (mut watched, mut notes) = watch::begin(plan, now)?;
    let store = plan
        .state_file
        .as_deref()
        .and_then(|path| Store::open(path, &mut notes));
    let series = args.common().series.clone();
    let journal = args.journal.open();
    let mut recorder = journal.map(|journal| Recorder::new(journal, series));
    let begun = Instant::now();
    let until = plan.sample.unwrap_or_default();
    let mut looks = 0;
    let mut open_files = OpenFiles::default();
    // What a look takes without waiting for others: the shortest so far.
    let mut cost = Duration::MAX;
    loop {
        let look = Instant::now();
        watch::look(
            &mut watched,
            plan,
            store.as_ref(),
            recorder.as_mut(),
            &mut notes,
        )?;
        looks += 1;
        cost = cost.min(look.elapsed());
        let pause = cost
            .saturating_mul(IDLE)
            .clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        let left = until.saturating_sub(begun.elapsed());
        open_files.look(&plan.proc, left.is_zero());
        if left.is_zero() || !run.sleep(pause.min(left)) {
            break;
        }
    }
    let sampled = plan.sample.map(|_| Sampled {
        looks,
        seconds: begun.elapsed().as_secs_f64(),
    });
    let (seen, kept) = watch::worst_first(watched, plan, open_files.most(), now);
    if let Some(store) = store {
        store.keep(kept, &mut notes);
    }
    let owners = match seen.first() {
        Some(worst) if plan.owners || worst.state() != State::Ok => {
            Owners::of(&plan.proc, worst.leaders_inodes.clone())
                .inspect_err(|error| notes.push(format!("the owners are not known: {error:#}")))
                .ok()
        }
        _ => None,
    };
    let facts: Vec<_> = seen
        .iter()
        .enumerate()
        .map(|(at, seen)| Facts {
            plan,
            look: &seen.look,
            headroom: &seen.headroom,
            verdict: &seen.verdict,
            counted: &seen.counted,
            neighbours: &seen.neighbours,
            owners: owners.as_ref().filter(|_| at == 0),
            sampled,
        })
        .collect();
    let mut report = report::render(&facts, &notes);
    if let Some(recorder) = &recorder {
        recorder.journal().tell(&mut report);
    }
    Ok(report)
}
