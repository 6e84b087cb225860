//! nginx' `log_format`: taken apart once, then each line of an access log by it, without a copy.

use anyhow::bail;
use memchr::{memchr, memmem};

/// What of a line is of interest here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    /// `$time_local`, `$time_iso8601`, `$msec`.
    Time,
    /// `$status`.
    Status,
    /// `$request`: method, target and version.
    Request,
    /// `$request_uri`, `$uri`: the target alone.
    Target,
    /// `$server_name`.
    Server,
    /// `$host`, `$http_host`.
    Host,
    /// `$upstream_addr`.
    Upstream,
    /// `$upstream_status`.
    UpstreamStatus,
    /// `$upstream_response_time`.
    UpstreamTime,
    /// `$request_time`.
    RequestTime,
}

/// How many there are.
const FIELDS: usize = 10;

/// No format has more parts.
const PARTS: usize = 200;

/// A field of a format, and the text behind it.
#[derive(Debug, Clone)]
struct Part {
    field: Option<Field>,
    behind: Vec<u8>,
}

/// A `log_format`.
#[derive(Debug, Clone)]
pub struct Format {
    /// The text before the first variable.
    start: Vec<u8>,
    parts: Vec<Part>,
}

/// A line taken apart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Entry<'a>([Option<&'a [u8]>; FIELDS]);

impl<'a> Entry<'a> {
    /// A field, where the format has it and it is not empty.
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        self.0[field as usize].filter(|value| !value.is_empty() && *value != b"-")
    }

    /// How many fields it has.
    pub fn count(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// The target of the request.
    pub fn target(&self) -> Option<&'a [u8]> {
        if let Some(target) = self.get(Field::Target) {
            return Some(target);
        }
        let request = self.get(Field::Request)?;
        let target = &request[memchr(b' ', request)? + 1..];
        Some(&target[..memchr(b' ', target).unwrap_or(target.len())])
    }
}

impl Format {
    /// The one that nginx has built in.
    pub fn combined() -> Self {
        let text = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
        // It has a time and a status.
        Self::new(text).unwrap_or(Self {
            start: Vec::new(),
            parts: Vec::new(),
        })
    }

    /// Takes the text of a `log_format` apart.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let mut format = Self {
            start: Vec::new(),
            parts: Vec::new(),
        };
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            format.literal(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, behind) = match rest.strip_prefix('{') {
                Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
                None => rest.split_at(
                    rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                        .unwrap_or(rest.len()),
                ),
            };
            rest = behind;
            if name.is_empty() {
                format.literal("$");
                continue;
            }
            if format.parts.len() == PARTS {
                bail!("more than {PARTS} variables");
            }
            format.parts.push(Part {
                field: field(name),
                behind: Vec::new(),
            });
        }
        format.literal(rest);
        for (wanted, names) in [
            (Field::Time, "$time_local, $time_iso8601 or $msec"),
            (Field::Status, "$status"),
        ] {
            if !format.parts.iter().any(|part| part.field == Some(wanted)) {
                bail!("the format has no {names}");
            }
        }
        Ok(format)
    }

    fn literal(&mut self, text: &str) {
        let to = self
            .parts
            .last_mut()
            .map_or(&mut self.start, |part| &mut part.behind);
        to.extend_from_slice(text.as_bytes());
    }

    /// Takes a line apart; `None` where it is not of this format.
    pub fn read<'a>(&self, line: &'a [u8]) -> Option<Entry<'a>> {
        let mut rest = line.strip_prefix(&self.start[..])?;
        let mut entry = Entry::default();
        let last = self.parts.len().saturating_sub(1);
        for (number, part) in self.parts.iter().enumerate() {
            let end = if part.behind.is_empty() {
                // Nothing tells it from the next one, which takes all there is.
                if number == last { rest.len() } else { 0 }
            } else {
                find(rest, &part.behind)?
            };
            if let Some(field) = part.field {
                let place = &mut entry.0[field as usize];
                *place = place.or(Some(&rest[..end]));
            }
            rest = &rest[end + part.behind.len()..];
        }
        Some(entry)
    }
}

