//! Where the axis of a picture has its ticks: at times that are round on the local clock.

use jiff::civil::DateTime;

use super::document::Window;

const DAY: i64 = 86_400;

/// How far ticks may be apart, in seconds.
const STEPS: [i64; 23] = [
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    DAY,
    2 * DAY,
    7 * DAY,
    14 * DAY,
    30 * DAY,
    LAST,
];

/// The last of them.
const LAST: i64 = 90 * DAY;

/// The bins that begin at a round time, at most about so many, each with what to write there.
pub fn ticks(window: &Window, most: i64) -> Vec<(usize, String)> {
    let local: Vec<i64> = window.labels.iter().map(|label| seconds(label)).collect();
    let (Some(first), Some(last)) = (local.first(), local.last()) else {
        return Vec::new();
    };
    let step = STEPS.into_iter().find(|step| (last - first) / step <= most);
    // Beyond the widest, as many of it as it takes.
    let step = step.unwrap_or_else(|| LAST * ((last - first) / (LAST * most) + 1));
    let is_round = |at: usize| match at.checked_sub(1) {
        // Bins need not begin at a round time themselves: one of them holds it.
        Some(before) => local[at].div_euclid(step) != local[before].div_euclid(step),
        None => local[at].rem_euclid(step) == 0,
    };
    (0..local.len())
        .filter(|at| is_round(*at))
        .map(|at| (at, text(&window.labels[at], step)))
        .collect()
}

/// What the local clock shows, in seconds.
fn seconds(label: &str) -> i64 {
    let time = label
        .get(..19)
        .and_then(|time| DateTime::strptime("%Y-%m-%d %H:%M:%S", time).ok());
    time.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map_or(0, |time| time.timestamp().as_second())
}

/// Year and month, month and day, hour and minute, or the second as well.
fn text(label: &str, step: i64) -> String {
    let part = |from: usize, to: usize| label.get(from..to).unwrap_or_default();
    if step > LAST {
        return part(0, 7).to_owned();
    }
    if step >= DAY || part(11, 19) == "00:00:00" {
        return part(5, 10).to_owned();
    }
    let end = if step < 60 { 19 } else { 16 };
    format!("{}{}", part(11, end), label.get(19..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: &str, step: i64, bins: usize) -> Window {
        let start: jiff::Timestamp = start.parse().unwrap();
        let label = |at: usize| {
            let second = start.as_second() + step * i64::try_from(at).unwrap();
            let time = jiff::Timestamp::from_second(second).unwrap();
            time.strftime("%Y-%m-%d %H:%M:%S").to_string()
        };
        Window {
            from: String::new(),
            to: String::new(),
            start: start.as_second(),
            step,
            bins,
            labels: (0..bins).map(label).collect(),
        }
    }

    fn shown(window: &Window) -> Vec<(usize, String)> {
        ticks(window, 8)
    }

    #[test]
    fn ticks_stand_at_round_times() {
        let texts = |window: &Window| -> Vec<String> {
            shown(window).into_iter().map(|(_, text)| text).collect()
        };
        let hour = window("2026-11-23T05:00:00Z", 60, 60);
        let expected: Vec<(usize, String)> = (0..6)
            .map(|n| (n * 10, format!("05:{:02}", n * 10)))
            .collect();
        assert_eq!(shown(&hour), expected);
        let odd = window("2026-11-23T05:07:00Z", 60, 60);
        assert_eq!(shown(&odd)[0], (3, "05:10".to_owned()));
        let seconds = window("2026-11-23T05:00:57Z", 1, 8);
        assert_eq!(texts(&seconds)[3], "05:01:00");
        let night = window("2026-11-22T21:00:00Z", 60, 540);
        assert_eq!(texts(&night)[..4], ["21:00", "22:00", "23:00", "11-23"]);
        // Hours that begin at half past, as in zones that are half an hour off.
        let half = window("2026-11-22T21:30:00Z", 3600, 24);
        assert_eq!(
            shown(&half)[..2],
            [(3, "00:30".to_owned()), (6, "03:30".to_owned())]
        );
        let weeks = window("2026-11-01T00:00:00Z", 86_400, 60);
        assert!(shown(&weeks).len() <= 9, "{:?}", shown(&weeks));
        let century = window("1926-11-01T00:00:00Z", 10 * DAY, 3650);
        assert!(
            (4..=9).contains(&shown(&century).len()),
            "{:?}",
            shown(&century)
        );
        assert!(
            texts(&century)[0].starts_with("19"),
            "{:?}",
            texts(&century)
        );
        assert!(shown(&window("2026-11-23T05:00:00Z", 60, 0)).is_empty());
        assert_eq!(shown(&window("2026-11-23T05:00:00Z", 60, 1)).len(), 1);
    }
}
