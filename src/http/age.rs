//! How old a page is, by its server's own clock, as `-M` asks.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::reply::Reply;
use crate::plugin::State;

/// How far ahead of the server's clock a page may be dated.
const AHEAD: i64 = 30;

/// Judges `Last-Modified` by `Date`; `None` where the page is young enough.
pub fn judge(reply: &Reply, limit: Duration) -> Option<(State, String)> {
    let Some(date) = reply.header("date").filter(|text| !text.is_empty()) else {
        return Some((State::Unknown, "Server date unknown".to_owned()));
    };
    let Some(modified) = reply
        .header("last-modified")
        .filter(|text| !text.is_empty())
    else {
        let words = "Document modification date unknown".to_owned();
        return Some((State::Critical, words));
    };
    let unparsable = |what, text| {
        let words = format!("{what} date \"{text}\" unparsable");
        Some((State::Critical, words))
    };
    let Some(now) = parse(&date) else {
        return unparsable("Server", date);
    };
    let Some(then) = parse(&modified) else {
        return unparsable("Document", modified);
    };
    let age = now.as_second() - then.as_second();
    let words = if age < -AHEAD {
        format!("Document is {} seconds in the future", -age)
    } else if u64::try_from(age).unwrap_or(0) <= limit.as_secs() {
        return None;
    } else if age > 2 * 86_400 {
        format!("Last modified {:.1} days ago", age as f64 / 86_400.0)
    } else {
        let (hours, minutes, seconds) = (age / 3600, age / 60 % 60, age % 60);
        format!("Last modified {hours}:{minutes:02}:{seconds:02} ago")
    };
    Some((State::Critical, words))
}

/// The form that RFC 9110 wants sent, whatever day of the week it names.
fn parse(text: &str) -> Option<Timestamp> {
    let parser = DateTimeParser::new().relaxed_weekday(true);
    parser.parse_timestamp(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_old_as_its_server_says() {
        let now = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
        for (headers, limit, words) in [
            (
                format!("{now}\r\nLast-Modified: Sun, 06 Nov 1994 06:49:37 GMT"),
                3600,
                Some("Last modified 2:00:00 ago"),
            ),
            (
                format!("{now}\r\nLast-Modified: Sun, 06 Nov 1994 06:49:37 GMT"),
                7200,
                None,
            ),
            (
                format!("{now}\r\nLast-Modified: Tue, 01 Nov 1994 20:49:37 GMT"),
                1,
                Some("Last modified 4.5 days ago"),
            ),
            (
                format!("{now}\r\nLast-Modified: Sun, 06 Nov 1994 08:50:37 GMT"),
                1,
                Some("Document is 60 seconds in the future"),
            ),
            (
                format!("{now}\r\nLast-Modified: soon"),
                1,
                Some("Document date \"soon\" unparsable"),
            ),
            // It was a Sunday.
            (
                format!("{now}\r\nLast-Modified: Mon, 06 Nov 1994 06:49:37 GMT"),
                3600,
                Some("Last modified 2:00:00 ago"),
            ),
            (
                now.to_owned(),
                1,
                Some("Document modification date unknown"),
            ),
            (String::new(), 1, Some("Server date unknown")),
        ] {
            let reply = Reply {
                head: format!("HTTP/1.1 200 OK\r\n{headers}\r\n").into_bytes(),
                ..Reply::default()
            };
            let judged = judge(&reply, Duration::from_secs(limit)).map(|(_, words)| words);
            assert_eq!(judged.as_deref(), words, "{headers}");
        }
    }
}
