//! What a person has to look at, and which volumes therefore come first. Pure judgements.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::reader::Overview;
use super::words::ago;
use crate::service::{Finding, Status, TaskView, Verdict, VolumeView};
use crate::volume::VolumeName;

/// A volume that is so full is near its end, in percent of the image.
const NEARLY_FULL: u64 = 80;
/// A volume that is so full stops its containers soon: a file system takes some for itself, and keeps
/// some for root. It is what the alert rules warn of.
const FULL: u64 = 90;
/// How long after it was due a snapshot is late. A takeover by another host takes less.
const LATE: Duration = Duration::from_secs(15 * 60);

/// How bad it is; the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// It does not work.
    Problem,
    /// It works, and a person should know.
    Warning,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Concern {
    pub(super) level: Level,
    /// What is the matter.
    pub(super) text: String,
    /// What to do.
    pub(super) advice: Option<String>,
}

/// What is the matter with which volumes.
#[derive(Debug)]
pub(super) struct Concerns {
    of: BTreeMap<VolumeName, Vec<Concern>>,
    /// What is said of several volumes in the same words, such as of a pool: with their names.
    pub(super) shared: Vec<(Concern, Vec<VolumeName>)>,
}

impl Concerns {
    /// Of all volumes.
    pub(super) fn of_all(overview: &Overview, now: Timestamp) -> Self {
        let mut said: BTreeMap<&str, Vec<&VolumeName>> = BTreeMap::new();
        for volume in &overview.volumes {
            for warning in &volume.status.warnings {
                said.entry(warning).or_default().push(&volume.name);
            }
        }
        let mut all = Self { of: BTreeMap::new(), shared: Vec::new() };
        for volume in &overview.volumes {
            let concerns = of_volume(volume, overview, now);
            all.of.insert(volume.name.clone(), concerns);
        }
        for (text, volumes) in said {
            let concern = warning(text, None);
            match volumes[..] {
                [one] => all.of.entry(one.clone()).or_default().push(concern),
                _ => all.shared.push((concern, volumes.into_iter().cloned().collect())),
            }
        }
        all.of.values_mut().for_each(|of| of.sort());
        all
    }

    /// Of one volume, the worst first.
    pub(super) fn of(&self, volume: &VolumeName) -> &[Concern] {
        self.of.get(volume).map_or(&[], Vec::as_slice)
    }

    /// How bad it is with a volume.
    pub(super) fn level(&self, volume: &VolumeName) -> Option<Level> {
        self.of(volume).first().map(|concern| concern.level)
    }

    /// How many volumes have a problem, or only a warning.
    pub(super) fn count(&self, level: Level) -> usize {
        self.of.values().filter(|of| of.first().is_some_and(|it| it.level == level)).count()
    }
}

/// What the doctor found, less what is well, and what is said of the volumes anyway.
pub(super) fn found(findings: &[Finding], concerns: &Concerns) -> Vec<(String, Concern)> {
    let is_said = |finding: &Finding| {
        let volume = finding.check.strip_prefix("volume ").and_then(|name| name.parse().ok());
        volume.is_some_and(|volume| concerns.level(&volume) == Some(Level::Problem))
    };
    let level = |verdict| match verdict {
        Verdict::Ok => None,
        Verdict::Warning => Some(Level::Warning),
        Verdict::Failed => Some(Level::Problem),
    };
    let mut found: Vec<_> = findings
        .iter()
        .filter(|finding| !is_said(finding))
        .filter_map(|finding| {
            let Finding { check, verdict, detail, advice } = finding;
            let level = level(*verdict)?;
            Some((check.clone(), Concern { level, text: detail.clone(), advice: advice.clone() }))
        })
        .collect();
    found.sort_by_key(|(_, concern)| concern.level);
    found
}

/// How full a volume is, in percent, where that is known.
pub(super) fn percent_used(status: &Status) -> Option<u64> {
    let (used, size) = (status.used?.bytes(), status.size.bytes());
    (size > 0).then(|| u64::try_from(u128::from(used) * 100 / u128::from(size)).unwrap_or(100))
}

