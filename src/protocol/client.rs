//! The operator's side of the admin API: one typed method for each path.
//!
//! Promises that a call ends within its time limit, and that an error is one that a person can act
//! on: that the daemon is not running is told from that it may not be asked, and from what it
//! refused. One connection for each call: the tool makes one or two and ends.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::admin::{
    AdoptRequest, CreateAnswer, CreateRequest, DrainAnswer, DrainRequest, Findings, Kind, Nothing,
    OldFilesRequest, PREFIX, PauseRequest, ProtectRequest, Refusal, ReleaseRequest, ResizeRequest,
    ScheduleRequest, SchedulesAnswer, SnapshotRequest, SnapshotsAnswer, TasksAnswer, TrashAnswer,
    TrimAnswer, UndeleteAnswer, UndeleteRequest, Version, Volumes,
};
use super::path;
use crate::service::{
    Changed, Created, Drained, Finding, Flattened, Inspection, OldFilesView, Rebuilt, Released,
    Resized, RollbackPlan, RolledBack, ScheduleView, SnapshotView, TaskView, Trashed, VolumeView,
    Who,
};
use crate::volume::Options;
use crate::volume::{ByteSize, RemovePolicy, VolumeName};

/// Longer than the daemon's own limit for any verb, so that its answer is what is heard.
const LIMIT: Duration = Duration::from_secs(120);

/// A rebuild reads every image, and a snapshot waits for its hooks.
const LONG_LIMIT: Duration = Duration::from_secs(15 * 60);

/// The largest answer that is read: a hundred thousand volumes fit.
const LARGEST_ANSWER: usize = 256 << 20;

/// A client of the daemon that listens on one socket.
#[derive(Debug, Clone)]
pub struct AdminClient {
    socket: PathBuf,
    limit: Option<Duration>,
}

/// A call that did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nothing listens there.
    #[error(
        "no daemon listens on {socket}: start it with 'systemctl start docker-volume-ceph' or \
         'docker-ceph serve', or name its socket with --socket"
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is there, and this user may not use it.
    #[error("permission denied on {socket}: run this as root, for example with sudo")]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be used.
    #[error("{socket} cannot be used: {source}")]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The daemon was reached and the exchange broke off.
    #[error("the daemon on {socket} did not finish its answer: {cause}; see its log")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why, with its causes.
        cause: String,
    },
    /// The daemon was reached and gave no answer in time.
    #[error("the daemon on {socket} gave no answer within {} s; see its log", limit.as_secs())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        limit: Duration,
    },
    /// The daemon answered something that this version of the tool does not understand.
    #[error("the daemon's answer ({status}) cannot be read: {cause}; do the versions match?")]
    Unreadable {
        /// The HTTP status.
        status: u16,
        /// Why.
        cause: String,
    },
    /// The daemon refused, and said why.
    #[error("{error}")]
    Refused {
        /// What the caller can do about it.
        kind: Kind,
        /// What went wrong and what to do, in words.
        error: String,
    },
}

impl ClientError {
    /// The daemon's own word on what the caller can do; `None` where it did not get that far.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Refused { kind, .. } => Some(*kind),
            Self::NotRunning { .. }
            | Self::Denied { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. }
            | Self::Unreadable { .. } => None,
        }
    }
}

/// A result of a call.
pub type Result<T> = std::result::Result<T, ClientError>;

