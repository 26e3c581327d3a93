//! Commands that look: `ls`, `inspect`, `who`; and those that take one name and nothing else.

use clap::Args;

use super::table::{self, Table, moment, or_dash};
use super::{Failure, Outcome, Tool, json, old_files};
use crate::protocol::admin::{Nothing, TrashAnswer, TrimAnswer, Volumes};
use crate::service::{Inspection, OriginView, TaskView, Tie, Trashed, VolumeView, Who};
use crate::volume::VolumeName;

/// `ls`
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Show removed volumes that can be brought back instead
    #[arg(long)]
    trash: bool,
    /// Print names only
    #[arg(long, short)]
    quiet: bool,
}

/// `inspect`
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// Names of volumes
    #[arg(value_name = "NAME", required = true)]
    names: Vec<VolumeName>,
}

/// A command for one volume.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The volume's name
    #[arg(value_name = "NAME")]
    name: VolumeName,
}

impl Ls {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        if self.trash {
            let volumes = tool.ask(tool.client.trash())?;
            return Ok(tool.show(&TrashAnswer { volumes }, |answer| self.trash(&answer.volumes)));
        }
        let volumes = tool.ask(tool.client.volumes())?;
        Ok(tool.show(&Volumes { volumes }, |answer| self.volumes(&answer.volumes)))
    }

    fn volumes(&self, volumes: &[VolumeView]) -> String {
        if self.quiet {
            return lines(volumes.iter().map(|volume| volume.name.as_str()));
        }
        let mut table = Table::new(["NAME", "SIZE", "USED", "STATE", "HOLDER", "PLACE"]);
        for VolumeView { name, status, .. } in volumes {
            let holder = status.holder.as_ref();
            let stale = if status.as_of.is_some() { "?" } else { "" };
            table.row([
                name.to_string(),
                status.size.to_string(),
                or_dash(status.used),
                format!("{}{stale}", status.state),
                or_dash(holder.map(|holder| &holder.host)),
                status.place.to_string(),
            ]);
        }
        let known_at = volumes.iter().filter_map(|volume| volume.status.as_of).min();
        let note = known_at.map(|at| {
            format!("? The cluster gives no answer: this is what was known at {}.\n", moment(at))
        });
        table.print() + &note.unwrap_or_default()
    }

    fn trash(&self, volumes: &[Trashed]) -> String {
        if self.quiet {
            return lines(volumes.iter().map(|volume| &volume.name[..]));
        }
        let mut table = Table::new(["NAME", "REMOVED", "KEPT UNTIL", "PLACE", "ID"]);
        for volume in volumes {
            table.row([
                volume.name.clone(),
                moment(volume.deleted),
                moment(volume.kept_until),
                volume.place.to_string(),
                volume.id.clone(),
            ]);
        }
        table.print()
    }
}

impl Inspect {
    /// Shows what there is; as JSON it is always a list, like that of `docker volume inspect`.
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let mut found = Vec::new();
        let mut failures = Vec::new();
        for name in &self.names {
            match tool.ask(tool.client.inspect(name.as_str())) {
                Ok(inspection) => found.push(inspection),
                Err(failure) => failures.push(failure),
            }
        }
        let text = match tool.json {
            true => json(&found),
            false => found.iter().map(inspection).collect::<Vec<_>>().join("\n"),
        };
        Ok(Outcome { failures, ..Outcome::text(text) })
    }
}

impl One {
    pub(super) fn who(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let who = tool.ask(tool.client.who(self.name.as_str()))?;
        Ok(tool.show(&who, who_has))
    }

    pub(super) fn trim(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let bytes = tool.ask(tool.client.trim(self.name.as_str()))?;
        let text = |answer: &TrimAnswer| format!("{}: {} given back\n", self.name, answer.bytes);
        Ok(tool.show(&TrimAnswer { bytes }, text))
    }

    pub(super) fn protect(&self, protected: bool, tool: &Tool) -> Result<Outcome, Failure> {
        tool.ask(tool.client.protect(self.name.as_str(), protected))?;
        Ok(tool.show(&Nothing {}, |_| format!("{}\n", self.name)))
    }
}

fn inspection(inspection: &Inspection) -> String {
    let VolumeView { name, mountpoint, created, status } = &inspection.volume;
    let mut table = Table::of_pairs();
    table.pair("Name", name);
    table.pair("State", &status.state);
    table.pair("Mountpoint", mountpoint.display());
    table.pair("Created", moment(*created));
    table.pair("Kind", status.kind);
    table.pair("Place", &status.place);
    table.pair("ID", &inspection.id);
    table.pair_if("Made of", status.origin.as_ref().map(made_of));
    table.pair("Size", status.size);
    table.pair("Stored", or_dash(inspection.stored));
    table.pair("Used", or_dash(status.used));
    table.pair_if("Old files", status.files.as_ref().map(old_files::state));
    table.pair_if("Under way", status.task.as_ref().map(under_way));
    table.pair("File system", or_dash(status.file_system.as_ref()));
    table.pair("Features", inspection.features.join(", "));
    let options = status.options.iter().map(|(key, value)| format!("{key}={value}"));
    table.lines("Options", options);
    table.pair_if("Device", status.device.as_ref().map(|device| device.display()));
    table.pair_if("Mapper", status.mapper.as_ref());
    table.pair("Holder", or_dash(status.holder.as_ref().map(table::holder)));
    table.lines("Shared by", status.sharers.iter().map(table::holder));
    table.lines("Watchers", inspection.watchers.iter().cloned());
    table.lines("Mounts here", status.mounts.iter().cloned());
    table.lines("Warnings", status.warnings.iter().cloned());
    table.pair_if("Last error", status.last_error.as_ref());
    table.pair_if("Known at", status.as_of.map(moment));
    table.print()
}

/// What is being done to a volume, and how far it is.
pub(super) fn under_way(task: &TaskView) -> String {
    let percent = task.done.saturating_mul(100).checked_div(task.total);
    let far = percent.map_or_else(String::new, |percent| format!(", {percent} % done"));
    format!("{} since {}{far}", task.what.as_str(), moment(task.since))
}

/// What a volume was made of, and what ties it to that.
pub(super) fn made_of(origin: &OriginView) -> String {
    let percent = origin.percent.map(|percent| format!(", {percent} % copied")).unwrap_or_default();
    let tie = match origin.tie {
        Tie::Copying => "being copied",
        Tie::Shared => "shares its data",
        Tie::Flattening => "being flattened",
        Tie::Shown => "shown where it lies",
        Tie::None => "stands alone",
    };
    format!("{} ({tie}{percent})", origin.from)
}

fn who_has(who: &Who) -> String {
    let mut table = Table::of_pairs();
    table.pair("Name", &who.name);
    table.pair("Holder", or_dash(who.holder.as_ref().map(table::holder)));
    table.lines("Shared by", who.sharers.iter().map(table::holder));
    table.lines("Watchers", who.watchers.iter().cloned());
    table.lines("Mounts here", who.mounts.iter().cloned());
    let processes = who.processes.iter();
    let process = processes
        .map(|holder| format!("{} {} at {}", holder.pid, holder.command, holder.target.display()));
    table.lines("Processes here", process);
    table.print()
}

fn lines<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.flat_map(|name| [name, "\n"]).collect()
}