fn of_volume(volume: &VolumeView, overview: &Overview, now: Timestamp) -> Vec<Concern> {
    let VolumeView { name, status, .. } = volume;
    let tasks = overview.tasks.iter().filter(|task| task.volume == *name);
    let mut concerns: Vec<Concern> = tasks.filter_map(of_task).collect();
    concerns.extend(of_state(name, status));
    concerns.extend(of_space(name, status));
    concerns.extend(of_schedule(name, overview, now));
    concerns.extend(status.snapshots.trouble.as_ref().map(|trouble| {
        let since = ago(trouble.since, now);
        let text =
            format!("its snapshots fail, since {since}, on {}: {}", trouble.host, trouble.error);
        problem(text, Some(format!("docker ceph schedule run {name}")))
    }));
    concerns
}

fn of_task(task: &TaskView) -> Option<Concern> {
    let failure = task.end.as_ref()?.failure.as_ref()?;
    Some(problem(format!("{} failed: {}", task.what.as_str(), failure.error), None))
}

fn of_state(name: &VolumeName, status: &Status) -> Option<Concern> {
    let look = || Some(format!("docker ceph inspect {name}; docker ceph who {name}"));
    match (&status.state[..], &status.last_error) {
        ("broken", error) => {
            let why = error.as_deref().unwrap_or("its device or mount is gone");
            Some(problem(format!("broken: {why}"), Some("restart its containers".to_owned())))
        }
        (_, Some(error)) => Some(problem(error, look())),
        // Its warning says what it is about.
        ("missing" | "unknown", None) => Some(problem(&status.state, None)),
        _ => None,
    }
}

fn of_space(name: &VolumeName, status: &Status) -> Option<Concern> {
    let percent = percent_used(status)?;
    let text = format!("{percent}\u{a0}% full");
    let advice = Some(format!("docker ceph resize {name} SIZE"));
    Some(Concern { level: fullness(percent)?, text, advice })
}

/// How bad it is that a volume is so full.
pub(super) fn fullness(percent: u64) -> Option<Level> {
    match percent {
        FULL.. => Some(Level::Problem),
        NEARLY_FULL.. => Some(Level::Warning),
        _ => None,
    }
}

fn of_schedule(name: &VolumeName, overview: &Overview, now: Timestamp) -> Option<Concern> {
    let schedule = overview.schedules.get(name)?;
    let next = schedule.next.filter(|_| !schedule.paused && schedule.trouble.is_none())?;
    let late = now.duration_since(next).unsigned_abs();
    (next < now && late > LATE).then(|| {
        let text = format!("a snapshot that was due {} has not been made", ago(next, now));
        warning(text, Some("docker ceph schedule ls; docker ceph doctor".to_owned()))
    })
}

fn problem(text: impl Into<String>, advice: Option<String>) -> Concern {
    Concern { level: Level::Problem, text: text.into(), advice }
}

