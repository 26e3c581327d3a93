//! A server on a socket of its own, and peers that speak raw bytes to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use docker_volume_ceph::deadline::Stop;
use docker_volume_ceph::protocol::{Limits, Listeners, MetricsListener, serve, socket};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake::Fake;
use crate::log;

/// A server that is ended with the test.
pub struct Daemon {
    pub fake: Arc<Fake>,
    pub stop: Stop,
    socket: PathBuf,
    shutdown: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<io::Result<()>>>,
    folder: TempDir,
}

/// An answer, read to its end and not beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: String,
}

/// One connection.
pub struct Peer {
    stream: UnixStream,
    read: Vec<u8>,
}

/// A request as Go's client writes it for the engine: no `Content-Type`, an empty `Host`.
pub fn engine_request(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: {length}\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n{body}"
    )
}

impl Daemon {
    /// A server with the limits of the product.
    pub async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    /// A server with other limits.
    pub async fn with(limits: Limits) -> Self {
        log::begin();
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("plugins/ceph.sock");
        let listening = socket::listen_on(&socket, socket::DEFAULT_MODE).unwrap();
        let (fake, stop) = (Arc::new(Fake::default()), Stop::default());
        let (shutdown, asked) = oneshot::channel();
        let metrics = folder.path().join("metrics.sock");
        let metrics = Some(MetricsListener::unix(&metrics).unwrap());
        let listeners = Listeners { verbs: vec![listening], metrics };
        let serving = serve(listeners, fake.clone(), limits, stop.clone(), async {
            let _ = asked.await;
        });
        let serving = Some(tokio::spawn(serving));
        Self { fake, stop, socket, shutdown: Some(shutdown), serving, folder }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    pub async fn connect(&self) -> Peer {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        Peer { stream, read: Vec::new() }
    }

    /// The answer to one call of the engine.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send(&engine_request(path, body)).await
    }

    /// The answer to those bytes.
    pub async fn send(&self, request: &str) -> Answer {
        let mut peer = self.connect().await;
        peer.send(request).await;
        peer.answer().await
    }

    /// The answer to those bytes where metrics are asked for.
    pub async fn scrape(&self, request: &str) -> Answer {
        let socket = self.folder.path().join("metrics.sock");
        let mut peer =
            Peer { stream: UnixStream::connect(socket).await.unwrap(), read: Vec::new() };
        peer.send(request).await;
        peer.answer().await
    }

    /// What comes back for those bytes until the connection is closed.
    pub async fn all_of(&self, request: &str) -> String {
        let mut peer = self.connect().await;
        peer.send(request).await;
        peer.rest().await
    }

    /// Asks for the end.
    pub fn begin_stop(&mut self) {
        let _ = self.shutdown.take().expect("once").send(());
    }

    /// Waits for the end.
    pub async fn ended(&mut self) {
        let serving = self.serving.take().expect("once");
        within(serving).await.unwrap().unwrap();
    }

    /// The server still answers.
    pub async fn assert_alive(&self) {
        let answer = self.post("/Plugin.Activate", "").await;
        assert_eq!(answer.body, r#"{"Implements":["VolumeDriver"]}"#);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The runtime's end waits for the threads that wait at the gate, or for a deadline.
        self.fake.open_gate();
        self.stop.stop();
    }
}

impl Peer {
    pub async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends what the server takes of it; it may close in the middle.
    pub async fn push(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes()).await;
    }

    /// The next answer.
    pub async fn answer(&mut self) -> Answer {
        within(async {
            loop {
                if let Some((answer, length)) = Answer::parse(&self.read) {
                    self.read.drain(..length);
                    return answer;
                }
                let count = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            }
        })
        .await
    }

    /// Everything until the connection is closed.
    pub async fn rest(&mut self) -> String {
        within(async {
            loop {
                match self.stream.read_buf(&mut self.read).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    // Closed with bytes of ours unread.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                    Err(error) => panic!("{error}"),
                }
            }
            String::from_utf8(std::mem::take(&mut self.read)).unwrap()
        })
        .await
    }
}

impl Answer {
    fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let head_end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&bytes[..head_end]).unwrap();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
            line.map(|line| line[name.len()..].trim().to_owned())
        };
        let length: usize = header("content-length:").map_or(0, |length| length.parse().unwrap());
        let body = bytes.get(head_end..head_end + length)?;
        let answer = Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            content_type: header("content-type:").unwrap_or_default(),
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        Some((answer, head_end + length))
    }

    /// The engine's error text, without the request's id.
    pub fn err(&self) -> String {
        self.err_and_id().0
    }

    /// The engine's error text, and the id of the request with which it ends.
    pub fn err_and_id(&self) -> (String, String) {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        let err = body["Err"].as_str().expect("an Err");
        let (said, id) = err.split_once(" (request ").expect("an error names its request");
        (said.to_owned(), id.strip_suffix(')').expect("nothing after it").to_owned())
    }
}

/// What `work` gives, which must not take longer than any test may.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it ends in time")
}
