//! A report as OpenMetrics text, for the textfile collector of Prometheus' node_exporter.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. The collector reads all files of its folder into one
//! exposition, so that each name may have one help text only, and each of its series must differ in a label: `check`.

use std::fmt::Write;

use super::metric::plain;
use super::{Metric, Names, Report, Unit, clean};

/// The whole exposition: a gauge for the state, and one for each metric.
pub fn render(report: &Report, names: Names, series: Option<&str>) -> String {
    let check = escape(series.unwrap_or(names.binary));
    let state = f64::from(report.state.exit_code());
    let help = "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN";
    let mut text = String::new();
    gauge(
        &mut text,
        &format!("{}_state", names.binary),
        "",
        help,
        &check,
        state,
    );
    for metric in report.metrics.iter().filter(|metric| metric.is_known()) {
        let unit = unit(metric.unit_of());
        let name = with_unit(&format!("{}_{}", names.binary, metric.label()), unit);
        gauge(
            &mut text,
            &name,
            unit,
            &help_of(metric),
            &check,
            metric.value(),
        );
    }
    text.push_str("# EOF\n");
    text
}

fn gauge(text: &mut String, name: &str, unit: &str, help: &str, check: &str, value: f64) {
    let _ = writeln!(text, "# TYPE {name} gauge");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "{name}{{check=\"{check}\"}} {}", plain(value));
}

/// The performance data item that it is.
fn help_of(metric: &Metric) -> String {
    format!("The performance data item {}", metric.label())
}

/// The unit that a name must end in.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::None => "",
        Unit::Seconds => "seconds",
        Unit::Percent => "percent",
        Unit::Bytes => "bytes",
    }
}

fn with_unit(name: &str, unit: &str) -> String {
    let has_it = name
        .strip_suffix(unit)
        .is_some_and(|start| start.ends_with('_'));
    if unit.is_empty() || has_it {
        name.to_owned()
    } else {
        format!("{name}_{unit}")
    }
}

/// A label's value between its quotes.
fn escape(text: &str) -> String {
    clean::clean_cut(text, 200)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::State;

    const NAMES: Names = Names {
        name: "PORTS",
        binary: "check_port_exhaustion",
    };

    #[test]
    fn each_metric_is_a_gauge_whose_name_ends_in_its_unit() {
        let mut report = Report::new(State::Critical, "no port left");
        report.metrics.push(Metric::percent("connect_used", 99.5));
        report.metrics.push(Metric::count("sockets", 12));
        report.metrics.push(Metric::new("unknown", f64::NAN));
        assert_eq!(
            render(&report, NAMES, Some("a\"b\\c\nd")),
            "# TYPE check_port_exhaustion_state gauge
# HELP check_port_exhaustion_state 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
check_port_exhaustion_state{check=\"a\\\"b\\\\c\\\\nd\"} 2
# TYPE check_port_exhaustion_connect_used_percent gauge
# UNIT check_port_exhaustion_connect_used_percent percent
# HELP check_port_exhaustion_connect_used_percent The performance data item connect_used
check_port_exhaustion_connect_used_percent{check=\"a\\\"b\\\\c\\\\nd\"} 99.5
# TYPE check_port_exhaustion_sockets gauge
# HELP check_port_exhaustion_sockets The performance data item sockets
check_port_exhaustion_sockets{check=\"a\\\"b\\\\c\\\\nd\"} 12
# EOF
"
        );
    }
}
