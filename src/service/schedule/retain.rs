//! Which of a schedule's snapshots are removed, and removing them.

use super::super::taken::is_whole;
use super::super::{ErrorKind, Result, Service, Verb};
use crate::audit::audit;
use crate::backend::StoredSnapshot;
use crate::volume::{SnapshotName, SnapshotNote, SnapshotOptions};

impl Service {
    /// Removes the schedule's own snapshots that are not kept. One that something was made of is
    /// left until that is gone.
    pub(super) fn retain(&self, verb: Verb<'_>, options: &SnapshotOptions) -> Result<()> {
        let Some(keep) = &options.keep else { return Ok(()) };
        let record = self.ready(verb)?;
        let mut there = self.stored_snapshots(verb, &record)?;
        let prunable: Vec<_> = there.iter().filter_map(prunable).collect();
        let times: Vec<_> = prunable.iter().map(|(due, _)| *due).collect();
        let before = there.len();
        for place in keep.remove(&times, &options.zone) {
            let name = &prunable[place].1;
            match self.remove_stored(verb, &record, name) {
                Ok(()) => {
                    audit!(volume = %verb.name, snapshot = %name, "snapshot not kept: removed");
                    there.retain(|stored| stored.name != name.as_str());
                }
                Err(error) if error.kind == ErrorKind::InUse => {
                    tracing::info!(volume = %verb.name, snapshot = %name, %error, "not removed yet");
                }
                Err(error) => return Err(error),
            }
        }
        if there.len() == before {
            return Ok(());
        }
        self.note_snapshots(verb, &there, |_| true)
    }
}

/// The due time and the name of a snapshot that retention may remove.
fn prunable(stored: &StoredSnapshot) -> Option<(jiff::Timestamp, SnapshotName)> {
    let note = stored.note.as_deref().and_then(SnapshotNote::read)?;
    let due = note.prunable_due().filter(|_| is_whole(stored))?;
    Some((due, stored.name.parse().ok()?))
}
