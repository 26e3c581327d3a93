//! A real browser without a screen, driven as `chromedriver` has it (W3C WebDriver): what a person would
//! see is asked of the page as it is rendered.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::daemon::{Lab, within};

/// For the start of the browser, and whatever it is asked.
const SOON: Duration = Duration::from_secs(60);

/// Without a sandbox of its own, which root cannot have, and without what it does by itself elsewhere.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
];

/// A browser with one window.
#[derive(Debug)]
pub(crate) struct Browser {
    port: u16,
    session: String,
    driver: Child,
    _profile: TempDir,
}

/// A window's size and colours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

/// A port that nobody has at this moment.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

impl Browser {
    /// Starts one, with a profile of its own.
    pub(crate) fn start() -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().expect("a folder"));
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: tests/lab/packages browser");
        let mut browser = Self { port, session: String::new(), driver, _profile: profile };
        let ready = within(SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(ready, "chromedriver does not listen");
        let profile = browser._profile.path().join("profile");
        let mut arguments = FLAGS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let options = json!({"args": arguments});
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"}});
        let made =
            browser.call("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    /// Looks at a page, in a window of that size.
    pub(crate) fn open(&self, address: &str, look: Look) {
        let Look { width, height, dark } = look;
        let mobile = width < 500;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if dark { "dark" } else { "light" };
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &scheme);
        self.ask("POST", "/url", &json!({"url": address}));
    }

    /// What a function of JavaScript, given as its body, returns; a promise is waited for.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text that is to be seen in the first element of that kind.
    pub(crate) fn text(&self, selector: &str) -> String {
        let found = self.run(&format!("return document.querySelector({selector:?})?.innerText"));
        found.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Types into the element that has the focus, or that is found so.
    pub(crate) fn keys(&self, selector: &str, keys: &str) {
        let using = json!({"using": "css selector", "value": selector});
        let found = self.ask("POST", "/element", &using);
        let id = found.as_object().and_then(|of| of.values().next()?.as_str()).expect("an element");
        self.ask("POST", &format!("/element/{id}/value"), &json!({"text": keys}));
    }

    /// What the browser has complained of since it was asked last: errors of scripts, what the page's
    /// policy forbids, what could not be loaded.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", &json!({"type": "browser"}));
        let lines = log.as_array().expect("lines").iter();
        lines.map(|line| line["message"].to_string()).collect()
    }

    /// What the accessibility checker finds that is serious or critical.
    pub(crate) fn barriers(&self) -> Vec<String> {
        let checker = Lab::of_environment().folder().join("browser/axe.min.js");
        let checker = std::fs::read_to_string(checker).expect("tests/lab/browser fetch");
        // Not by an element, which the page's policy would refuse.
        self.run(&format!("{checker}\nwindow.axe = axe;"));
        let found = self.run("return axe.run(document, { resultTypes: ['violations'] })");
        let violations = found["violations"].as_array().expect("a list").iter();
        let bad = violations
            .filter(|of| ["serious", "critical"].contains(&of["impact"].as_str().unwrap_or("")));
        let passed = found["passes"].as_array().map_or(0, Vec::len);
        assert!(passed > 10, "the checker has looked at too little: {passed}");
        bad.map(|of| format!("{}: {}", of["id"], of["nodes"])).collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) {
        self.ask("POST", "/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    /// A call of WebDriver.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.exchange(method, path, &body.to_string()).expect("an answer");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(status, 200, "{method} {path}: {:.2000}", answer.to_string());
        answer["value"].clone()
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(SOON))?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut reader = BufReader::new(stream);
        let (mut status, mut length) = (0, 0);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            let lower = line.trim_end().to_lowercase();
            if let Some(rest) = lower.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap_or(0);
            }
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).expect("text")))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the session is the end of the browser; the driver would leave it.
        if !self.session.is_empty() {
            drop(self.exchange("DELETE", &format!("/session/{}", self.session), ""));
        }
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
