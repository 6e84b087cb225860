//! A report as Munin reads it: a graph for the state, and one for each unit.
//!
//! <https://guide.munin-monitoring.org/en/latest/reference/plugin.html>. One plugin answers with several graphs, which
//! takes a master that knows `multigraph` (1.4).

use std::fmt::Write;

use super::metric::plain;
use super::{Metric, Names, Range, Report, Unit, clean};

/// A node that says this takes the values along with the answer to "config", so that one run is enough.
const DIRTY_CONFIG: &str = "MUNIN_CAP_DIRTYCONFIG";

/// What Munin calls a number that is not known. It has to be there: a graph is described when it is made.
const UNKNOWN: &str = "U";

/// The units in the order of their graphs: the graph's name, its axis, its base for prefixes.
const UNITS: [(Unit, &str, &str, u16); 4] = [
    (Unit::Percent, "percent", "%", 1000),
    (Unit::None, "count", "count", 1000),
    (Unit::Seconds, "seconds", "s", 1000),
    (Unit::Bytes, "bytes", "bytes", 1024),
];

/// The values.
pub fn values(report: &Report, names: Names, series: Option<&str>) -> String {
    write(report, names, series, false, true)
}

/// What the values are, and the values where the node wants them at once.
pub fn config(report: &Report, names: Names, series: Option<&str>) -> String {
    let dirty = std::env::var_os(DIRTY_CONFIG).is_some_and(|value| value == "1");
    write(report, names, series, true, dirty)
}

fn write(
    report: &Report,
    names: Names,
    series: Option<&str>,
    config: bool,
    values: bool,
) -> String {
    let name = series.unwrap_or(names.binary);
    let graph = clean::label(name);
    let title = clean::clean_cut(name, 100);
    let mut text = format!("multigraph {graph}_state\n");
    if config {
        let _ = writeln!(
            text,
            "graph_title {title}: state\ngraph_category proxy_checks\n\
             graph_vlabel 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN\ngraph_args --lower-limit 0 --upper-limit 3\n\
             state.label state\nstate.warning 0:0\nstate.critical 0:1"
        );
    }
    if values {
        let state = report.state.exit_code();
        let _ = writeln!(
            text,
            "state.value {state}\nstate.extinfo {}",
            report.headline(names.name)
        );
    }
    for (unit, what, axis, base) in UNITS {
        let is_one = |metric: &&Metric| metric.unit_of() == unit;
        let metrics: Vec<_> = report.metrics.iter().filter(is_one).collect();
        if metrics.is_empty() {
            continue;
        }
        let _ = writeln!(text, "multigraph {graph}_{what}");
        if config {
            let _ = writeln!(
                text,
                "graph_title {title}: {what}\ngraph_category proxy_checks\ngraph_vlabel {axis}\n\
                 graph_args --base {base}"
            );
        }
        for metric in metrics {
            if config {
                describe(&mut text, metric);
            }
            if values {
                let known = metric.is_known().then(|| plain(metric.value()));
                let value = known.as_deref().unwrap_or(UNKNOWN);
                let _ = writeln!(text, "{}.value {value}", metric.label());
            }
        }
    }
    text
}

/// A field's attributes.
fn describe(text: &mut String, metric: &Metric) {
    let label = metric.label();
    let _ = writeln!(
        text,
        "{label}.label {}\n{label}.type GAUGE",
        label.replace('_', " ")
    );
    for (key, bound) in ["min", "max"].iter().zip(metric.bounds()) {
        if let Some(bound) = bound.filter(|bound| bound.is_finite()) {
            let _ = writeln!(text, "{label}.{key} {}", plain(bound));
        }
    }
    for (key, range) in ["warning", "critical"].iter().zip(metric.ranges()) {
        if let Some(range) = range.and_then(limits) {
            let _ = writeln!(text, "{label}.{key} {range}");
        }
    }
}

/// Munin's ranges are those of Nagios but for an end without limit, which is empty, and the inverted ones, which it
/// does not know.
fn limits(range: Range) -> Option<String> {
    let text = range.to_string();
    (!text.starts_with('@')).then(|| text.replace('~', ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::State;

    #[test]
    fn the_answer_to_config_describes_every_value() {
        let names = Names {
            name: "PORTS",
            binary: "check_port_exhaustion",
        };
        let mut report = Report::new(State::Warning, "half of the ports are used");
        let limits = [Some(Range::up_to(50.0)), "@1:2".parse().ok()];
        let used = Metric::percent("connect_used", 51.25).limits(limits[0], limits[1]);
        report.metrics.push(Metric::count("sockets", 12));
        report.metrics.push(used);
        report.metrics.push(Metric::seconds("left", f64::NAN));
        assert_eq!(
            write(&report, names, Some("on proxy 1"), true, false),
            "multigraph on_proxy_1_state
graph_title on proxy 1: state
graph_category proxy_checks
graph_vlabel 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
graph_args --lower-limit 0 --upper-limit 3
state.label state
state.warning 0:0
state.critical 0:1
multigraph on_proxy_1_percent
graph_title on proxy 1: percent
graph_category proxy_checks
graph_vlabel %
graph_args --base 1000
connect_used.label connect used
connect_used.type GAUGE
connect_used.min 0
connect_used.max 100
connect_used.warning 50
multigraph on_proxy_1_count
graph_title on proxy 1: count
graph_category proxy_checks
graph_vlabel count
graph_args --base 1000
sockets.label sockets
sockets.type GAUGE
sockets.min 0
multigraph on_proxy_1_seconds
graph_title on proxy 1: seconds
graph_category proxy_checks
graph_vlabel s
graph_args --base 1000
left.label left
left.type GAUGE
left.min 0
"
        );
        assert_eq!(
            values(&report, names, None),
            "multigraph check_port_exhaustion_state
state.value 1
state.extinfo PORTS WARNING: half of the ports are used
multigraph check_port_exhaustion_percent
connect_used.value 51.25
multigraph check_port_exhaustion_count
sockets.value 12
multigraph check_port_exhaustion_seconds
left.value U
"
        );
    }
}
