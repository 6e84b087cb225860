//! Apache: `[Mon Nov 23 05:00:00.123456 2026] [proxy:error] [pid 7:tid 7] (99)Cannot assign requested address: AH00957:
//! http: attempt to connect to 127.0.0.1:9002 (127.0.0.1:9002) failed`. The number of the message says what failed,
//! that in front of it why. What belongs to a request ends up as a second message, which is not counted.

use jiff::civil::DateTime;
use memchr::{memchr, memmem, memrchr};

use super::super::cause::Cause;
use super::super::clock::{When, month};
use super::super::fields::Parties;
use super::Told;

/// The time that a line begins with.
pub fn time(text: &[u8]) -> Option<When> {
    // [Mon Nov 23 05:00:00.123456 2026]
    let inner = text.strip_prefix(b"[")?;
    let inner = &inner[..memchr(b']', &inner[..inner.len().min(40)])?];
    let mut words = std::str::from_utf8(inner).ok()?.split_ascii_whitespace();
    let (_, name, day) = (words.next()?, words.next()?, words.next()?);
    let (clock, year) = (words.next()?, words.next()?);
    let mut parts = clock.split([':', '.']).map(str::parse::<i8>);
    let mut part = || parts.next()?.ok();
    let (hour, minute, second) = (part()?, part()?, part()?);
    let (year, day) = (year.parse().ok()?, day.parse().ok()?);
    let time = DateTime::new(year, month(name)?, day, hour, minute, second, 0);
    time.ok().map(When::Local)
}

/// What a line says of an upstream's failure.
pub fn read(text: &[u8]) -> Option<Told<'_>> {
    let at = [&b": AH"[..], b"] AH"]
        .iter()
        .filter_map(|before| memmem::find(text, before))
        .min()?;
    let code = text.get(at + 4..at + 9)?;
    let (before, message) = (&text[..at], &text[at + 9..]);
    let number = number(before);
    let cause = match code {
        // attempt to connect to … failed; failed to enable ssl is another
        b"00957" => match number? {
            99 if is_ipv6(message) => Cause::Ipv6Unavailable,
            errno => by_number(errno),
        },
        // failed to bind socket to local address
        b"00956" => match number? {
            98 => Cause::BindInUse,
            99 => Cause::BindWrongAddress,
            errno => by_number(errno),
        },
        // Error reading from remote server, error reading status line from remote server
        b"01102" | b"01110" => match number {
            Some(errno @ (104 | 110 | 70007)) => by_number(errno),
            _ => Cause::ClosedEarly,
        },
        // DNS lookup failure for: …; what else it says has been told by another message.
        b"00898" if message.starts_with(b": DNS lookup failure ") => Cause::Resolver,
        // disabled connection for; all workers are in error state
        b"00940" | b"01167" => Cause::NoLiveUpstreams,
        b"02003" | b"01961" => Cause::Tls,
        // server reached MaxRequestWorkers
        b"00484" | b"00161" => Cause::WorkerConnections,
        // make_sock: could not bind to address …
        b"00072" if number == Some(98) => Cause::ListenConflict,
        _ => return None,
    };
    let upstream = memmem::find(message, b" connect to ").map(|at| word(&message[at + 12..]));
    let lookup = || memmem::find(message, b" failure for: ").map(|at| word(&message[at + 14..]));
    let disabled = || memmem::find(message, b" for (").map(|at| within(&message[at + 6..]));
    let client = memmem::find(text, b"[client ").map(|at| &text[at + 8..]);
    let address = client.and_then(|rest| {
        let address = &rest[..memchr(b']', rest)?];
        Some(&address[..memrchr(b':', address).unwrap_or(address.len())])
    });
    Some(Told {
        cause,
        parties: Parties {
            upstream: upstream.or_else(lookup).or_else(disabled),
            client: address,
            ..Parties::default()
        },
        sums_up: None,
    })
}

