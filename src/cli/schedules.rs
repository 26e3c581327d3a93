//! `schedule`: when snapshots of volumes are made by themselves.

use clap::{Args, Subcommand};

use super::table::{Table, moment, or_dash};
use super::{Failure, Outcome, Tool};
use crate::protocol::admin::SchedulesAnswer;
use crate::service::ScheduleView;
use crate::volume::{Options, VolumeName};

/// `schedule`
#[derive(Debug, Subcommand)]
pub(super) enum Schedule {
    /// List the volumes that have a schedule, and when a snapshot of each is due next
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Give a volume a schedule, or change what it has
    Set(Set),
    /// End the schedule of volumes; snapshots that it has made stay
    #[command(visible_alias = "remove")]
    Rm(Volumes),
    /// Make a snapshot of volumes now, as their schedules would
    Run(Volumes),
    /// Let the schedule of volumes rest
    Pause(Volumes),
    /// Let it go on; what was due meanwhile is not made up for
    Resume(Volumes),
}

/// `schedule ls`
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Print names of volumes only
    #[arg(long, short)]
    quiet: bool,
}

/// `schedule set`
#[derive(Debug, Args)]
pub(super) struct Set {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// When snapshots are due: '0 */6 * * *', @daily, '@every 15m'
    #[arg(value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Which of them are kept, such as latest=3,hourly=24,daily=7 (all: all of them)
    #[arg(long, value_name = "WHAT")]
    keep: Option<String>,
    /// The time zone of schedule and retention, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// What becomes of a due time that nobody could serve: once (the latest is made up for) or skip
    #[arg(long, value_name = "HOW")]
    catch_up: Option<String>,
    /// How much later than due a snapshot may start, so that not all start at once
    #[arg(long, value_name = "TIME")]
    jitter: Option<String>,
    /// What the snapshots are to promise: application, filesystem or crash
    #[arg(long, value_name = "WHAT")]
    consistency: Option<String>,
}

/// A command for some volumes.
#[derive(Debug, Args)]
pub(super) struct Volumes {
    /// Names of volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<VolumeName>,
}

impl Schedule {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        match self {
            Self::Ls(ls) => ls.run(tool),
            Self::Set(set) => set.run(tool),
            Self::Rm(volumes) => Ok(volumes.each(|volume| end(tool, volume))),
            Self::Run(volumes) => Ok(volumes.each(|volume| run(tool, volume))),
            Self::Pause(volumes) => Ok(volumes.each(|volume| pause(tool, volume, true))),
            Self::Resume(volumes) => Ok(volumes.each(|volume| pause(tool, volume, false))),
        }
    }
}

impl Ls {
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let schedules = tool.ask(tool.client.schedules())?;
        Ok(tool.show(&SchedulesAnswer { schedules }, |answer| self.text(&answer.schedules)))
    }

    fn text(&self, schedules: &[ScheduleView]) -> String {
        if self.quiet {
            return schedules.iter().map(|of| format!("{}\n", of.volume)).collect();
        }
        let mut table =
            Table::new(["VOLUME", "SCHEDULE", "ZONE", "KEEP", "LAST SERVED", "NEXT DUE", "NOTES"]);
        for of in schedules {
            let notes = [
                of.paused.then(|| "paused".to_owned()),
                of.trouble.as_ref().map(|trouble| {
                    format!("failing since {}: {}", moment(trouble.since), trouble.error)
                }),
            ];
            table.row([
                of.volume.to_string(),
                or_dash(of.schedule.as_ref()),
                of.timezone.clone(),
                of.keep.clone().unwrap_or_else(|| "all".to_owned()),
                or_dash(of.served.map(moment)),
                or_dash(of.next.map(moment)),
                notes.into_iter().flatten().collect::<Vec<_>>().join(", "),
            ]);
        }
        table.print()
    }
}

impl Set {
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let options = self.options();
        if options.is_empty() {
            let text = "nothing is said of the schedule: give it, such as '0 */6 * * *', or a flag";
            return Err(Failure::new(super::Exit::Usage, text));
        }
        let set = tool.ask(tool.client.set_schedule(self.volume.as_str(), &options))?;
        Ok(tool.show(&set, |set| match set.next {
            Some(next) => format!("{}: next due {}\n", set.volume, moment(next)),
            None => format!("{}\n", set.volume),
        }))
    }

    fn options(&self) -> Options {
        let given = [
            ("snapshot-schedule", &self.schedule),
            ("snapshot-keep", &self.keep),
            ("snapshot-timezone", &self.timezone),
            ("snapshot-catch-up", &self.catch_up),
            ("snapshot-jitter", &self.jitter),
            ("snapshot-consistency", &self.consistency),
        ];
        let said = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        said.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Volumes {
    /// One after the other; what cannot be done with one does not keep the rest.
    fn each(&self, act: impl Fn(&str) -> Result<Outcome, Failure>) -> Outcome {
        let mut all = Outcome::default();
        for volume in &self.volumes {
            match act(volume.as_str()) {
                Ok(outcome) => all.text += &outcome.text,
                Err(failure) => all.failures.push(failure),
            }
        }
        all
    }
}

fn end(tool: &Tool, volume: &str) -> Result<Outcome, Failure> {
    let none = Options::from([("snapshot-schedule".to_owned(), "none".to_owned())]);
    let ended = tool.ask(tool.client.set_schedule(volume, &none))?;
    Ok(tool.show(&ended, |_| format!("{volume}\n")))
}

fn run(tool: &Tool, volume: &str) -> Result<Outcome, Failure> {
    let made = tool.ask(tool.client.run_schedule(volume))?;
    Ok(tool.show(&made, |made| format!("{volume}@{}\n", made.name)))
}

fn pause(tool: &Tool, volume: &str, paused: bool) -> Result<Outcome, Failure> {
    let done = tool.ask(tool.client.pause_schedule(volume, paused))?;
    Ok(tool.show(&done, |_| format!("{volume}\n")))
}
