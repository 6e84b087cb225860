//! What a report says of connections that were reused (`--keepalive`): what is tested then is something else. No I/O.

use std::fmt::Write;

use super::page::PageUse;
use super::plan::Plan;
use super::pool::Use;
use super::summary::{Part, Summary};
use crate::plugin::{Metric, Report};

/// `, 9 on reused connections`
pub(super) fn headline(plan: &Plan, summary: &Summary) -> String {
    match (
        plan.pace.keepalive,
        summary.attempts,
        summary.reused.attempts,
    ) {
        (false, ..) => String::new(),
        (_, 1, 0) => ", on a new connection".to_owned(),
        (_, 1, _) => ", on a reused connection".to_owned(),
        (_, _, reused) => format!(", {reused} on reused connections"),
    }
}

/// How probes on new connections fared beside those on reused ones, and what became of the connections.
pub(super) fn lines(report: &mut Report, plan: &Plan, summary: &Summary) {
    if !plan.pace.keepalive || summary.attempts == 0 {
        return;
    }
    let of = |part: Part| format!("{} of {}", part.failed, part.attempts);
    let new = Part {
        attempts: summary.attempts - summary.reused.attempts,
        failed: summary.failed - summary.reused.failed,
    };
    report.line(
        u8::from(summary.failed == 0),
        format!(
            "probes that failed on new connections: {}, on reused ones: {}",
            of(new),
            of(summary.reused)
        ),
    );
    let Use {
        opened,
        reused,
        closed,
        resent,
    } = summary.connections;
    let mut text =
        format!("connections: {opened} opened, {reused} requests over one that was there");
    if closed > 0 {
        let _ = write!(text, "; {closed} closed by the server in between");
    }
    if resent > 0 {
        let _ = write!(
            text,
            "; {resent} closed while a request was on its way, which was sent again on a new one"
        );
    }
    report.line(1, text);
    if reused == 0 && opened > 1 {
        report.line(
            0,
            if plan.page == PageUse::Unread {
                "--keepalive: no connection could be reused: -N leaves the page on it"
            } else {
                "--keepalive: no connection could be reused: the server, or a proxy, ends them"
            },
        );
    }
}

/// How many connections were opened, and how many probes needed none.
pub(super) fn metrics(plan: &Plan, summary: &Summary) -> Vec<Metric> {
    if !plan.pace.keepalive {
        return Vec::new();
    }
    vec![
        Metric::count("connections", summary.connections.opened),
        Metric::count("reused", summary.reused.attempts),
    ]
}
