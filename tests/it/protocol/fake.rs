//! A service whose volumes do what the first word of their names says.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::protocol::Verbs;
use docker_volume_ceph::service::{
    Changed, Created, Drained, ErrorKind, Figures, Finding, Flattened, HolderView, Inspection,
    Listed, LongOutcome, Lookup, Mounted, OldFilesView, Rebuilt, Released, Resized, Result,
    RollbackPlan, RolledBack, ScheduleView, SnapshotOrder, SnapshotView, Status, TaskEnd,
    TaskFailure, TaskKind, TaskView, Trashed, Verdict, VolumeError, VolumeView, Who,
};
use docker_volume_ceph::system::OldFiles;
use docker_volume_ceph::volume::{
    ByteSize, Consistency, FilesState, ImageSpec, Location, Maker, MountId, Options, Place,
    RemovePolicy, SnapshotName, SnapshotState, Trouble, VolumeKind, VolumeName,
};
use jiff::Timestamp;

/// The fake. Its calls are written down in the order in which they began.
#[derive(Debug, Default)]
pub struct Fake {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    calls: Vec<String>,
    gate_open: bool,
    at_once: usize,
    most_at_once: usize,
}

impl Fake {
    /// Lets every `gated-…` call end, now and from now on.
    pub fn open_gate(&self) {
        self.seen.lock().unwrap().gate_open = true;
        self.changed.notify_all();
    }

    /// The calls so far, as `op volume …`.
    pub fn calls(&self) -> Vec<String> {
        self.seen.lock().unwrap().calls.clone()
    }

    /// The most calls of `gated-…` volumes that were under way at one moment.
    pub fn most_at_once(&self) -> usize {
        self.seen.lock().unwrap().most_at_once
    }

