//! Logs in another zone than this host's, told or inferred.

use std::fs::File;

use super::look;
use crate::support::growing_log::{BIND, GrowingLog};
use crate::support::plugin::{outcome, plugin};

#[test]
fn a_log_in_another_zone_is_read_in_it() {
    let mut log = GrowingLog::new();
    let there = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
    let there = there.strftime("%Y/%m/%d %H:%M:%S").to_string();
    let line = log.line(60, BIND, "log3:8080");
    log.append(format!("{there}{}", &line[there.len()..]));
    let code = |options: &[&str]| outcome(log.check().args(options)).code;
    assert_eq!(code(&["--log-tz", "+05:00"]), Some(2));
    assert_eq!(code(&["--log-tz", "Asia/Karachi"]), Some(2));
    assert_eq!(code(&["--log-tz", "-03:00"]), Some(0));
    assert_eq!(code(&["--log-tz", "nowhere"]), Some(3));
}

#[test]
fn the_zone_of_a_log_is_inferred_where_it_shows() {
    let mut log = GrowingLog::new();
    let there = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
    let there = there.strftime("%Y/%m/%d %H:%M:%S").to_string();
    let line = log.line(0, BIND, "log3:8080");
    log.append(format!("{there}{}", &line[there.len()..]));
    let found = look(&log);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(found.text.contains("UTC+05:00"), "{}", found.text);
    let minute = there[11..16].to_owned();
    assert!(found.text.contains(&minute), "{}", found.text);
    // A minute later nothing shows it any more, and it is remembered.
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(77);
    File::options()
        .append(true)
        .open(log.path())
        .and_then(|file| file.set_modified(earlier))
        .unwrap();
    assert_eq!(look(&log).code, Some(2));
    // What is given counts.
    let given = outcome(log.check().args(["--log-tz", "UTC"]));
    assert_eq!(given.code, Some(0), "{}", given.text);
    // A look back asks for the log's own time.
    let back = outcome(log.check().args(["--since", &minute]));
    assert!(!back.text.contains("is no time"), "{}", back.text);
}

#[test]
fn a_look_back_at_what_a_pattern_names_is_in_the_time_of_the_log() {
    let mut log = GrowingLog::new();
    let there = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(5)));
    let line = log.line(0, BIND, "log3:8080");
    let form = "%Y/%m/%d %H:%M:%S";
    log.append(format!("{}{}", there.strftime(form), &line[19..]));
    let around = |minutes: i64| {
        let time = there.checked_add(jiff::SignedDuration::from_mins(minutes));
        time.unwrap().strftime("%Y-%m-%d %H:%M").to_string()
    };
    let pattern = log.path().with_file_name("erro?.log");
    for file in [log.path(), pattern] {
        let mut check = plugin("check_nginx_upstream_bind");
        check.arg("-f").arg(&file);
        check.args(["--since", &around(-5), "--before", &around(5)]);
        let found = outcome(&mut check);
        assert_eq!(found.code, Some(2), "{}: {}", file.display(), found.text);
    }
}

#[test]
fn the_zone_of_a_container_shows_in_what_docker_puts_around_its_lines() {
    let mut log = GrowingLog::new();
    let there = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::fixed(jiff::tz::offset(-8)));
    let there = there.strftime("%Y/%m/%d %H:%M:%S").to_string();
    let line = log.line(0, BIND, "log3:8080");
    let now = jiff::Timestamp::now();
    log.append(format!("{now} stderr F {there}{}", &line[there.len()..]));
    let found = look(&log);
    assert_eq!(found.code, Some(2), "{}", found.text);
    assert!(found.text.contains("UTC-08:00"), "{}", found.text);
}
