//! `snapshot`: what is done with the snapshots of volumes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};

use super::rollback::Rollback;
use super::table::{Table, moment, or_dash};
use super::{Failure, Outcome, Tool, json};
use crate::protocol::admin::{Nothing, SnapshotRequest, SnapshotsAnswer};
use crate::service::SnapshotView;
use crate::volume::{Consistency, Maker, SnapshotName, VolumeName};

/// `snapshot`
#[derive(Debug, Subcommand)]
pub(super) enum Snapshot {
    /// Take a snapshot of a volume, or of several at one point in time
    Create(Create),
    /// List the snapshots of a volume
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Remove snapshots of a volume
    #[command(visible_alias = "remove")]
    Rm(Remove),
    /// Keep a snapshot from being removed
    Protect(One),
    /// Let a snapshot be removed again
    Unprotect(One),
    /// Tell how much changed since a snapshot
    Diff(Diff),
    /// Give a volume the content of a snapshot back, after a snapshot of what it holds now
    Rollback(Rollback),
}

/// `snapshot create`
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The volume's name
    #[arg(value_name = "VOLUME", required_unless_present = "group")]
    volume: Option<VolumeName>,
    /// The snapshot's name [default: the time]
    #[arg(value_name = "NAME")]
    name: Option<SnapshotName>,
    /// Several volumes, all at one point in time; the snapshot's name comes after it
    #[arg(long, value_name = "VOLUME,…", value_delimiter = ',')]
    group: Vec<VolumeName>,
    /// What it is to promise: application (hooks, and the file system stands still), filesystem (it
    /// stands still) or crash (what the disk holds) [default: the volume's, else application]
    #[arg(long, value_name = "WHAT")]
    consistency: Option<Consistency>,
    /// Something to remember of it; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

/// `snapshot ls`
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// Print names only
    #[arg(long, short)]
    quiet: bool,
}

/// `snapshot rm`
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// Names of snapshots
    #[arg(value_name = "NAME", required = true)]
    names: Vec<SnapshotName>,
}

/// A command for one snapshot.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// The snapshot's name
    #[arg(value_name = "NAME")]
    name: SnapshotName,
}

/// `snapshot diff`
#[derive(Debug, Args)]
pub(super) struct Diff {
    #[command(flatten)]
    from: One,
    /// Up to this snapshot [default: until now]
    #[arg(long, value_name = "NAME")]
    to: Option<SnapshotName>,
}

fn label(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE".to_owned()),
    }
}

impl Snapshot {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        match self {
            Self::Create(create) => create.run(tool),
            Self::Ls(ls) => ls.run(tool),
            Self::Rm(remove) => remove.run(tool),
            Self::Protect(one) => one.protect(true, tool),
            Self::Unprotect(one) => one.protect(false, tool),
            Self::Diff(diff) => diff.run(tool),
            Self::Rollback(rollback) => rollback.run(tool),
        }
    }
}

impl Create {
    /// With `--group`, the first word is the snapshot's name: there is no other volume.
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let (volumes, name) = match (&self.group[..], &self.volume, &self.name) {
            ([], Some(volume), name) => (vec![volume.clone()], name.clone()),
            (group, None, None) => (group.to_vec(), None),
            (group, Some(word), None) => {
                let name = word.as_str().parse();
                let name = name.map_err(|error| Failure::new(super::Exit::Usage, error))?;
                (group.to_vec(), Some(name))
            }
            _ => {
                let text = "with --group, give the snapshot's name and no other volume";
                return Err(Failure::new(super::Exit::Usage, text));
            }
        };
        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        let request = SnapshotRequest { volumes, name, consistency: self.consistency, labels };
        let snapshots = tool.ask(tool.client.snapshot(&request))?;
        let line = |(volume, of): (&VolumeName, &SnapshotView)| format!("{volume}@{}\n", of.name);
        Ok(tool.show(&SnapshotsAnswer { snapshots }, |answer| {
            request.volumes.iter().zip(&answer.snapshots).map(line).collect()
        }))
    }
}

impl Ls {
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let snapshots = tool.ask(tool.client.snapshots(self.volume.as_str()))?;
        Ok(tool.show(&SnapshotsAnswer { snapshots }, |answer| self.text(&answer.snapshots)))
    }

    fn text(&self, snapshots: &[SnapshotView]) -> String {
        if self.quiet {
            return snapshots.iter().flat_map(|of| [&of.name[..], "\n"]).collect();
        }
        let mut table =
            Table::new(["NAME", "CREATED", "CONSISTENCY", "BY", "STOOD STILL", "NOTES"]);
        for of in snapshots {
            let notes = [
                of.protected.then(|| "protected".to_owned()),
                (!of.whole).then(|| "cut off, and removed in a while".to_owned()),
                of.group.as_ref().map(|group| format!("group {group}")),
                (!of.clones.is_empty()).then(|| format!("clones: {}", of.clones.join(" "))),
            ];
            let labels = of.labels.iter().map(|(key, value)| format!("{key}={value}"));
            let notes: Vec<String> = notes.into_iter().flatten().chain(labels).collect();
            table.row([
                of.name.clone(),
                or_dash(of.created.map(moment)),
                or_dash(of.consistency),
                or_dash(of.by.as_ref().map(Maker::as_str)),
                or_dash(of.stood_still_ms.map(|ms| format!("{ms} ms"))),
                notes.join(", "),
            ]);
        }
        table.print()
    }
}

impl Remove {
    /// Removes what can be removed, one after the other; what cannot does not keep the rest.
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let mut outcome = Outcome::default();
        for name in &self.names {
            let removed = tool.client.remove_snapshot(self.volume.as_str(), name.as_str());
            match tool.ask(removed) {
                Ok(()) if tool.json => outcome.text += &json(&Nothing {}),
                Ok(()) => outcome.text += &format!("{}@{name}\n", self.volume),
                Err(failure) => outcome.failures.push(failure),
            }
        }
        Ok(outcome)
    }
}

impl One {
    fn protect(&self, on: bool, tool: &Tool) -> Result<Outcome, Failure> {
        let (volume, name) = (self.volume.as_str(), self.name.as_str());
        tool.ask(tool.client.protect_snapshot(volume, name, on))?;
        Ok(tool.show(&Nothing {}, |_| format!("{volume}@{name}\n")))
    }
}

impl Diff {
    fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let (volume, from) = (self.from.volume.as_str(), self.from.name.as_str());
        let to = self.to.as_ref().map(SnapshotName::as_str);
        let changed = tool.ask(tool.client.changed_since(volume, from, to))?;
        let until = to.unwrap_or("now");
        Ok(tool.show(&changed, |changed| match changed.bytes {
            Some(bytes) => format!("{volume}: {bytes} changed from {from} to {until}\n"),
            None => format!("{volume}: this kind of volume cannot tell what changed\n"),
        }))
    }
}