    /// Waits until `call` has begun `times` times.
    pub async fn until(&self, call: &str, times: usize) {
        let limit = Instant::now() + Duration::from_secs(10);
        while self.calls().iter().filter(|seen| *seen == call).count() < times {
            assert!(Instant::now() < limit, "no {times} of {call:?} in {:?}", self.calls());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn begin(&self, call: String) {
        self.seen.lock().unwrap().calls.push(call);
    }

    fn wait_at_gate(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.at_once += 1;
        seen.most_at_once = seen.most_at_once.max(seen.at_once);
        self.changed.notify_all();
        while !seen.gate_open {
            seen = self.changed.wait(seen).unwrap();
        }
        seen.at_once -= 1;
    }

    fn act(&self, op: &'static str, name: &VolumeName, rest: &str, by: &Deadline) -> Result<()> {
        self.begin(format!("{op} {name} {rest}").trim_end().to_owned());
        let error = |kind, cause: &str| Err(VolumeError::new(op, name, kind, cause));
        match name.as_str().split('-').next().unwrap_or_default() {
            "gated" => self.wait_at_gate(),
            "waits" => {
                while by.wait(Duration::from_secs(60)) {}
                return error(ErrorKind::Unavailable, "the cluster did not answer");
            }
            "panics" => panic!("{name} was told to"),
            "absent" => return error(ErrorKind::NotFound, "no such volume"),
            "taken" => return error(ErrorKind::AlreadyExists, "it has other options"),
            "busy" => return error(ErrorKind::InUse, "volume is in use by 2 mounts on this host"),
            "away" => return error(ErrorKind::Unavailable, "the cluster cannot be reached"),
            "full" => return error(ErrorKind::NoSpace, "the pool is full"),
            "broken" => return error(ErrorKind::Internal, "map: sysfs: Input/output error"),
            _ => {}
        }
        Ok(())
    }
}

fn created(name: &VolumeName) -> Created {
    if name.as_str().starts_with("there") { Created::AlreadyThere } else { Created::Created }
}

fn mountpoint(name: &VolumeName) -> PathBuf {
    PathBuf::from(format!("/mnt/ceph/{name}"))
}

fn moment() -> Timestamp {
    "2026-11-21T20:52:03.123456Z".parse().unwrap()
}

/// A volume with everything that a view can have.
pub fn view(name: &VolumeName) -> VolumeView {
    let holder = HolderView {
        host: "node-a".into(),
        address: Some("192.0.2.7:0/123456".into()),
        since: moment(),
        here: true,
    };
    let status = Status {
        kind: VolumeKind::Rbd,
        state: "mounted".into(),
        place: Place::Image(Location::new("rbd", "docker").image(name.as_str())),
        size: ByteSize::gib(10),
        used: Some(ByteSize::mib(300)),
        file_system: Some("ext4".into()),
        options: Options::from([("size".into(), "10G".into())]),
        device: Some("/dev/rbd0".into()),
        mapper: Some("krbd".into()),
        holder: Some(holder),
        sharers: Vec::new(),
        origin: None,
        snapshots: SnapshotState::default(),
        files: Some(FilesState { listed: Some(moment()), count: 2, ..FilesState::default() }),
        task: Some(task(name)),
        mounts: vec!["m1".into()],
        last_error: None,
        warnings: Vec::new(),
        as_of: None,
    };
    VolumeView { name: name.clone(), mountpoint: mountpoint(name), created: moment(), status }
}

/// A schedule with everything that a view can have.
fn a_schedule(volume: VolumeName) -> ScheduleView {
    ScheduleView {
        volume,
        schedule: Some("@every 15m".into()),
        timezone: "Europe/Berlin".into(),
        keep: Some("latest=3,daily=7".into()),
        consistency: Consistency::Filesystem,
        paused: false,
        served: Some(moment()),
        next: Some(moment()),
        trouble: Some(Trouble {
            since: moment(),
            host: "node-b".into(),
            error: "snapshot data: it does not answer".into(),
        }),
    }
}

/// A task under way.
fn task(name: &VolumeName) -> TaskView {
    let (volume, what) = (name.clone(), TaskKind::Rollback);
    TaskView { volume, what, done: 3, total: 8, since: moment(), end: None }
}

/// A snapshot with everything that a view can have.
fn snapshot() -> SnapshotView {
    SnapshotView {
        name: "before".into(),
        created: Some(moment()),
        size: Some(ByteSize::gib(10)),
        consistency: Some(Consistency::Application),
        by: Some(Maker::Hand),
        group: None,
        labels: Options::from([("release".into(), "1.2".into())]),
        protected: true,
        clones: Vec::new(),
        whole: true,
        stood_still_ms: Some(131),
        host: Some("node-a".into()),
    }
}

impl Verbs for Fake {
    fn create(&self, name: &VolumeName, options: &Options, by: &Deadline) -> Result<Created> {
        self.act("create", name, &format!("{options:?}"), by).map(|()| created(name))
    }

    fn remove(&self, name: &VolumeName, policy: Option<RemovePolicy>, by: &Deadline) -> Result<()> {
        self.act("remove", name, policy.map_or("", RemovePolicy::as_str), by)
    }

    fn mount(&self, name: &VolumeName, id: &MountId, by: &Deadline) -> Result<Mounted> {
        self.act("mount", name, id.as_str(), by)?;
        let known = name.as_str().contains("known");
        let nowhere = name.as_str().starts_with("nowhere");
        let mountpoint = if nowhere { PathBuf::new() } else { mountpoint(name) };
        Ok(Mounted { mountpoint, added: !known })
    }

    fn unmount(&self, name: &VolumeName, id: &MountId, _: &Deadline) -> Result<()> {
        self.begin(format!("unmount {name} {id}"));
        match name.as_str().starts_with("busy") {
            true => Err(VolumeError::new("unmount", name, ErrorKind::InUse, "held by bash")),
            false => Ok(()),
        }
    }

    fn get(&self, name: &VolumeName) -> Lookup {
        self.begin(format!("get {name}"));
        match name.as_str().split('-').next().unwrap_or_default() {
            "absent" => Lookup::Absent,
            "unknown" => Lookup::Unknown,
            "panics" => panic!("{name} was told to"),
            "gated" => {
                self.wait_at_gate();
                Lookup::Absent
            }
            _ => Lookup::Found(Box::new(view(name))),
        }
    }

    fn list(&self) -> Vec<Listed> {
        let name = |name: &str| -> VolumeName { name.parse().unwrap() };
        let listed = |name: VolumeName| Listed { mountpoint: mountpoint(&name), name };
        ["pgdata", "web"].map(name).map(listed).into()
    }

    fn volumes(&self) -> Vec<VolumeView> {
        vec![view(&"pgdata".parse().unwrap())]
    }

    fn inspect(&self, name: &VolumeName, by: &Deadline) -> Result<Inspection> {
        self.act("inspect", name, "", by).map(|()| Inspection {
            volume: view(name),
            features: vec!["layering".into(), "exclusive-lock".into()],
            id: "5e2d".into(),
            stored: Some(ByteSize::mib(400)),
            watchers: vec!["192.0.2.7:0/123456".into()],
        })
    }

    fn resize(&self, name: &VolumeName, size: ByteSize, by: &Deadline) -> Result<Resized> {
        self.act("resize", name, &size.bytes().to_string(), by).map(|()| Resized {
            from: ByteSize::gib(10),
            to: size,
            file_system_grown: true,
        })
    }

    fn flatten(&self, name: &VolumeName, by: &Deadline) -> Result<Flattened> {
        self.act("flatten", name, "", by).map(|()| Flattened { done: true, percent: 100 })
    }

    fn trim(&self, name: &VolumeName, by: &Deadline) -> Result<ByteSize> {
        self.act("trim", name, "", by).map(|()| ByteSize::mib(64))
    }

    fn protect(&self, name: &VolumeName, protected: bool, by: &Deadline) -> Result<()> {
        self.act("protect", name, &protected.to_string(), by)
    }

    fn adopt(
        &self,
        name: &VolumeName,
        image: &ImageSpec,
        options: &Options,
        by: &Deadline,
    ) -> Result<Created> {
        self.act("adopt", name, &format!("{image} {options:?}"), by).map(|()| created(name))
    }

    fn trash(&self, _: &Deadline) -> Result<Vec<Trashed>> {
        Ok(vec![Trashed {
            name: "old".into(),
            id: "5e2d".into(),
            place: Place::Image(Location::new("rbd", "docker").image("old")),
            deleted: moment(),
            kept_until: moment(),
        }])
    }

    fn undelete(
        &self,
        name: &str,
        rename: Option<&VolumeName>,
        by: &Deadline,
    ) -> Result<VolumeName> {
        let old: VolumeName = name.parse().unwrap();
        self.act("undelete", &old, rename.map_or("", VolumeName::as_str), by)?;
        Ok(rename.cloned().unwrap_or(old))
    }

    fn who(&self, name: &VolumeName, by: &Deadline) -> Result<Who> {
        self.act("who", name, "", by).map(|()| Who {
            name: name.clone(),
            holder: view(name).status.holder,
            sharers: Vec::new(),
            watchers: vec!["192.0.2.7:0/123456".into()],
            mounts: vec!["m1".into()],
            processes: Vec::new(),
        })
    }

    fn release(&self, name: &VolumeName, fence: bool, by: &Deadline) -> Result<Released> {
        self.act("release", name, &fence.to_string(), by)?;
        Ok(match fence {
            true => Released::Fenced { addresses: vec!["192.0.2.7:0/123456".into()] },
            false => Released::There { host: "web1".into() },
        })
    }

    fn drain(&self, _: bool, _: &Deadline) -> Vec<Drained> {
        let volume = |name: &str, kept: Option<&str>| Drained {
            name: name.parse().expect("a name"),
            kept: kept.map(str::to_owned),
        };
        vec![volume("logs", None), volume("pgdata", Some("volume is in use"))]
    }

    fn snapshot(
        &self,
        volumes: &[VolumeName],
        order: &SnapshotOrder,
        by: &Deadline,
    ) -> Result<Vec<SnapshotView>> {
        for name in volumes {
            let rest = format!("{} {:?} {:?}", order.name, order.consistency, order.labels);
            self.act("snapshot", name, &rest, by)?;
        }
        Ok(volumes.iter().map(|_| snapshot()).collect())
    }

    fn snapshots(&self, name: &VolumeName, by: &Deadline) -> Result<Vec<SnapshotView>> {
        self.act("snapshots", name, "", by).map(|()| vec![snapshot()])
    }

    fn remove_snapshot(&self, name: &VolumeName, of: &SnapshotName, by: &Deadline) -> Result<()> {
        self.act("remove-snapshot", name, of.as_str(), by)
    }

    fn protect_snapshot(
        &self,
        name: &VolumeName,
        snapshot: &SnapshotName,
        protected: bool,
        by: &Deadline,
    ) -> Result<()> {
        self.act("protect-snapshot", name, &format!("{snapshot} {protected}"), by)
    }

    fn changed_since(
        &self,
        name: &VolumeName,
        from: &SnapshotName,
        to: Option<&SnapshotName>,
        by: &Deadline,
    ) -> Result<Changed> {
        let rest = format!("{from} {}", to.map_or("", SnapshotName::as_str));
        let done = self.act("changed-since", name, &rest, by);
        done.map(|()| Changed { bytes: Some(ByteSize::mib(12)) })
    }

    fn schedules(&self, _: &Deadline) -> Result<Vec<ScheduleView>> {
        self.begin("schedules".into());
        Ok(vec![a_schedule("data".parse().expect("a name"))])
    }

    fn set_schedule(
        &self,
        name: &VolumeName,
        options: &Options,
        by: &Deadline,
    ) -> Result<ScheduleView> {
        self.act("set-schedule", name, &format!("{options:?}"), by)?;
        Ok(a_schedule(name.clone()))
    }

    fn pause_schedule(
        &self,
        name: &VolumeName,
        paused: bool,
        by: &Deadline,
    ) -> Result<ScheduleView> {
        self.act("pause-schedule", name, &paused.to_string(), by)?;
        Ok(ScheduleView { paused, ..a_schedule(name.clone()) })
    }

    fn run_schedule(&self, name: &VolumeName, by: &Deadline) -> Result<SnapshotView> {
        self.act("run-schedule", name, "", by).map(|()| snapshot())
    }

    fn rollback_plan(
        &self,
        name: &VolumeName,
        to: &SnapshotName,
        by: &Deadline,
    ) -> Result<RollbackPlan> {
        self.act("rollback-plan", name, to.as_str(), by).map(|()| RollbackPlan {
            snapshot: to.clone(),
            created: Some(moment()),
            changed: Some(ByteSize::mib(12)),
            newer: vec!["later".into()],
            size: ByteSize::gib(20),
            size_then: Some(ByteSize::gib(10)),
        })
    }

    fn rollback(&self, name: &VolumeName, to: &SnapshotName, by: &Deadline) -> Result<RolledBack> {
        self.act("rollback", name, to.as_str(), by).map(|()| RolledBack {
            snapshot: to.clone(),
            safety: "before-rollback-20261121T205203.123Z".parse().unwrap(),
            outcome: LongOutcome::GoesOn,
        })
    }

    fn old_files(&self, name: &VolumeName, remove: bool, by: &Deadline) -> Result<OldFilesView> {
        let files = OldFiles {
            count: 2,
            bytes: ByteSize::mib(3),
            names: vec!["a.log".into(), "old/b.log".into()],
            kept: 1,
            whole: true,
        };
        let done = self.act("old-files", name, &remove.to_string(), by);
        done.map(|()| OldFilesView { older_than: moment(), removed: remove, files })
    }

    fn figures(&self) -> Figures {
        Figures { cluster_is_away: false, fences: 2 }
    }

    fn tasks(&self) -> Vec<TaskView> {
        let kind = ErrorKind::NoSpace;
        let failure = Some(TaskFailure { kind, error: "rollback web: no room".into() });
        let ended = Some(TaskEnd { at: moment(), failure });
        let task = |name: &str| task(&name.parse().unwrap());
        vec![task("pgdata"), TaskView { end: ended, ..task("web") }]
    }

    fn rebuild(&self, _: &Deadline) -> Result<Rebuilt> {
        Ok(Rebuilt { added: vec!["pgdata".into()], ..Rebuilt::default() })
    }

    fn doctor(&self, _: &Deadline) -> Vec<Finding> {
        vec![Finding {
            check: "cluster".into(),
            verdict: Verdict::Ok,
            detail: "reachable".into(),
            advice: None,
        }]
    }
}
