//! What nobody else may read: found by the names of headers and parameters, and by what the user gave, wherever it comes
//! up again. A secret becomes as many asterisks: what is around it stays where it was. No I/O.

use std::ops::Range;

use memchr::memmem;

/// Names that hold one of these are those of secrets.
const WORDS: [&str; 15] = [
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "api-key",
    "api_key",
    "apikey",
    "access-key",
    "access_key",
    "credential",
    "session",
    "signature",
    "jwt",
];

/// Names that are these.
const NAMES: [&str; 7] = ["auth", "x-auth", "key", "sig", "pwd", "pass", "sid"];

/// Kinds of authorization.
const SCHEMES: [&str; 8] = [
    "basic",
    "bearer",
    "digest",
    "negotiate",
    "ntlm",
    "token",
    "apikey",
    "dpop",
];

/// What is shorter is masked where it stands, and not looked for elsewhere: it would be found everywhere.
const SHORTEST_LEARNED: usize = 8;

/// The same for what the user gave as a secret.
const SHORTEST_GIVEN: usize = 4;

/// The longest name that is looked at.
const NAME_LIMIT: usize = 64;

/// The most values that are looked for.
const MOST: usize = 64;

/// Values that are masked wherever they stand.
#[derive(Clone, Default)]
pub struct Mask {
    values: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Mask {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.values.len())
    }
}

impl Mask {
    /// Of what the user gave: header values, names with passwords.
    pub fn new(given: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut mask = Self::default();
        for value in given {
            let secret = behind_scheme(&value).to_vec();
            if let Some(pair) = decoded(&secret) {
                if let Some(at) = memchr::memchr(b':', &pair) {
                    mask.add(&pair[at + 1..], SHORTEST_GIVEN);
                }
                mask.add(&pair, SHORTEST_GIVEN);
            }
            if let Some(at) = memchr::memchr(b':', &secret) {
                mask.add(&secret[at + 1..], SHORTEST_GIVEN);
            }
            mask.add(&secret, SHORTEST_GIVEN);
        }
        mask
    }

    /// Learns what is secret in a request or a reply, so that it is found where it comes up again.
    pub fn learn(&mut self, bytes: &[u8]) {
        for range in named(bytes) {
            self.add(&bytes[range], SHORTEST_LEARNED);
        }
    }

    /// Masks what is secret; returns whether there was something.
    pub fn apply(&self, bytes: &mut [u8]) -> bool {
        let mut ranges = named(bytes);
        for value in &self.values {
            let found = memmem::find_iter(bytes, value);
            ranges.extend(found.map(|at| at..at + value.len()));
        }
        for range in &ranges {
            bytes[range.clone()].fill(b'*');
        }
        !ranges.is_empty()
    }

