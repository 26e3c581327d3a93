//! `old-files`: what `keep-files=` is about.

use clap::Args;

use super::table::moment;
use super::{Failure, Outcome, Tool};
use crate::service::OldFilesView;
use crate::volume::{FilesState, VolumeName};

/// `old-files`
#[derive(Debug, Args)]
pub(super) struct Files {
    /// The volume's name
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// Remove them now
    #[arg(long)]
    remove: bool,
}

impl Files {
    pub(super) fn run(&self, tool: &Tool) -> Result<Outcome, Failure> {
        let found = tool.ask(tool.client.old_files(self.volume.as_str(), self.remove))?;
        Ok(tool.show(&found, |found| self.text(found)))
    }

    /// The names, and then what it is.
    fn text(&self, found: &OldFilesView) -> String {
        let OldFilesView { older_than, removed, files } = found;
        let names: String = files.names.iter().flat_map(|name| [name, "\n"]).collect();
        let unnamed = files.count.saturating_sub(files.names.len() as u64);
        let more = if unnamed > 0 { format!("and {unnamed} more\n") } else { String::new() };
        let done = if *removed { "removed" } else { "would be removed" };
        let kept = match files.kept {
            0 => String::new(),
            kept => format!("; {kept} cannot be removed, because of their attributes"),
        };
        let whole = if files.whole { "" } else { "; not all was looked at in time" };
        let (volume, count, bytes) = (&self.volume, files.count, files.bytes);
        let since = moment(*older_than);
        format!(
            "{names}{more}{volume}: {count} files ({bytes}), not written since {since}, \
             {done}{kept}{whole}\n"
        )
    }
}

/// What `inspect` says of them.
pub(super) fn state(files: &FilesState) -> String {
    let FilesState { listed, removed, count, bytes, .. } = files;
    match (removed, listed) {
        (Some(at), _) => format!("{count} ({bytes}) removed at {}", moment(*at)),
        (None, Some(at)) => {
            format!("{count} ({bytes}) listed at {}; the next run removes them", moment(*at))
        }
        (None, None) => "not looked for yet".to_owned(),
    }
}
