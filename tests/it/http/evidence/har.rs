//! The HAR files, held against the rules of HAR 1.2.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::super::protocol::{http2_probe, http2_server};
use super::{Act, BAD, FaultServer, Kept, outcome, page, page_with};

/// What kind a field has to be of.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Time,
    /// A whole number from here on.
    Whole(i64),
    /// Milliseconds, or -1 for none where that is allowed.
    Milliseconds(bool),
    List,
    Object,
}

fn holds(value: &Value, kind: Kind) -> bool {
    match kind {
        Kind::Text => value.is_string(),
        Kind::Time => value
            .as_str()
            .is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        Kind::Whole(least) => value.as_i64().is_some_and(|number| number >= least),
        Kind::Milliseconds(optional) => value
            .as_f64()
            .is_some_and(|ms| ms >= 0.0 || (optional && (ms + 1.0).abs() < 1e-9)),
        Kind::List => value.is_array(),
        Kind::Object => value.is_object(),
    }
}

/// Whether an object has all of these fields, and beyond them none but those.
fn fields(object: &Value, needed: &[(&str, Kind)], allowed: &[(&str, Kind)]) {
    for (name, kind) in needed {
        let value = object.get(name);
        let value = value.unwrap_or_else(|| panic!("no {name} in {object:#}"));
        assert!(holds(value, *kind), "{name} is no {kind:?} in {object:#}");
    }
    for (name, value) in object.as_object().expect("an object") {
        let known = needed
            .iter()
            .chain(allowed)
            .find(|(other, _)| other == name);
        match known {
            Some((_, kind)) => assert!(holds(value, *kind), "{name} is no {kind:?}: {value}"),
            // The format leaves these and `comment` to everybody.
            None => assert!(
                name.starts_with('_') || (name == "comment" && value.is_string()),
                "{name} does not belong into {object:#}"
            ),
        }
    }
}

/// Holds a document against the format, rule by rule.
fn must_be_har(document: &Value) {
    use Kind::{List, Milliseconds, Object, Text, Time};
    let log = &document["log"];
    fields(
        log,
        &[("version", Text), ("creator", Object), ("entries", List)],
        &[("pages", List), ("browser", Object)],
    );
    assert_eq!(log["version"], "1.2");
    fields(&log["creator"], &[("name", Text), ("version", Text)], &[]);
    let pages = log["pages"].as_array().expect("pages");
    for page in pages {
        let needed = [
            ("startedDateTime", Time),
            ("id", Text),
            ("title", Text),
            ("pageTimings", Object),
        ];
        fields(page, &needed, &[]);
        let ms = Milliseconds(true);
        fields(
            &page["pageTimings"],
            &[],
            &[("onContentLoad", ms), ("onLoad", ms)],
        );
    }
    let mut last = None;
    for entry in log["entries"].as_array().expect("entries") {
        let needed = [
            ("startedDateTime", Time),
            ("time", Milliseconds(false)),
            ("request", Object),
            ("response", Object),
            ("cache", Object),
            ("timings", Object),
        ];
        let allowed = [
            ("pageref", Text),
            ("serverIPAddress", Text),
            ("connection", Text),
        ];
        fields(entry, &needed, &allowed);
        assert!(pages.iter().any(|page| page["id"] == entry["pageref"]));
        let started: jiff::Timestamp = entry["startedDateTime"].as_str().unwrap().parse().unwrap();
        assert!(
            last.is_none_or(|last| last <= started),
            "the oldest goes first"
        );
        last = Some(started);
        assert_eq!(entry["cache"], serde_json::json!({}));
        must_be_request(&entry["request"]);
        must_be_response(&entry["response"]);
        let timings = &entry["timings"];
        let needed = ["send", "wait", "receive"].map(|name| (name, Milliseconds(false)));
        let allowed = ["blocked", "dns", "connect", "ssl"].map(|name| (name, Milliseconds(true)));
        fields(timings, &needed, &allowed);
        // All but ssl, which connect holds, come to the whole.
        let parts = ["blocked", "dns", "connect", "send", "wait", "receive"];
        let sum: f64 = parts
            .iter()
            .map(|name| timings[name].as_f64().unwrap().max(0.0))
            .sum();
        let time = entry["time"].as_f64().unwrap();
        assert!((sum - time).abs() < 0.001, "{entry:#}");
        let ssl = timings["ssl"].as_f64().unwrap();
        assert!(
            ssl <= timings["connect"].as_f64().unwrap() + 0.001,
            "{timings}"
        );
    }
}

fn pairs(list: &Value) {
    for pair in list.as_array().unwrap() {
        fields(pair, &[("name", Kind::Text), ("value", Kind::Text)], &[]);
    }
}

