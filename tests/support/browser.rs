//! A real Chromium without a window, driven over the pipes of its DevTools protocol: one message each way ends in a NUL.
//! It has a profile of its own and talks to nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child;

/// A running browser with one page; ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    /// Closed at the end, after which the browser leaves by itself.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    last: u64,
    session: Value,
    /// What the browser told without being asked: its requests, what a script threw, what a policy forbade.
    pub events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Whether there is one on this machine.
    pub fn possible() -> Result<(), String> {
        let version = Command::new("chromium").arg("--version").output();
        match version {
            Ok(output) if output.status.success() => Ok(()),
            _ => Err("there is no chromium".to_owned()),
        }
    }

    /// Starts one with an empty page of this size. Whatever happens it has ended after a minute.
    pub fn start(width: u32, height: u32) -> Self {
        let profile = tempfile::tempdir().expect("a temporary folder");
        // The pipes have to be its files 3 and 4.
        let words = "exec chromium \"$@\" 3<&0 4>&1 < /dev/null > /dev/null 2> /dev/null";
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", words, "chromium"]).args([
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
        ]);
        command
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            // It leaves sockets there when it is told to end.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("timeout (coreutils)");
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let mut browser = Self {
            child,
            to,
            from: BufReader::new(from.expect("it was asked for")),
            last: 0,
            session: Value::Null,
            events: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        browser.session = browser.call("Target.attachToTarget", &target)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.resize(width, height);
        browser
    }

    /// One call of the protocol, and its answer.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": parameters});
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        let to = self.to.as_mut().expect("it was not closed");
        to.write_all(format!("{message}\0").as_bytes())
            .expect("the browser reads");
        loop {
            let answer = self.next();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = self.from.read_until(0, &mut message);
        assert!(
            read.is_ok() && message.pop() == Some(0),
            "the browser has ended"
        );
        serde_json::from_slice(&message).expect("JSON")
    }

    /// Gives the window another size.
    pub fn resize(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}),
        );
    }

    /// Opens a file, and waits until it is loaded and its script has run.
    pub fn open(&mut self, path: &Path, fragment: &str) {
        let address = format!("file://{}{fragment}", path.display());
        self.events.clear();
        let answer = self.call("Page.navigate", &json!({"url": address}));
        assert!(answer["errorText"].is_null(), "{answer}");
        let is_loaded = |event: &Value| event["method"] == "Page.loadEventFired";
        while !self.events.iter().any(is_loaded) {
            let event = self.next();
            self.events.push(event);
        }
    }

    /// The value of an expression within the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let answer = self.call(
            "Runtime.evaluate",
            &json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// The same, as text.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        value.as_str().map_or(value.to_string(), str::to_owned)
    }

    /// What an element's style comes to.
    pub fn style(&mut self, selector: &str, property: &str) -> String {
        self.text(&format!(
            "getComputedStyle(document.querySelector({selector:?}))[{property:?}]"
        ))
    }

    /// A point within an element, as shares of its width and height, after it was brought into view.
    pub fn point(&mut self, selector: &str, across: f64, down: f64) -> (f64, f64) {
        let place = self.value(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); element.scrollIntoView({{block: 'center'}}); \
             const box = element.getBoundingClientRect(); return [box.left + box.width * {across}, box.top + box.height * {down}]; }})()"
        ));
        let number = |at: usize| place[at].as_f64().expect("a number");
        (number(0), number(1))
    }

    /// The mouse goes somewhere, with its button up or down.
    pub fn point_at(&mut self, (x, y): (f64, f64)) {
        self.mouse("mouseMoved", (x, y), 0);
    }

    /// The mouse clicks.
    pub fn click(&mut self, place: (f64, f64)) {
        self.drag(place, place);
    }

    /// The mouse goes down at one place and up at another.
    pub fn drag(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.mouse("mouseMoved", from, 0);
        self.mouse("mousePressed", from, 1);
        if from != to {
            self.mouse("mouseMoved", (f64::midpoint(from.0, to.0), from.1), 1);
            self.mouse("mouseMoved", to, 1);
        }
        self.mouse("mouseReleased", to, 0);
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64), buttons: u32) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        self.call(
            "Input.dispatchMouseEvent",
            &json!({"type": kind, "x": x, "y": y, "button": button, "buttons": buttons, "clickCount": 1}),
        );
    }

    /// The wheel turns, with Ctrl held.
    pub fn wheel(&mut self, (x, y): (f64, f64), by: f64) {
        self.call(
            "Input.dispatchMouseEvent",
            &json!({"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by, "modifiers": 2}),
        );
        // It arrives with a frame.
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
    }

    /// A key goes down and up.
    pub fn key(&mut self, key: &str) {
        self.key_with(key, 0);
    }

    /// The same with Alt (1) or Ctrl (2) held.
    pub fn key_with(&mut self, key: &str, modifiers: u32) {
        // With the text of a key its own shortcuts would be typed, too.
        let text = if key.len() == 1 && modifiers == 0 {
            key
        } else {
            ""
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.call(
                "Input.dispatchKeyEvent",
                &json!({"type": kind, "key": key, "text": text, "modifiers": modifiers}),
            );
        }
    }

    /// Shows the page as on `screen` or in `print`, to one who likes it `light` or `dark`.
    pub fn media(&mut self, medium: &str, scheme: &str) {
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"media": medium, "features": scheme}),
        );
    }

    /// The page as PDF, on A4.
    pub fn print(&mut self) -> Vec<u8> {
        let paper = json!({"paperWidth": 8.27, "paperHeight": 11.69, "preferCSSPageSize": true});
        decoded(&self.call("Page.printToPDF", &paper)["data"])
    }

    /// What is seen, as PNG.
    pub fn screenshot(&mut self) -> Vec<u8> {
        decoded(&self.call("Page.captureScreenshot", &json!({"format": "png"}))["data"])
    }

    /// An element as it is seen, as PNG; it has to be in view.
    pub fn picture_of(&mut self, selector: &str) -> Vec<u8> {
        let place = self.value(&format!(
            "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
             return {{x: box.left + scrollX, y: box.top + scrollY, width: box.width, height: box.height, scale: 1}}; }})()"
        ));
        let picture = json!({"format": "png", "clip": place});
        decoded(&self.call("Page.captureScreenshot", &picture)["data"])
    }

    /// What was asked of the network or of files, by its address.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.of_kind("Network.requestWillBeSent");
        asked
            .map(|event| event["request"]["url"].to_string())
            .collect()
    }

    /// What scripts threw and what the page's policy forbade.
    pub fn trouble(&self) -> Vec<&Value> {
        let thrown = self.of_kind("Runtime.exceptionThrown");
        thrown.chain(self.of_kind("Log.entryAdded")).collect()
    }

    fn of_kind(&self, method: &str) -> impl Iterator<Item = &Value> {
        let events = self.events.iter();
        events
            .filter(move |event| event["method"] == method)
            .map(|event| &event["params"])
    }
}