    /// The same for a text.
    pub fn text(&self, text: impl AsRef<[u8]>) -> String {
        let mut bytes = text.as_ref().to_vec();
        self.apply(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether there is anything to look for.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    fn add(&mut self, value: &[u8], shortest: usize) {
        let known = self.values.iter().any(|other| other == value);
        if value.len() >= shortest && !known && self.values.len() < MOST {
            self.values.push(value.to_vec());
        }
    }
}

/// Whether a header or parameter of this name holds a secret.
fn is_secret(name: &[u8]) -> bool {
    if name.is_empty() || name.len() > NAME_LIMIT {
        return false;
    }
    let name = name.to_ascii_lowercase();
    // What a browser may do with credentials is none.
    let harmless = name.starts_with(b"access-control-");
    let has = |word: &&str| memmem::find(&name, word.as_bytes()).is_some();
    !harmless && (WORDS.iter().any(has) || NAMES.iter().any(|other| other.as_bytes() == name))
}

/// Where, by their names, secrets stand: in headers, and in the parameters of URLs.
fn named(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    in_headers(bytes, &mut ranges);
    in_parameters(bytes, &mut ranges);
    ranges.retain(|range| !range.is_empty());
    ranges
}

/// In lines of the form `Name: value`, wherever they are: trailers and pages that show the request are among them.
fn in_headers(bytes: &[u8], ranges: &mut Vec<Range<usize>>) {
    let mut begin = 0;
    let mut goes_on = false;
    for end in memchr::memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        let line = &bytes[begin..end];
        let colon = line
            .iter()
            .position(|b| !b.is_ascii_alphanumeric() && !b"-_".contains(b));
        if goes_on && line.first().is_some_and(|b| b" \t".contains(b)) {
            ranges.push(trimmed(bytes, begin..end));
        } else if let Some(colon) = colon.filter(|at| is_colon(&line[*at..])) {
            goes_on = is_secret(&line[..colon]);
            if goes_on {
                let value = line[colon..].iter().position(|b| *b == b':').unwrap_or(0);
                let value = trimmed(bytes, begin + colon + value + 1..end);
                of_header(&line[..colon].to_ascii_lowercase(), bytes, value, ranges);
            }
        } else {
            goes_on = false;
        }
        begin = end + 1;
    }
}

/// A blank before the colon is no excuse.
fn is_colon(rest: &[u8]) -> bool {
    rest.trim_ascii_start().starts_with(b":")
}

/// The secret part of a header's value: names of cookies, and the kind of an authorization, are none.
fn of_header(name: &[u8], bytes: &[u8], value: Range<usize>, ranges: &mut Vec<Range<usize>>) {
    let text = &bytes[value.clone()];
    match name {
        b"authorization" | b"proxy-authorization" => {
            let secret = behind_scheme(text);
            ranges.push(value.end - secret.len()..value.end);
        }
        b"cookie" | b"set-cookie" => {
            let mut begin = value.start;
            for part in text.split(|b| *b == b';') {
                let end = begin + part.len();
                let equals = memchr::memchr(b'=', part).map_or(0, |at| at + 1);
                ranges.push(trimmed(bytes, begin + equals..end));
                begin = end + 1;
                // What follows in a reply is said about the cookie.
                if name == b"set-cookie" {
                    return;
                }
            }
        }
        _ => ranges.push(value),
    }
}

/// In `?name=value` and `&name=value`.
fn in_parameters(bytes: &[u8], ranges: &mut Vec<Range<usize>>) {
    for equals in memchr::memchr_iter(b'=', bytes) {
        let from = equals.saturating_sub(NAME_LIMIT);
        let before = &bytes[from..equals];
        let Some(at) = before.iter().rposition(|b| b"?&".contains(b)) else {
            continue;
        };
        if is_secret(&before[at + 1..]) {
            let rest = &bytes[equals + 1..];
            let ends = |b: &u8| b.is_ascii_whitespace() || b"&#\"'<>".contains(b);
            let end = rest.iter().position(ends).unwrap_or(rest.len());
            ranges.push(equals + 1..equals + 1 + end);
        }
    }
}

/// What is behind the kind of an authorization, where the value begins with one.
fn behind_scheme(value: &[u8]) -> &[u8] {
    let (scheme, rest) = value.split_at(memchr::memchr(b' ', value).unwrap_or(0));
    let scheme = scheme.to_ascii_lowercase();
    if SCHEMES.iter().any(|known| known.as_bytes() == scheme) {
        rest.trim_ascii()
    } else {
        value
    }
}

fn trimmed(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let text = &bytes[range.clone()];
    let start = range.start + (text.len() - text.trim_ascii_start().len());
    start..(start + text.trim_ascii().len()).max(start)
}

/// RFC 4648, with padding; `None` for what is none.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .iter()
        .take_while(|b| **b != b'=')
        .map(|b| match b {
            b'A'..=b'Z' => Some(b - b'A'),
            b'a'..=b'z' => Some(b - b'a' + 26),
            b'0'..=b'9' => Some(b - b'0' + 52),
            b'+' => Some(62),
            b'/' => Some(63),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let bytes = digits.chunks(4).flat_map(|group| {
        let bits = group
            .iter()
            .fold(0_u32, |bits, d| bits << 6 | u32::from(*d));
        let bits = bits << (6 * (4 - group.len()));
        let [_, one, two, three] = bits.to_be_bytes();
        [one, two, three].into_iter().take((group.len() * 6) / 8)
    });
    Some(bytes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(mask: &Mask, text: &str) -> String {
        let masked = mask.text(text);
        assert_eq!(masked.len(), text.len());
        masked
    }

    #[test]
    fn secrets_are_known_by_their_names() {
        let mask = Mask::default();
        for (text, expected) in [
            (
                "GET / HTTP/1.1\r\nAuthorization: Basic dXNlcjpwYXNz\r\nAccept: */*\r\n",
                "GET / HTTP/1.1\r\nAuthorization: Basic ************\r\nAccept: */*\r\n",
            ),
            ("authorization : secret", "authorization : ******"),
            ("Authorization: two words", "Authorization: *********"),
            ("Cookie: a=one; b=two", "Cookie: a=***; b=***"),
            (
                "Set-Cookie: id=abc; Path=/; HttpOnly\r\nX: y",
                "Set-Cookie: id=***; Path=/; HttpOnly\r\nX: y",
            ),
            ("X-Api-Key: abc\n def\nY: z", "X-Api-Key: ***\n ***\nY: z"),
            ("My-Access-Token:abc", "My-Access-Token:***"),
            (
                "GET /a?b=c&token=abc HTTP/1.1",
                "GET /a?b=c&token=*** HTTP/1.1",
            ),
            ("Location: /?key=a#b", "Location: /?key=*#b"),
            // These are none.
            (
                "Access-Control-Allow-Credentials: true",
                "Access-Control-Allow-Credentials: true",
            ),
            (
                "WWW-Authenticate: Basic realm=x",
                "WWW-Authenticate: Basic realm=x",
            ),
            (":authority: a.test", ":authority: a.test"),
            ("Key = value", "Key = value"),
            ("Cookie:", "Cookie:"),
        ] {
            assert_eq!(masked(&mask, text), expected);
        }
    }

    #[test]
    fn what_the_user_gave_is_found_wherever_it_comes_up() {
        let given = ["Basic dXNlcjpodXNoaHVzaA==", "t0ken", "two words"];
        let mask = Mask::new(given.map(|value| value.as_bytes().to_vec()));
        assert_eq!(masked(&mask, "X: two words"), "X: *********");
        let text = "you sent dXNlcjpodXNoaHVzaA==, which is user:hushhush or hushhush, and t0ken";
        let expected =
            "you sent ********************, which is ************* or ********, and *****";
        assert_eq!(masked(&mask, text), expected);
        let mut mask = Mask::default();
        assert!(mask.is_empty());
        mask.learn(b"Cookie: id=0123456789; lang=de\r\n");
        assert_eq!(masked(&mask, "0123456789 de"), "********** de");
    }

    #[test]
    fn any_bytes_can_be_looked_at() {
        let mask = Mask::new([b"\xff\xff\xff\xff".to_vec()]);
        for bytes in [
            &b""[..],
            b"\n\n",
            b":",
            b"Cookie",
            b"=?&=",
            b"?token=",
            b"Cookie: ;;=;\n \n\t",
            b"\xff\xff\xff\xff\xff",
        ] {
            let mut copy = bytes.to_vec();
            mask.apply(&mut copy);
            assert_eq!(copy.len(), bytes.len());
        }
    }
}