fn must_be_request(request: &Value) {
    use Kind::{List, Object, Text, Whole};
    let needed = [
        ("method", Text),
        ("url", Text),
        ("httpVersion", Text),
        ("cookies", List),
        ("headers", List),
        ("queryString", List),
        ("headersSize", Whole(-1)),
        ("bodySize", Whole(-1)),
    ];
    fields(request, &needed, &[("postData", Object)]);
    assert!(!request["url"].as_str().unwrap().contains('#'));
    for name in ["cookies", "headers", "queryString"] {
        pairs(&request[name]);
    }
    if let Some(data) = request.get("postData") {
        let needed = [("mimeType", Text), ("params", List), ("text", Text)];
        fields(data, &needed, &[]);
    }
}

fn must_be_response(response: &Value) {
    use Kind::{List, Object, Text, Whole};
    let needed = [
        ("status", Whole(0)),
        ("statusText", Text),
        ("httpVersion", Text),
        ("cookies", List),
        ("headers", List),
        ("content", Object),
        ("redirectURL", Text),
        ("headersSize", Whole(-1)),
        ("bodySize", Whole(-1)),
    ];
    fields(response, &needed, &[]);
    pairs(&response["headers"]);
    for cookie in response["cookies"].as_array().unwrap() {
        let name = cookie.as_object().unwrap();
        assert!(name.contains_key("name") && name.contains_key("value"));
    }
    let needed = [("size", Whole(0)), ("mimeType", Text)];
    let allowed = [
        ("compression", Whole(i64::MIN)),
        ("text", Text),
        ("encoding", Text),
    ];
    fields(&response["content"], &needed, &allowed);
}

fn har(path: &Path) -> Value {
    let document = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    must_be_har(&document);
    document
}

#[test]
fn a_har_has_the_exchange_as_it_was() {
    let server = FaultServer::start_tls(|seen| {
        let headers = "X-One: 1\r\nset-cookie: a=b; Path=/; HttpOnly\r\nX-one: 2\r\nContent-Type: text/plain\r\n";
        let status = if seen.number == 1 { BAD } else { "200 OK" };
        Act::Send(page_with(status, headers, "grüße"))
    });
    let kept = Kept::new();
    let arguments =
        "-H localhost -S -u /x?a=b&c --attempts 2 --evidence-secrets -k X-Two:y --format json";
    let json = kept.run(&server, arguments).json();
    let entry = kept.entry();
    let document = har(&entry.join("failed.har"));
    har(&entry.join("good.har"));
    let exchange = &document["log"]["entries"][0];
    let request = &exchange["request"];
    assert_eq!(request["method"], "GET");
    let port = server.port();
    assert_eq!(request["url"], format!("https://localhost:{port}/x?a=b&c"));
    assert_eq!(request["httpVersion"], "HTTP/1.1");
    assert_eq!(request["queryString"][1]["name"], "c");
    let sent = &server.seen()[1];
    assert_eq!(request["headersSize"], sent.head.len());
    // In the order and case of the wire.
    let listed = |list: &Value| {
        let pairs = list.as_array().unwrap().iter();
        pairs
            .map(|pair| {
                format!(
                    "{}: {}",
                    pair["name"].as_str().unwrap(),
                    pair["value"].as_str().unwrap()
                )
            })
            .collect::<Vec<_>>()
    };
    let lines: Vec<_> = sent
        .head
        .lines()
        .skip(1)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(listed(&request["headers"]), lines);
    let response = &exchange["response"];
    assert_eq!(response["status"], 500);
    assert_eq!(response["statusText"], "Internal Server Error");
    let expected = [
        "Server: fault",
        "X-One: 1",
        "set-cookie: a=b; Path=/; HttpOnly",
        "X-one: 2",
        "Content-Type: text/plain",
        "Content-Length: 7",
        "Connection: close",
    ];
    assert_eq!(listed(&response["headers"]), expected);
    assert_eq!(response["cookies"][0]["name"], "a");
    assert_eq!(response["cookies"][0]["httpOnly"], true);
    assert_eq!(response["content"]["text"], "grüße");
    assert_eq!(response["content"]["size"], 7);
    assert_eq!(response["bodySize"], 7);
    assert_eq!(exchange["serverIPAddress"], "127.0.0.1");
    assert_eq!(exchange["connection"], sent.peer.port().to_string());
    // The time is that of the probe, which ends with the last byte.
    let seconds = json["details"]["failures"][0]["seconds"].as_f64().unwrap();
    let time = exchange["time"].as_f64().unwrap() / 1e3;
    assert!(
        (seconds - time).abs() < 0.001 + seconds * 0.05,
        "{seconds} {time}"
    );
    assert_eq!(exchange["timings"]["dns"], -1.0);
    assert!(exchange["timings"]["ssl"].as_f64().unwrap() > 0.0);
}

