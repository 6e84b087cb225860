//! What stands beside the words: performance data and long output, held against those of `check_http`.

use std::collections::BTreeMap;

/// What `check_http_retry` adds, in every run with a good probe.
const OURS: [&str; 12] = [
    "attempts",
    "failed",
    "failure_rate",
    "time_p50",
    "time_p95",
    "time_p99",
    "time_max",
    "dns_p95",
    "connect_p95",
    "tls_p95",
    "first_byte_p95",
    "transfer_p95",
];

/// A value's unit, the value itself where it can be compared, and warning, critical, minimum and maximum.
type Metric<'a> = (&'a str, &'a str, [&'a str; 4]);

fn metrics(line: &str) -> BTreeMap<&str, Metric<'_>> {
    let perfdata = line.split_once('|').map_or("", |(_, perfdata)| perfdata);
    let metric = |item| -> Option<(&str, Metric<'_>)> {
        let (label, value) = str::split_once(item, '=')?;
        let mut fields = value.split(';');
        let value = fields.next()?;
        let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &value[..value.len() - unit.len()];
        let mut field = || fields.next().unwrap_or_default();
        let fields = [field(), field(), field(), field()];
        Some((label.trim_matches('\''), (unit, number, fields)))
    };
    perfdata.split_whitespace().filter_map(metric).collect()
}

/// Where the labels, units, sizes and thresholds are others than theirs, but for what the docs name.
pub fn differing_metrics(theirs: &str, ours: &str, same_size: bool) -> Option<String> {
    let (theirs_all, mut ours_all) = (metrics(theirs), metrics(ours));
    ours_all.retain(|label, _| !OURS.contains(label));
    let same = if theirs_all.is_empty() {
        // Theirs are left out where there is no verdict on size and time.
        ours_all
            .keys()
            .all(|label| *label == "size" || label.starts_with("time"))
    } else {
        theirs_all.keys().eq(ours_all.keys())
            && theirs_all.iter().all(|(label, theirs)| {
                let ours = ours_all[label];
                let compared = *label == "size" && same_size;
                theirs.0 == ours.0
                    && (theirs.1 == ours.1 || !compared)
                    && std::iter::zip(theirs.2, ours.2)
                        .enumerate()
                        .all(|(at, (theirs, ours))| same_bound(label, at, theirs, ours))
            })
    };
    (!same).then(|| format!("ours   {ours_all:?}\n  theirs {theirs_all:?}"))
}

/// A bound of theirs is a number with six digits; of a range there is its end, of `-m` the least size.
fn same_bound(label: &str, at: usize, theirs: &str, ours: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    match (label, at) {
        ("size", 0) => number(theirs) == ours.split_once(':').and_then(|(least, _)| number(least)),
        ("size", 1) => ours.is_empty(),
        // No limit at all is a zero there.
        ("time", 3) if number(theirs) == Some(0.0) => ours.is_empty(),
        ("time", 0 | 1) if ours.contains(['@', ':']) => {
            let end = ours.rsplit(['@', ':']).next().unwrap_or_default();
            number(theirs) == Some(number(end).unwrap_or(0.0))
        }
        _ => number(theirs) == number(ours),
    }
}

/// Where there are other lines below the first one.
pub fn differing_lines(theirs: &str, ours: &str) -> Option<String> {
    let (theirs_all, ours_all) = (lines(theirs), lines(ours));
    (theirs_all != ours_all).then(|| format!("ours   {ours_all:?}\n  theirs {theirs_all:?}"))
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .skip(1)
        .map(str::trim_end)
        // The second line of a failed connection says less than the first one; errors of OpenSSL are on our first
        // line, and empty lines are those of the page.
        .filter(|line| {
            let openssl = line.contains(":error:") && line.contains(":SSL routines:");
            !(line.is_empty() || openssl || *line == "HTTP CRITICAL - Unable to open TCP socket")
        })
        // What an echo tells of who asked, and how.
        .filter(|line| {
            let asker = [
                "User-Agent: ",
                "Host: ",
                "Accept: ",
                "Accept-Encoding: ",
                "Connection: ",
                "Content-Length: ",
            ];
            !asker.iter().any(|start| line.starts_with(start))
        })
        .collect()
}
