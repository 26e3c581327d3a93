//! `snapshot rollback`: says what will be lost, asks, and waits for the end.

use std::io::{IsTerminal, Write, stderr, stdin};

use clap::Args;
use jiff::{SpanRound, Timestamp, Unit};

use super::progress::Long;
use super::table::moment;
use super::{Exit, Failure, Outcome, Tool};
use crate::service::{LongOutcome, RollbackPlan, RolledBack, TaskKind};
use crate::volume::{SnapshotName, VolumeName};

/// `snapshot rollback`
#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// The snapshot's name
    #[arg(value_name = "SNAPSHOT")]
    snapshot: SnapshotName,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl Rollback {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let (volume, snapshot) = (self.volume.as_str(), self.snapshot.as_str());
        if !self.yes {
            let plan = tool.ask(tool.client.rollback_plan(volume, snapshot))?;
            confirm(&self.losses(&plan))?;
        }
        let long = Long { volume: &self.volume, what: TaskKind::Rollback };
        let rolled =
            tool.ask_long(long, tool.client.rollback(volume, snapshot), |it| it.outcome)?;
        let rolled = RolledBack { outcome: LongOutcome::Done, ..rolled };
        Ok(tool.show(&rolled, |RolledBack { snapshot, safety, .. }| {
            format!(
                "{volume}: rolled back to {snapshot}\n\
                 What it held until now is in {volume}@{safety}\n"
            )
        }))
    }

    /// What will be lost, what stays, and the way back.
    fn losses(&self, plan: &RollbackPlan) -> String {
        let Self { volume, snapshot, .. } = self;
        let since = plan.created.map_or_else(
            || format!("snapshot {snapshot} was made"),
            |at| format!("{}{}", moment(at), ago(at, Timestamp::now())),
        );
        let changed = plan.changed.map_or_else(
            || "how much that is cannot be told for this kind of volume".to_owned(),
            |bytes| format!("{bytes}, in whole objects"),
        );
        let newer = match &plan.newer[..] {
            [] => "there are no newer snapshots".to_owned(),
            [one] => format!("the newer snapshot {one} stays"),
            all => format!("the {} newer snapshots stay", all.len()),
        };
        let size = plan.size_then.filter(|then| *then < plan.size).map(|then| {
            format!("  The volume had {then} then; it keeps its {} of now.\n", plan.size)
        });
        format!(
            "Rolling {volume} back to {snapshot}:\n  \
             What was written since {since} is lost ({changed}).\n  \
             A snapshot before-rollback-… of what it holds now is made first: roll back to that to \
             have it again;\n  {newer}.\n{}",
            size.unwrap_or_default()
        )
    }
}

/// Asks a person; a script has to say `--yes`.
fn confirm(losses: &str) -> Result<(), Failure> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        let text = format!("{losses}Nothing was changed: give --yes to go on");
        return Err(Failure::new(Exit::Usage, text));
    }
    // Without an answer, the answer is no.
    let mut answer = String::new();
    let asked = write!(stderr(), "{losses}Go on? [y/N] ").and_then(|()| stderr().flush());
    let _ = asked.and_then(|()| stdin().read_line(&mut answer));
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Failed, "nothing was changed")),
    }
}

/// How long ago something was, for people.
fn ago(at: Timestamp, now: Timestamp) -> String {
    let smallest = if now.duration_since(at).as_hours() < 48 { Unit::Minute } else { Unit::Day };
    let rounded = SpanRound::new().smallest(smallest).largest(Unit::Day).days_are_24_hours();
    match now.since(at).and_then(|span| span.round(rounded)) {
        Ok(span) if span.is_positive() => format!(" ({span:#} ago)"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_days_or_in_hours_and_minutes() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().expect("a time");
        for (then, text) in [
            ("2026-11-28T11:59:50Z", ""),
            ("2026-11-28T11:17:00Z", " (43m ago)"),
            ("2026-11-27T10:30:00Z", " (1d 1h 30m ago)"),
            ("2026-10-01T12:00:00Z", " (58d ago)"),
            ("2026-12-01T12:00:00Z", ""),
        ] {
            assert_eq!(ago(then.parse().expect("a time"), now), text, "{then}");
        }
    }
}