impl AdminClient {
    /// A client of the daemon on that socket. Nothing is opened before the first call.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), limit: None }
    }

    /// The same client, whose calls end after `limit`.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The socket that it asks.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Which daemon answers.
    pub async fn version(&self) -> Result<Version> {
        self.get("version").await
    }

    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<VolumeView>> {
        self.get("volumes").await.map(|Volumes { volumes }| volumes)
    }

    /// Creates a volume.
    pub async fn create(&self, name: &str, options: &Options) -> Result<Created> {
        let request = CreateRequest { name: name.to_owned(), options: options.clone() };
        self.post("volumes", &request).await.map(|CreateAnswer { created }| created)
    }

    /// All that is known of one volume.
    pub async fn inspect(&self, name: &str) -> Result<Inspection> {
        self.get(&of_volume(name, "")).await
    }

    /// Removes a volume, by its own policy or the given one.
    pub async fn remove(&self, name: &str, policy: Option<RemovePolicy>) -> Result<()> {
        let query = policy.map(|policy| format!("?policy={policy}")).unwrap_or_default();
        let path = of_volume(name, &query);
        let gone: Result<Nothing> = self.call(Method::DELETE, &path, Bytes::new(), LIMIT).await;
        gone.map(|Nothing {}| ())
    }

    /// Grows a volume to `size`, such as `20G`.
    pub async fn resize(&self, name: &str, size: &str) -> Result<Resized> {
        let request = ResizeRequest { size: size.to_owned() };
        self.post(&of_volume(name, "/resize"), &request).await
    }

    /// Has a volume flattened; to be asked again until it is done.
    pub async fn flatten(&self, name: &str) -> Result<Flattened> {
        self.call(Method::POST, &of_volume(name, "/flatten"), Bytes::new(), LIMIT).await
    }

    /// Gives unused blocks back to the cluster.
    pub async fn trim(&self, name: &str) -> Result<ByteSize> {
        let trimmed = self.post(&of_volume(name, "/trim"), &Nothing {}).await;
        trimmed.map(|TrimAnswer { bytes }| bytes)
    }

    /// The files that a volume's `keep-files` is about; removed with `remove`.
    pub async fn old_files(&self, name: &str, remove: bool) -> Result<OldFilesView> {
        self.post(&of_volume(name, "/old-files"), &OldFilesRequest { remove }).await
    }

    /// Sets or lifts delete protection.
    pub async fn protect(&self, name: &str, protected: bool) -> Result<()> {
        let request = ProtectRequest { protected };
        self.post(&of_volume(name, "/protect"), &request).await.map(|Nothing {}| ())
    }

    /// Has a volume given up by whoever holds it; by force with `fence`.
    pub async fn release(&self, name: &str, fence: bool) -> Result<Released> {
        self.post(&of_volume(name, "/release"), &ReleaseRequest { fence }).await
    }

    /// Has all given up that this host holds and no container uses; also what an engine that has
    /// ended never unmounted, with `engine_stopped`.
    pub async fn drain(&self, engine_stopped: bool) -> Result<Vec<Drained>> {
        let answer = self.post("drain", &DrainRequest { engine_stopped }).await;
        answer.map(|DrainAnswer { volumes }| volumes)
    }

    /// Who has a volume.
    pub async fn who(&self, name: &str) -> Result<Who> {
        self.get(&of_volume(name, "/who")).await
    }

    /// Takes a snapshot of each of some volumes, at one point in time.
    pub async fn snapshot(&self, request: &SnapshotRequest) -> Result<Vec<SnapshotView>> {
        let body = serde_json::to_vec(request).expect("requests are plain data");
        let answer = self.call(Method::POST, "snapshots", body.into(), LONG_LIMIT).await;
        answer.map(|SnapshotsAnswer { snapshots }| snapshots)
    }

    /// The snapshots of a volume, the oldest first.
    pub async fn snapshots(&self, name: &str) -> Result<Vec<SnapshotView>> {
        let answer = self.get(&of_volume(name, "/snapshots")).await;
        answer.map(|SnapshotsAnswer { snapshots }| snapshots)
    }

    /// Removes a snapshot.
    pub async fn remove_snapshot(&self, name: &str, snapshot: &str) -> Result<()> {
        let path = of_snapshot(name, snapshot, "");
        let gone: Result<Nothing> = self.call(Method::DELETE, &path, Bytes::new(), LIMIT).await;
        gone.map(|Nothing {}| ())
    }

    /// Sets or lifts the protection of a snapshot.
    pub async fn protect_snapshot(&self, name: &str, snapshot: &str, on: bool) -> Result<()> {
        let request = ProtectRequest { protected: on };
        let done = self.post(&of_snapshot(name, snapshot, "/protect"), &request).await;
        done.map(|Nothing {}| ())
    }

    /// How much changed since a snapshot, up to another or until now.
    pub async fn changed_since(&self, name: &str, from: &str, to: Option<&str>) -> Result<Changed> {
        let query = to.map(|to| format!("?to={}", path::encode(to))).unwrap_or_default();
        let path = of_snapshot(name, from, &format!("/diff{query}"));
        self.call(Method::GET, &path, Bytes::new(), LONG_LIMIT).await
    }

    /// The volumes that have a schedule.
    pub async fn schedules(&self) -> Result<Vec<ScheduleView>> {
        let answer = self.get("schedules").await;
        answer.map(|SchedulesAnswer { schedules }| schedules)
    }

    /// Sets, changes or ends the schedule of a volume.
    pub async fn set_schedule(&self, name: &str, options: &Options) -> Result<ScheduleView> {
        let request = ScheduleRequest { options: options.clone() };
        self.post(&of_volume(name, "/schedule"), &request).await
    }

    /// Lets a schedule rest, or go on.
    pub async fn pause_schedule(&self, name: &str, paused: bool) -> Result<ScheduleView> {
        self.post(&of_volume(name, "/schedule/pause"), &PauseRequest { paused }).await
    }

    /// Makes a snapshot now as the schedule would.
    pub async fn run_schedule(&self, name: &str) -> Result<SnapshotView> {
        let path = of_volume(name, "/schedule/run");
        self.call(Method::POST, &path, Bytes::from_static(b"{}"), LONG_LIMIT).await
    }

    /// What a rollback would lose.
    pub async fn rollback_plan(&self, name: &str, snapshot: &str) -> Result<RollbackPlan> {
        let path = of_snapshot(name, snapshot, "/rollback");
        self.call(Method::GET, &path, Bytes::new(), LONG_LIMIT).await
    }

    /// Rolls a volume back. Where the answer says that it goes on, [`AdminClient::tasks`] tells the
    /// rest.
    pub async fn rollback(&self, name: &str, snapshot: &str) -> Result<RolledBack> {
        self.post(&of_snapshot(name, snapshot, "/rollback"), &Nothing {}).await
    }

    /// What takes long in the daemon, or ended a short while ago.
    pub async fn tasks(&self) -> Result<Vec<TaskView>> {
        self.get("tasks").await.map(|TasksAnswer { tasks }| tasks)
    }

    /// Makes a volume of an image that is there.
    pub async fn adopt(&self, name: &str, image: &str, options: &Options) -> Result<Created> {
        let request = AdoptRequest {
            name: name.to_owned(),
            image: image.to_owned(),
            options: options.clone(),
        };
        self.post("adopt", &request).await.map(|CreateAnswer { created }| created)
    }

    /// What can be brought back.
    pub async fn trash(&self) -> Result<Vec<Trashed>> {
        self.get("trash").await.map(|TrashAnswer { volumes }| volumes)
    }

    /// Brings a removed volume back, under its own name or another; the answer is its name.
    pub async fn undelete(&self, name: &str, rename: Option<&str>) -> Result<VolumeName> {
        let request =
            UndeleteRequest { name: name.to_owned(), rename: rename.map(ToOwned::to_owned) };
        self.post("undelete", &request).await.map(|UndeleteAnswer { name }| name)
    }

    /// Writes records for the volumes whose records are missing.
    pub async fn rebuild(&self) -> Result<Rebuilt> {
        self.call(Method::POST, "catalog/rebuild", Bytes::new(), LONG_LIMIT).await
    }

    /// What the doctor sees from inside the daemon.
    pub async fn doctor(&self) -> Result<Vec<Finding>> {
        self.get("doctor").await.map(|Findings { findings }| findings)
    }

    /// The answer to a question, refusals included, as the daemon wrote it.
    pub(super) async fn question(&self, path: &str) -> Result<(StatusCode, Bytes)> {
        self.within(LIMIT, self.exchange(Method::GET, path, Bytes::new())).await
    }

    async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A> {
        self.call(Method::GET, path, Bytes::new(), LIMIT).await
    }

    async fn post<A: DeserializeOwned>(&self, path: &str, request: &impl Serialize) -> Result<A> {
        let body = serde_json::to_vec(request).expect("requests are plain data");
        self.call(Method::POST, path, body.into(), LIMIT).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<A> {
        let (status, answer) = self.within(limit, self.exchange(method, path, body)).await?;
        read_answer(status, &answer)
    }

    async fn within<T>(&self, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let limit = self.limit.unwrap_or(limit);
        let timeout = |_| ClientError::Timeout { socket: self.socket.clone(), limit };
        tokio::time::timeout(limit, work).await.map_err(timeout)?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let stream =
            UnixStream::connect(&self.socket).await.map_err(|e| self.explain_connect(e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        // It ends with the answer, or when the sender is dropped.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("{PREFIX}/{path}"))
            .header(header::HOST, "docker-ceph")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .expect("the path is percent-encoded");
        let answer: Response<_> =
            sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER);
        let body = body.collect().await.map_err(|e| self.broken(e.as_ref()))?;
        Ok((status, body.to_bytes()))
    }

    fn explain_connect(&self, source: std::io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { socket }
            }
            std::io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
            _ => ClientError::Connect { socket, source },
        }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), cause: with_causes(error) }
    }
}

