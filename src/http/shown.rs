//! What a report shows of one exchange: URL, page, certificates, the beginning of a reply. No I/O.

use super::by_path;
use super::evidence::comparison;
use super::plan::Plan;
use super::probe::Probe;
use super::report::failure_line;
use super::summary::Summary;
use crate::plugin::Report;
use crate::plugin::clean::clean_cut;

/// How many lines of a failing reply `--until` shows.
const EVIDENCE_LINES: usize = 40;

/// What `-L` and `-B` ask for. Line by line, so that a page is read as one, and stays a text whatever it holds.
pub(super) fn shown_things(report: &mut Report, plan: &Plan, shown: Option<&Probe>) {
    if plan.show.url {
        for path in &plan.paths {
            report.line(0, path.target.url());
        }
    }
    let page = shown.map_or(&[][..], |probe| &probe.page);
    for line in page.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if plan.show.page {
            report.line(0, clean_cut(line, 1000));
        }
    }
}

/// The failing probe that the first line speaks of, with the beginning of what the server sent: nobody was there to
/// look when `--until` caught it.
pub(super) fn evidence(report: &mut Report, plan: &Plan, summary: &Summary) {
    let Some(probe) = &summary.worst else {
        return;
    };
    report.line(0, by_path::with_path(plan, probe, failure_line(probe)));
    let mut received = probe.received.clone();
    if let Some(mask) = &plan.evidence.mask {
        mask.apply(&mut received);
    }
    let received = received.trim_ascii_end();
    if received.is_empty() {
        return;
    }
    for line in received.split(|b| *b == b'\n').take(EVIDENCE_LINES) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        report.line(0, format!("< {}", clean_cut(line, 300)));
    }
}

/// The failing probe that the first line speaks of beside a good one, and what there is to say about the evidence.
pub(super) fn compared(report: &mut Report, plan: &Plan, summary: &Summary) {
    let paths: Vec<_> = plan.paths.iter().map(|path| path.name.clone()).collect();
    let kept = &summary.evidence;
    match (&summary.worst, &kept.beside) {
        (Some(failed), Some(good)) => {
            for line in comparison(&paths, failed, good, plan.evidence.mask.as_ref()) {
                report.line(1, line);
            }
        }
        (Some(_), None) => report.line(1, "there is no good probe to compare the failed one with"),
        (None, _) => {}
    }
    for (from, note) in &kept.notes {
        report.line(*from, note);
    }
}

/// The certificates of the probe that the first line speaks of.
pub(super) fn chain(report: &mut Report, shown: Option<&Probe>) {
    let chain = shown.map_or(&[][..], |probe| &probe.chain);
    for (at, link) in chain.iter().enumerate() {
        report.line(
            1,
            format!(
                "certificate {} of {}: '{}' by '{}', {} days left, until {}",
                at + 1,
                chain.len(),
                clean_cut(&link.name, 100),
                clean_cut(&link.issuer, 100),
                link.days,
                link.until()
            ),
        );
    }
}