fn warning(text: impl Into<String>, advice: Option<String>) -> Concern {
    Concern { level: Level::Warning, text: text.into(), advice }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::protocol::admin::Version;
    use crate::service::ScheduleView;

    fn now() -> Timestamp {
        "2026-11-29T02:00:00Z".parse().expect("a time")
    }

    /// A volume that is well, but for these fields of its status.
    fn volume(name: &str, more: Value) -> Value {
        let mut status = json!({
            "kind": "rbd", "state": "ready", "pool": "rbd", "namespace": "docker", "image": name,
            "size": 1000, "used": null, "file-system": "ext4", "options": {}, "device": null,
            "mapper": null, "holder": null, "mounts": [], "last-error": null,
        });
        let more = more.as_object().expect("fields").clone();
        status.as_object_mut().expect("fields").extend(more);
        json!({"name": name, "mountpoint": "/m", "created": now(), "status": status})
    }

    fn concerns(volumes: &[Value], schedules: &[Value], tasks: &[Value]) -> Concerns {
        let read = |of: &[Value]| Value::from(of.to_vec());
        let schedules: Vec<ScheduleView> =
            serde_json::from_value(read(schedules)).expect("schedules");
        let overview = Overview {
            daemon: Version { version: String::new(), api: 1, pid: 1, started: now() },
            volumes: serde_json::from_value(read(volumes)).expect("volumes"),
            tasks: serde_json::from_value(read(tasks)).expect("tasks"),
            schedules: schedules.into_iter().map(|of| (of.volume.clone(), of)).collect(),
            schedules_error: None,
        };
        Concerns::of_all(&overview, now())
    }

    fn level(more: Value) -> Option<Level> {
        concerns(&[volume("a", more)], &[], &[]).level(&"a".parse().expect("a name"))
    }

    #[test]
    fn what_a_volume_says_of_itself_is_judged() {
        assert_eq!(level(json!({})), None);
        assert_eq!(level(json!({"used": 799, "state": "mounted"})), None);
        assert_eq!(level(json!({"used": 800})), Some(Level::Warning));
        assert_eq!(level(json!({"used": 900})), Some(Level::Problem));
        assert_eq!(level(json!({"used": 900, "size": 0})), None);
        assert_eq!(level(json!({"state": "broken"})), Some(Level::Problem));
        assert_eq!(level(json!({"last-error": "map a: no"})), Some(Level::Problem));
        assert_eq!(level(json!({"warnings": ["discard does nothing"]})), Some(Level::Warning));
        let trouble = json!({"since": now(), "host": "web1", "error": "a hook failed"});
        assert_eq!(level(json!({"snapshots": {"trouble": trouble}})), Some(Level::Problem));
        let failed = json!({"volume": "a", "what": "flatten", "done": 1, "total": 2, "since": now(),
            "end": {"at": now(), "failure": {"kind": "no-space", "error": "no room"}}});
        let concerns = concerns(&[volume("a", json!({}))], &[], &[failed]);
        assert_eq!(concerns.count(Level::Problem), 1);
    }

    #[test]
    fn a_snapshot_is_late_when_nobody_can_be_about_to_make_it() {
        let late = |next: &str, paused: bool| {
            let schedule = json!({"volume": "a", "schedule": "@every 1h", "timezone": "UTC",
                "keep": null, "consistency": "crash", "paused": paused, "served": null,
                "next": next});
            concerns(&[volume("a", json!({}))], &[schedule], &[]).count(Level::Warning)
        };
        assert_eq!(late("2026-11-29T02:30:00Z", false), 0);
        assert_eq!(late("2026-11-29T01:50:00Z", false), 0);
        assert_eq!(late("2026-11-29T01:30:00Z", false), 1);
        assert_eq!(late("2026-11-29T01:30:00Z", true), 0);
    }

    #[test]
    fn what_many_say_is_said_once_and_puts_none_of_them_first() {
        let full = json!({"warnings": ["pool rbd is full"]});
        let concerns = concerns(&[volume("a", full.clone()), volume("b", full)], &[], &[]);
        assert_eq!((concerns.count(Level::Warning), concerns.shared.len()), (0, 1));
        assert_eq!(concerns.shared[0].1.len(), 2);
    }

    #[test]
    fn the_doctor_does_not_say_again_what_stands_with_the_volume() {
        let concerns = concerns(&[volume("a", json!({"last-error": "map a: no"}))], &[], &[]);
        let finding = |check: &str, verdict| Finding {
            check: check.to_owned(),
            verdict,
            detail: "a detail".to_owned(),
            advice: None,
        };
        let findings = [
            finding("catalog", Verdict::Ok),
            finding("leftovers", Verdict::Warning),
            finding("volume a", Verdict::Failed),
            finding("volume b", Verdict::Failed),
        ];
        let found = found(&findings, &concerns);
        let checks: Vec<&str> = found.iter().map(|(check, _)| &check[..]).collect();
        assert_eq!(checks, ["volume b", "leftovers"]);
    }
}