fn of_volume(name: &str, rest: &str) -> String {
    format!("volumes/{}{rest}", path::encode(name))
}

fn of_snapshot(name: &str, snapshot: &str, rest: &str) -> String {
    of_volume(name, &format!("/snapshots/{}{rest}", path::encode(snapshot)))
}

fn read_answer<A: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<A> {
    let unreadable = |error: serde_json::Error| ClientError::Unreadable {
        status: status.as_u16(),
        cause: error.to_string(),
    };
    if status.is_success() {
        return serde_json::from_slice(body).map_err(unreadable);
    }
    let Refusal { error, kind } = serde_json::from_slice(body).map_err(unreadable)?;
    Err(ClientError::Refused { kind, error })
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_kind_and_its_text() {
        let body = br#"{"error":"inspect a: there is no such volume","kind":"not-found"}"#;
        let error = read_answer::<Nothing>(StatusCode::NOT_FOUND, body).expect_err("a refusal");
        assert_eq!(error.kind(), Some(Kind::NotFound));
        assert_eq!(error.to_string(), "inspect a: there is no such volume");
    }

    #[test]
    fn an_answer_of_something_else_is_no_refusal() {
        let error = read_answer::<Nothing>(StatusCode::BAD_GATEWAY, b"<html>").expect_err("html");
        assert_eq!(error.kind(), None);
        assert!(error.to_string().contains("502"), "{error}");
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(of_volume("../x?policy=keep", ""), "volumes/..%2Fx%3Fpolicy%3Dkeep");
    }
}
