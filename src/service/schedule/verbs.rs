//! What operators do with schedules: look, set, pause, run.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::due_now;
use crate::deadline::Deadline;
use crate::service::{ErrorKind, Result, Service, SnapshotView, Verb};
use crate::volume::{
    Consistency, Options, Record, SnapshotOptions, SnapshotState, Trouble, VolumeName,
};

/// A volume's schedule as it is shown. The JSON keys are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScheduleView {
    /// The volume.
    pub volume: VolumeName,
    /// When snapshots are due; `None`: never, there is no schedule.
    pub schedule: Option<String>,
    /// The time zone of schedule and retention.
    pub timezone: String,
    /// Which of its snapshots are kept; `None`: all.
    pub keep: Option<String>,
    /// What the snapshots are to promise.
    pub consistency: Consistency,
    /// It rests.
    pub paused: bool,
    /// The due time that was served last.
    pub served: Option<Timestamp>,
    /// The next due time; one in the past is overdue.
    pub next: Option<Timestamp>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

impl Service {
    /// The volumes that have a schedule.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn schedules(&self, deadline: &Deadline) -> Result<Vec<ScheduleView>> {
        let all = "schedules".parse().expect("a name");
        let verb = Verb::new("list", &all, deadline);
        self.await_cluster(verb)?;
        let now = self.cluster_time(verb)?;
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        let scheduled = records.iter().filter(|(_, stored)| stored.scheduled);
        Ok(scheduled.map(|(name, stored)| view(name, &stored.entry().record, now)).collect())
    }

    /// Sets, changes or ends the schedule of a volume: what is not given stays as it is. What was
    /// due before is not made up for.
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot be used, and as every verb.
    pub fn set_schedule(
        &self,
        name: &VolumeName,
        given: &Options,
        deadline: &Deadline,
    ) -> Result<ScheduleView> {
        let verb = Verb::new("schedule snapshots of", name, deadline);
        self.change_schedule(verb, |record, now| {
            let options = self.rules.rescheduled(&record.options, given);
            let options = options.map_err(|error| self.failed(verb, error))?;
            let other_times = ["snapshot-schedule", "snapshot-timezone"]
                .iter()
                .any(|name| options.get(*name) != record.options.get(*name));
            let mut snapshots = record.snapshots.clone();
            snapshots.trouble = None;
            if other_times {
                snapshots.since = Some(now);
            }
            Ok(Record { options, snapshots, ..record.clone() })
        })
    }

    /// Lets a schedule rest, or go on. What was due meanwhile is not made up for.
    ///
    /// # Errors
    /// `InvalidArgument` where there is no schedule, and as every verb.
    pub fn pause_schedule(
        &self,
        name: &VolumeName,
        paused: bool,
        deadline: &Deadline,
    ) -> Result<ScheduleView> {
        let op = if paused { "pause the schedule of" } else { "resume the schedule of" };
        let verb = Verb::new(op, name, deadline);
        self.change_schedule(verb, |record, now| {
            self.scheduled(verb, record)?;
            let since = if paused { record.snapshots.since } else { Some(now) };
            let snapshots = SnapshotState { paused, since, ..record.snapshots.clone() };
            Ok(Record { snapshots, ..record.clone() })
        })
    }

    /// Makes a snapshot now as the schedule would, and removes those that are not kept.
    ///
    /// # Errors
    /// `InvalidArgument` where there is no schedule, and as [`Service::snapshot`].
    pub fn run_schedule(&self, name: &VolumeName, deadline: &Deadline) -> Result<SnapshotView> {
        let verb = Verb::new("run the schedule of", name, deadline);
        self.await_cluster(verb)?;
        let options = self.scheduled(verb, &self.ready(verb)?)?;
        let now = self.cluster_time(verb)?;
        let due = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.make_scheduled(verb, &options, due)?;
        let made = crate::volume::SnapshotName::scheduled(due);
        let there = self.stored_snapshots(verb, &self.ready(verb)?)?;
        let made = there.iter().find(|of| of.name == made.as_str()).ok_or_else(|| {
            verb.error(ErrorKind::Internal, "it was made, and its retention keeps nothing of it")
        })?;
        Ok(SnapshotView::of(made))
    }

    fn change_schedule(
        &self,
        verb: Verb<'_>,
        change: impl Fn(&Record, Timestamp) -> Result<Record>,
    ) -> Result<ScheduleView> {
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        let now = self.cluster_time(verb)?;
        // What is wrong with it is said before anything is changed.
        change(&self.ready(verb)?, now)?;
        let record = self.change(verb, |record| change(record, now).ok())?;
        if !record.is_read_only() {
            self.describe(verb, &record)?;
        }
        Ok(view(verb.name, &record, now))
    }

    /// The options of a volume that has a schedule.
    fn scheduled(&self, verb: Verb<'_>, record: &Record) -> Result<SnapshotOptions> {
        let options = record.snapshot_options().map_err(|error| self.failed(verb, error))?;
        if options.timetable.is_some() {
            return Ok(options);
        }
        let name = verb.name;
        Err(verb.error(ErrorKind::InvalidArgument, "the volume has no schedule").advise(format!(
            "give it one with docker ceph schedule set {name} '0 */6 * * *', or take a snapshot \
             with docker ceph snapshot create {name}"
        )))
    }
}

fn view(volume: &VolumeName, record: &Record, now: Timestamp) -> ScheduleView {
    let of = |name: &str| record.options.get(name).cloned();
    let due = due_now(volume, record, now);
    let SnapshotState { paused, served, trouble, .. } = record.snapshots.clone();
    ScheduleView {
        volume: volume.clone(),
        schedule: of("snapshot-schedule").filter(|_| record.is_scheduled()),
        timezone: of("snapshot-timezone").unwrap_or_else(|| "UTC".to_owned()),
        keep: of("snapshot-keep").filter(|keep| keep != "all"),
        consistency: record.snapshot_options().map(|of| of.consistency).unwrap_or_default(),
        paused,
        served,
        next: due.and_then(|due| due.serve.or(due.next)),
        trouble,
    }
}