/// The number in `(99)Cannot assign requested address`, right behind the brackets of the header.
fn number(before: &[u8]) -> Option<u32> {
    let open = memmem::find(before, b"] (")? + 3;
    let digits = &before[open..open + memchr(b')', &before[open..])?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn by_number(errno: u32) -> Cause {
    match errno {
        24 => Cause::NoFileDescriptors,
        98 => Cause::BindInUse,
        99 => Cause::NoFreePort,
        101 | 113 => Cause::Unreachable,
        104 => Cause::Reset,
        // The second is APR's own.
        110 | 70007 => Cause::Timeout,
        111 => Cause::Refused,
        _ => Cause::OtherUpstream,
    }
}

fn is_ipv6(message: &[u8]) -> bool {
    memmem::find(message, b" connect to [").is_some()
        || memmem::find(message, b" (").is_some_and(|at| message[at + 2..].first() == Some(&b'['))
}

fn word(text: &[u8]) -> &[u8] {
    &text[..memchr(b' ', text).unwrap_or(text.len())]
}

fn within(text: &[u8]) -> &[u8] {
    &text[..memchr(b')', text).unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_are_those_of_2_4() {
        let head = "[Mon Nov 23 11:31:29.947569 2026] [proxy:error] [pid 7:tid 8] ";
        for (message, cause, upstream) in [
            (
                "(99)Cannot assign requested address: AH00957: http: attempt to connect to 127.0.0.1:9002 (127.0.0.1:9002) failed",
                Cause::NoFreePort,
                Some("127.0.0.1:9002"),
            ),
            (
                "(99)Address not available: AH00957: HTTP: attempt to connect to [2001:db8::1]:80 (v6.example:80) failed",
                Cause::Ipv6Unavailable,
                Some("[2001:db8::1]:80"),
            ),
            (
                "(111)Connection refused: AH00957: http: attempt to connect to 127.0.0.1:9099 (127.0.0.1:9099) failed",
                Cause::Refused,
                Some("127.0.0.1:9099"),
            ),
            (
                "(101)Network is unreachable: AH00957: http: attempt to connect to 192.0.2.10:80 (192.0.2.10:80) failed",
                Cause::Unreachable,
                Some("192.0.2.10:80"),
            ),
            (
                "(98)Address already in use: AH00956: http: failed to bind socket to local address",
                Cause::BindInUse,
                None,
            ),
            (
                "(EAI 3)Temporary failure in name resolution: [client 192.0.2.9:20006] AH00898: DNS lookup failure for: nowhere.invalid returned by /dns",
                Cause::Resolver,
                Some("nowhere.invalid"),
            ),
            (
                "(70007)The timeout specified has expired: [client 192.0.2.9:5] AH01102: error reading status line from remote server 127.0.0.1:9002",
                Cause::Timeout,
                None,
            ),
            (
                "(20014)Internal error: [client 192.0.2.9:5] AH01102: error reading status line from remote server 127.0.0.1:9002",
                Cause::ClosedEarly,
                None,
            ),
            (
                "AH00940: HTTP: disabled connection for (127.0.0.1:9099)",
                Cause::NoLiveUpstreams,
                Some("127.0.0.1:9099"),
            ),
        ] {
            let line = format!("{head}{message}");
            let told = read(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
            let upstream = upstream.map(str::as_bytes);
            assert_eq!(
                (told.cause, told.parties.upstream),
                (cause, upstream),
                "{line}"
            );
            let client = line.contains("192.0.2.9").then_some(&b"192.0.2.9"[..]);
            assert_eq!(told.parties.client, client, "{line}");
            assert!(time(line.as_bytes()).is_some());
        }
        for message in [
            "[client 127.0.0.1:20000] AH01114: HTTP: failed to make connection to backend: 127.0.0.1",
            "[client 127.0.0.1:20000] AH00898: Error reading from remote server returned by /silent",
            "[client 127.0.0.1:20000] AH00128: File does not exist: /srv/AH00957: (99)",
            "nothing",
        ] {
            assert_eq!(
                read(format!("{head}{message}").as_bytes()),
                None,
                "{message}"
            );
        }
    }
}