#[test]
fn redirects_failures_and_odd_pages_make_hars_as_well() {
    let packed = |bytes: &[u8]| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    };
    let gzip = {
        let body = packed(&b"hello ".repeat(100));
        let mut reply = page_with(BAD, "Content-Encoding: gzip\r\n", &" ".repeat(body.len()));
        reply.truncate(reply.len() - body.len());
        [reply, body].concat()
    };
    let server = FaultServer::start(move |seen| {
        match seen.path() {
        "/redirect" => Act::Send(page_with("302 Found", "Location: /chunked\r\n", "")),
        "/chunked" => Act::Send(
            b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
                .to_vec(),
        ),
        "/gzip" => Act::Send(gzip.clone()),
        "/binary" => Act::Send([&page(BAD, "\0\0")[..]].concat().into_iter().map(|b| if b == 0 { 0xff } else { b }).collect()),
        "/garbage" => Act::Send(b"\x00\xff nonsense\n: \n\n".to_vec()),
        "/headless" => Act::SendAndReset(Vec::new()),
        "/half" => Act::SendAndReset(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf".to_vec()),
        "/odd" => Act::Send(b"HTTP/1.1 500\nA: b\n c\nno colon\nCookie: x\n\nbody".to_vec()),
        "/interim" => Act::Send(
            [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), page(BAD, "x")].concat(),
        ),
        _ => Act::SendAndStall(Vec::new()),
    }
    });
    for (path, check) in [
        (
            "redirect",
            Box::new(|entries: &Value| {
                assert_eq!(entries[0]["response"]["redirectURL"], "/chunked");
                assert_eq!(entries[1]["response"]["content"]["text"], "hello world");
            }) as Box<dyn Fn(&Value)>,
        ),
        (
            "gzip",
            Box::new(|entries| {
                let content = &entries[0]["response"]["content"];
                assert_eq!(content["text"], "hello ".repeat(100));
                assert_eq!(content["size"], 600);
                let packed = entries[0]["response"]["bodySize"].as_i64().unwrap();
                assert_eq!(content["compression"], 600 - packed);
            }),
        ),
        (
            "binary",
            Box::new(|entries| {
                assert_eq!(entries[0]["response"]["content"]["encoding"], "base64");
                assert_eq!(entries[0]["response"]["content"]["text"], "//8=");
            }),
        ),
        (
            "garbage",
            Box::new(|entries| {
                assert_eq!(entries[0]["response"]["status"], 0);
            }),
        ),
        (
            "headless",
            Box::new(|entries| {
                let response = &entries[0]["response"];
                assert_eq!(
                    (&response["status"], &response["headersSize"]),
                    (&0.into(), &(-1).into())
                );
                assert!(
                    response["_error"]
                        .as_str()
                        .unwrap()
                        .starts_with("No data received")
                );
            }),
        ),
        (
            "half",
            Box::new(|entries| {
                assert_eq!(entries[0]["response"]["content"]["text"], "half");
            }),
        ),
        (
            "odd",
            Box::new(|entries| {
                let headers = &entries[0]["response"]["headers"];
                assert_eq!(headers[0]["value"], "b c");
                assert_eq!(headers[1]["name"], "no colon");
            }),
        ),
        (
            "interim",
            Box::new(|entries| {
                assert_eq!(entries[0]["response"]["status"], 500);
            }),
        ),
        (
            "stall",
            Box::new(|entries| {
                // It waited to the end.
                let wait = entries[0]["timings"]["wait"].as_f64().unwrap();
                assert!((250.0..400.0).contains(&wait), "{wait}");
            }),
        ),
    ] {
        let kept = Kept::new();
        let arguments = format!("-H www.test -u /{path} -f sticky --attempts 1 -t 0.3");
        kept.run(&server, &arguments);
        let document = har(&kept.entry().join("failed.har"));
        check(&document["log"]["entries"]);
    }
}

#[test]
fn http_2_is_told_as_it_was_understood() {
    let kept = Kept::new();
    let mut command = http2_probe(http2_server());
    command.args(["-u", "/500", "--attempts", "1"]);
    outcome(command.arg("--evidence").arg(kept.path()));
    let entry = kept.entry();
    let document = har(&entry.join("failed.har"));
    let exchange = &document["log"]["entries"][0];
    assert_eq!(exchange["request"]["httpVersion"], "HTTP/2");
    assert_eq!(exchange["request"]["headers"][0]["name"], ":authority");
    assert_eq!(exchange["response"]["httpVersion"], "HTTP/2");
    assert_eq!(exchange["response"]["status"], 500);
    let page = exchange["response"]["content"]["text"].as_str().unwrap();
    assert!(page.starts_with("GET https://www.test"), "{page}");
    // The bytes are those of the wire: frames, behind the words that open them.
    let sent = fs::read(entry.join("failed-1.sent")).unwrap();
    assert!(sent.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
}