/// Where the text begins; within quotes one behind a backslash is none: nginx writes them like that with escape=json.
fn find(rest: &[u8], text: &[u8]) -> Option<usize> {
    if text[0] != b'"' {
        return if let [one] = text {
            memchr(*one, rest)
        } else {
            memmem::find(rest, text)
        };
    }
    let mut from = 0;
    loop {
        let at = from + memchr(b'"', &rest[from..])?;
        let escapes = rest[..at]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count();
        if escapes % 2 == 0 && rest[at..].starts_with(text) {
            return Some(at);
        }
        from = at + 1;
    }
}

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "time_local" | "time_iso8601" | "msec" => Field::Time,
        "status" => Field::Status,
        "request" => Field::Request,
        "request_uri" | "uri" => Field::Target,
        "server_name" => Field::Server,
        "host" | "http_host" => Field::Host,
        "upstream_addr" => Field::Upstream,
        "upstream_status" => Field::UpstreamStatus,
        "upstream_response_time" => Field::UpstreamTime,
        "request_time" => Field::RequestTime,
        _ => return None,
    })
}

/// The values of a list as `$upstream_addr` has them: `a, b : c`.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // An address has no blank in it.
    value
        .split(|byte| *byte == b' ')
        .map(|word| word.strip_suffix(b",").unwrap_or(word))
        .filter(|word| !word.is_empty() && *word != b":")
}

/// The first two steps of a path, as in `/api/v1`; what follows tells too many apart.
pub fn path_prefix(target: &[u8]) -> &[u8] {
    let mut steps = 0;
    let end = target.iter().position(|byte| {
        steps += u8::from(*byte == b'/');
        steps == 3 || b"?# \"".contains(byte)
    });
    &target[..end.unwrap_or(target.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Option<&[u8]>) -> &str {
        std::str::from_utf8(value.unwrap_or(b"(none)")).unwrap()
    }

    #[test]
    fn lines_are_taken_apart_as_their_format_says() {
        let line = br#"192.0.2.1 - a b [23/Nov/2026:05:00:00 +0000] "GET /api/v1/x?\x22y HTTP/1.1" 502 157 "-" "curl \x22 x""#;
        let entry = Format::combined().read(line).unwrap();
        assert_eq!(text(entry.get(Field::Time)), "23/Nov/2026:05:00:00 +0000");
        assert_eq!(text(entry.get(Field::Status)), "502");
        assert_eq!(text(entry.target()), "/api/v1/x?\\x22y");
        assert_eq!(text(Some(path_prefix(entry.target().unwrap()))), "/api/v1");

        let format = Format::new("{\"t\":\"$time_iso8601\",\"s\":\"${status}\",\"h\":\"$host\",\"r\":\"$request\",\"u\":\"$upstream_addr\"}").unwrap();
        let line = br#"{"t":"2026-11-23T05:00:00+00:00","s":"200","h":"a\"b","r":"GET / HTTP/1.1","u":"10.0.0.1:80, unix:/s : 10.0.0.2:80"}"#;
        let entry = format.read(line).unwrap();
        assert_eq!(text(entry.get(Field::Host)), "a\\\"b");
        let upstreams: Vec<_> = list(entry.get(Field::Upstream).unwrap())
            .map(|word| text(Some(word)))
            .collect();
        assert_eq!(upstreams, ["10.0.0.1:80", "unix:/s", "10.0.0.2:80"]);

        for line in [&b""[..], b"x", b"192.0.2.1 - - [x", br#"{"t":"#] {
            assert!(Format::combined().read(line).is_none());
            assert!(format.read(line).is_none());
        }
        for wrong in ["", "$status", "[$time_local]", "plain", "$ $"] {
            assert!(Format::new(wrong).is_err(), "{wrong}");
        }
        let tight = Format::new("$msec$status $request").unwrap();
        assert_eq!(
            text(tight.read(b"1.5200 GET /").unwrap().get(Field::Status)),
            "1.5200"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_format_and_no_line_makes_it_stumble(format in ".{0,60}", line: Vec<u8>) {
            if let Ok(format) = Format::new(&format!("{format}$time_local \"$status\"")) {
                let _ = format.read(&line).map(|entry| entry.target());
            }
            let _ = Format::combined().read(&line);
        }
    }
}
