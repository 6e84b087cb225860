//! The paths' performance data, in all forms.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{FaultServer, Outcome, every, good, outcome, plugin, probe};
use crate::support::daemons;
use crate::support::sockets::refusing;

/// The labels of the performance data.
fn labels(outcome: &Outcome) -> Vec<String> {
    let items = daemons::icinga(&outcome.text).perfdata;
    let label = |item: String| item.split_once('=').unwrap().0.to_owned();
    items.into_iter().map(label).collect()
}

#[test]
fn labels_are_clean_unique_and_the_same_in_every_run() {
    let (fine, flaky) = (good(), FaultServer::start(every(2)));
    let (_nobody, dead) = refusing();
    let words = |first: SocketAddr| {
        let mut command = plugin("check_http_retry");
        command.args(["-H", "service1.example", "--attempts", "4"]);
        for name in ["a.b", "a_b", "x|y ' ::z", "größe"] {
            command.args(["--via", &format!("{name}={first}")]);
        }
        // Icinga passes a macro that is empty as an empty argument.
        command.args(["--via", "", "--via", &format!("fine={}", fine.address)]);
        command
    };
    let ends = ["a_b", "a_b_2", "x_y_____z", "gr__e", "fine"];
    let mut before = Vec::new();
    for (address, failed) in [(fine.address, 0), (flaky.address, 2), (dead, 4)] {
        let outcome = outcome(&mut words(address));
        let labels = labels(&outcome);
        let paths: Vec<_> = labels
            .iter()
            .filter_map(|l| l.strip_prefix("failed_"))
            .collect();
        assert_eq!(paths, ends, "{}", outcome.text);
        let unique: BTreeSet<_> = labels.iter().collect();
        assert_eq!(unique.len(), labels.len(), "{labels:?}");
        assert_eq!(outcome.metric("failed_fine"), Some(0.0));
        if failed != 2 {
            assert_eq!(outcome.metric("failed_a_b_2"), Some(f64::from(failed)));
        }
        assert_eq!(outcome.metric("paths"), Some(5.0));
        let of_paths = |labels: &[String]| -> Vec<String> {
            let ours = labels
                .iter()
                .filter(|l| l.starts_with("failed") || l.starts_with("paths"));
            ours.cloned().collect()
        };
        let now = of_paths(&labels);
        assert!(before.is_empty() || before == now, "{before:?} {now:?}");
        before = now;
        assert_eq!(outcome.text.matches('|').count(), 1, "{}", outcome.text);
    }
}

#[test]
fn the_forms_for_prometheus_and_munin_have_each_path() {
    let (one, other) = (good(), FaultServer::start(every(2)));
    let vias = format!(
        "--via one={} --via the.other={} --attempts 4",
        one.address, other.address
    );
    let text = probe(&format!("{vias} --format openmetrics")).text;
    for line in [
        "# TYPE check_http_retry_failed_the_other gauge\n",
        "check_http_retry_failed_the_other{check=\"check_http_retry\"} 2\n",
        "check_http_retry_failed_one{check=\"check_http_retry\"} 0\n",
        "check_http_retry_paths_intermittent{check=\"check_http_retry\"} 1\n",
    ] {
        assert!(text.contains(line), "no {line}: {text}");
    }
    let config = probe(&format!("{vias} --format munin-config")).text;
    let values = probe(&format!("{vias} --format munin")).text;
    for field in ["failed_one", "failed_the_other", "paths_down"] {
        assert!(config.contains(&format!("\n{field}.label ")), "{config}");
        assert!(values.contains(&format!("\n{field}.value ")), "{values}");
    }
}
