//! A daemon that answers from a table, so that what the tool prints can be held against a text.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// One answer: method and path of the request, the status, the body.
pub(super) type Canned = (&'static str, u16, &'static str);

/// What was asked: method and path, and the body.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<Mutex<Vec<(String, String)>>>);

impl Asked {
    /// Everything since the last look.
    pub(super) fn take(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.0.lock().expect("nobody panics with it"))
    }
}

/// Listens on `socket` for as long as the test runs.
pub(super) fn start(socket: &Path, answers: &'static [Canned]) -> Asked {
    let listener = UnixListener::bind(socket).expect("a socket");
    let asked = Asked::default();
    let heard = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Some((request, body)) = read_request(&stream) {
                heard.0.lock().expect("nobody panics with it").push((request.clone(), body));
                answer(&stream, &request, answers);
            }
        }
    });
    asked
}

fn read_request(stream: &UnixStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        head.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    let request = head.first()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((request, String::from_utf8(body).ok()?))
}

fn answer(mut stream: &UnixStream, request: &str, answers: &[Canned]) {
    let found = answers.iter().find(|(known, ..)| *known == request);
    let missing = &("", 404, r#"{"error":"no such path","kind":"no-such-path"}"#);
    let (_, status, body) = found.unwrap_or(missing);
    let length = body.len();
    // The tool may have gone away; its test says so.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
}
