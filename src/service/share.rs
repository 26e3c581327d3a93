//! Volumes that several hosts have at once, and volumes that are folders of others.

use super::{ErrorKind, Result, Service, Verb};
use crate::backend::Plan;
use crate::catalog::Entry;
use crate::volume::{ByteSize, Claim, FolderSpec, Place, Record, VolumeName};

impl Service {
    /// Drops the entries of those hosts that share a volume, do not answer, and so will never drop
    /// them themselves. Whoever answers is asked to give the volume up, if no container uses it.
    pub(super) fn without_gone_sharers(&self, verb: Verb<'_>, entry: Entry) -> Result<Entry> {
        let gone: Vec<Claim> = entry
            .record
            .sharers
            .iter()
            .filter(|sharer| self.ask_to_release(verb, &sharer.boot_id).is_none())
            .cloned()
            .collect();
        for sharer in &gone {
            tracing::warn!(volume = %verb.name, host = sharer.host, "it shares the volume and is gone");
        }
        if !gone.is_empty() {
            self.change(verb, |record| {
                let mut record = record.clone();
                record.sharers.retain(|sharer| !gone.contains(sharer));
                Some(record)
            })?;
        }
        if entry.record.sharers.is_empty() { Ok(entry) } else { self.entry(verb) }
    }

    /// Is what lies there another volume as well? Several may share it, and one key lets all in.
    pub(super) fn is_anothers_too(&self, verb: Verb<'_>, place: &Place) -> Result<bool> {
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        let mut others = records.iter().filter(|(name, _)| *name != verb.name);
        Ok(others.any(|(_, stored)| stored.entry().record.location == *place))
    }

    /// Refuses to remove a volume of which other volumes are folders.
    pub(super) fn refuse_with_folders(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let Place::Folder(FolderSpec::Subvolume(ours)) = &record.location else { return Ok(()) };
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        let within: Vec<&str> = records
            .iter()
            .filter(|(_, stored)| {
                matches!(stored.entry().record.location,
                    Place::Folder(FolderSpec::Within { subvolume, .. }) if subvolume == *ours)
            })
            .map(|(name, _)| name.as_str())
            .collect();
        if within.is_empty() {
            return Ok(());
        }
        let cause = format!("other volumes are folders of it: {}", within.join(", "));
        Err(verb.error(ErrorKind::InUse, cause).advise("remove those first; it keeps their data"))
    }

    /// What a volume will be that is a folder of another.
    pub(super) fn plan_within(
        &self,
        verb: Verb<'_>,
        volume: &VolumeName,
        folder: &str,
    ) -> Result<Plan> {
        let refused = |why: String| verb.error(ErrorKind::InvalidArgument, why);
        let entry = self.catalog.get(volume).map_err(|error| self.failed(verb, error))?;
        let record = entry.ok_or_else(|| {
            refused(format!("path={volume}/{folder}: there is no volume {volume}"))
                .advise("a path of the file system itself begins with /")
        })?;
        match record.record.location {
            Place::Folder(FolderSpec::Subvolume(subvolume)) => Ok(Plan {
                location: Place::Folder(FolderSpec::Within {
                    subvolume,
                    folder: folder.to_owned(),
                }),
                size: ByteSize::default(),
                adopted: true,
            }),
            Place::Folder(_) => Err(refused(format!(
                "path={volume}/{folder}: volume {volume} is itself a folder that was adopted"
            ))),
            Place::Image(_) => Err(refused(format!(
                "path={volume}/{folder}: volume {volume} is an image, and no folder of CephFS"
            ))),
        }
    }
}