fn decoded(data: &Value) -> Vec<u8> {
    let text = data.as_str().expect("text");
    BASE64_STANDARD.decode(text).expect("base64")
}

/// How much two colours as `rgb(1, 2, 3)` differ for an eye: WCAG's ratio, from 1 to 21.
pub fn contrast(one: &str, other: &str) -> f64 {
    let light = |colour: &str| {
        let parts = colour.trim_start_matches("rgb(").trim_end_matches(')');
        let parts = parts.split(", ").map(|part| {
            let part: f64 = part
                .parse()
                .unwrap_or_else(|_| panic!("no colour: {colour}"));
            let part = part / 255.0;
            if part <= 0.04045 {
                part / 12.92
            } else {
                libm::pow((part + 0.055) / 1.055, 2.4)
            }
        });
        let weights = [0.2126, 0.7152, 0.0722];
        parts
            .zip(weights)
            .map(|(part, weight)| part * weight)
            .sum::<f64>()
            + 0.05
    };
    let (one, other) = (light(one), light(other));
    one.max(other) / one.min(other)
}

/// The pixels of a PNG as Chromium writes it: eight bits, red, green and blue, not interlaced.
pub fn pixels(png: &[u8]) -> Vec<[u8; 3]> {
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four")) as usize;
    let (width, depth, colours) = (number(16), png[24], png[25]);
    let size = match (depth, colours) {
        (8, 2) => 3,
        (8, 6) => 4,
        other => panic!("another kind of PNG: {other:?}"),
    };
    let mut packed = Vec::new();
    let mut at = 8;
    while at < png.len() {
        if &png[at + 4..at + 8] == b"IDAT" {
            packed.extend_from_slice(&png[at + 8..at + 8 + number(at)]);
        }
        at += 12 + number(at);
    }
    let mut lines = Vec::new();
    let mut unpacked = flate2::read::ZlibDecoder::new(&packed[..]);
    unpacked.read_to_end(&mut lines).expect("a whole picture");
    let mut above = vec![0_u8; width * size];
    let mut all = Vec::new();
    for line in lines.chunks_exact(1 + width * size) {
        let (filter, mut line) = (line[0], line[1..].to_vec());
        for at in 0..line.len() {
            let left = at.checked_sub(size).map_or(0, |at| line[at]);
            let corner = at.checked_sub(size).map_or(0, |at| above[at]);
            line[at] = line[at].wrapping_add(predicted(filter, left, above[at], corner));
        }
        all.extend(
            line.chunks_exact(size)
                .map(|pixel| [pixel[0], pixel[1], pixel[2]]),
        );
        above = line;
    }
    all
}

/// What a PNG's filter expects of a byte.
fn predicted(filter: u8, left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i32::from);
    match filter {
        0 => 0,
        1 => left,
        2 => above,
        3 => u8::try_from(i32::midpoint(a, b)).expect("a byte"),
        4 => {
            let far = |one: i32| (a + b - c - one).abs();
            if far(a) <= far(b) && far(a) <= far(c) {
                left
            } else if far(b) <= far(c) {
                above
            } else {
                corner
            }
        }
        other => panic!("no filter {other}"),
    }
}

/// What the compressed streams of a PDF say.
pub fn plain_streams(pdf: &[u8]) -> String {
    let mut all = String::new();
    for start in memchr::memmem::find_iter(pdf, b"stream\n") {
        let mut plain = Vec::new();
        let mut unpacked = flate2::read::ZlibDecoder::new(&pdf[start + 7..]);
        if unpacked.read_to_end(&mut plain).is_ok() {
            all.push_str(&String::from_utf8_lossy(&plain));
            all.push('\n');
        }
    }
    all
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.to.take());
        child::end(&mut self.child);
    }
}
