//! `check_port_exhaustion`: how many more connections the kernel grants before it says no.
//!
//! ```text
//! Args -> Plan -> [ Look: sysctl, sockets ] -> Census -> Headroom -> Verdict -> Report
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `args`, `plan` | the options, and the settings that they mean |
//! | `look` | one look: settings and sockets of a network namespace |
//! | `sysctl`, `sock_diag`, `proc_net` | where the look gets them from |
//! | `limits` | other limits that look alike when they are reached |
//! | `socket`, `port_set` | one socket; a set of ports |
//! | `census` | the sockets, counted by port, address and destination |
//! | `evidence` | who chose the ports: connect() or bind() |
//! | `headroom`, `forecast` | what the kernel still grants, and for how long |
//! | `verdict`, `report`, `explain` | the state, the words, what to change |

mod args;
mod census;
mod evidence;
mod explain;
mod forecast;
mod headroom;
mod limits;
mod look;
mod plan;
mod port_set;
mod proc_net;
mod report;
mod sock_diag;
mod socket;
mod sysctl;
mod verdict;

use std::time::{Duration, Instant};

pub use args::Args;

use self::headroom::Headroom;
use self::look::Look;
use self::plan::Plan;
use self::report::{Facts, Sampled};
use self::verdict::Verdict;
use crate::plugin::{Plugin, Report, Run};

/// How long the kernel keeps a TIME_WAIT, in milliseconds (`TCP_TIMEWAIT_LEN`, no setting changes it).
const TIME_WAIT_MS: u32 = 60_000;
/// The pause between two looks of `--sample`; a look at a busy host takes 20 ms.
const PAUSE: Duration = Duration::from_secs(1);

/// The plugin.
pub const PLUGIN: Plugin<Args> = Plugin {
    name: "PORTS",
    binary: "check_port_exhaustion",
    check,
};

fn check(args: &Args, run: &Run) -> anyhow::Result<Report> {
    let plan = Plan::try_from(args)?;
    let begun = Instant::now();
    let mut peak = Seen::now(&plan)?;
    let mut looks = 1;
    let until = plan.sample.unwrap_or_default();
    while begun.elapsed() < until && run.sleep(PAUSE.min(until.saturating_sub(begun.elapsed()))) {
        let seen = Seen::now(&plan)?;
        looks += 1;
        if seen.verdict.share >= peak.verdict.share {
            peak = seen;
        }
    }
    Ok(report::render(&Facts {
        plan: &plan,
        look: &peak.look,
        headroom: &peak.headroom,
        verdict: &peak.verdict,
        sampled: plan.sample.map(|_| Sampled {
            looks,
            seconds: begun.elapsed().as_secs_f64(),
        }),
    }))
}

/// One look and what it means.
struct Seen {
    look: Look,
    headroom: Headroom,
    verdict: Verdict,
}

impl Seen {
    fn now(plan: &Plan) -> anyhow::Result<Self> {
        let look = Look::at(plan)?;
        let headroom = Headroom::of(&look.census, &plan.named);
        let verdict = Verdict::of(&headroom, plan);
        Ok(Self {
            look,
            headroom,
            verdict,
        })
    }
}
