//! Removed volumes of CephFS, which are kept for a while.
//!
//! CephFS has no trash for subvolumes, and they cannot be renamed. So a removed one stays where it
//! is, marked by a metadata key that says since when and until when; its keys are taken back, so
//! that nobody can reach it. A new volume of the same name gets a subvolume of another name.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::super::{Found, Provisioning, Result, Trash, TrashedItem};
use super::CephFsBackend;
use crate::ceph::ClusterErrorKind;
use crate::volume::{Description, FolderSpec, SubvolumeSpec, VolumeName};

/// The metadata key that a subvolume in the trash has.
const TRASH_KEY: &str = "docker-volume-ceph.trash";

/// What stands there.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    deleted: Timestamp,
    kept_until: Timestamp,
}

impl Trash<FolderSpec> for CephFsBackend {
    fn trash(&self) -> Result<Vec<TrashedItem<FolderSpec>>> {
        let mut found = Vec::new();
        for subvolume in self.subvolumes()? {
            let location = FolderSpec::Subvolume(subvolume);
            let Some(mark) = told(self.mark(&location))?.flatten() else { continue };
            let Some(text) = told(self.description(&location))? else { continue };
            let Mark { deleted, kept_until } = mark;
            let described = text.and_then(|text| Description::read(&text));
            let name = described.map_or_else(|| location.to_string(), |it| it.name.to_string());
            let id = location.to_string();
            found.push(TrashedItem { location, name, id, deleted, kept_until });
        }
        Ok(found)
    }

    fn trash_description(&self, item: &TrashedItem<FolderSpec>) -> Result<Option<String>> {
        self.description(&item.location)
    }

    /// It stays where it was, which may be anywhere.
    fn restored(&self, _: &VolumeName) -> Result<Vec<Found<FolderSpec>>> {
        self.survey()
    }

    fn restore(&self, item: &TrashedItem<FolderSpec>, _: &VolumeName) -> Result<FolderSpec> {
        if let FolderSpec::Subvolume(subvolume) = &item.location {
            self.cluster.subvolume_metadata_remove(subvolume, TRASH_KEY)?;
        }
        Ok(item.location.clone())
    }

    fn purge(&self, item: &TrashedItem<FolderSpec>) -> Result<()> {
        // Restored since it was listed?
        if !self.is_trash(&item.location)? {
            return Ok(());
        }
        self.deprovision(&item.location, None)
    }
}

/// What a subvolume says; `None` where it went meanwhile, or is not whole and never will say it. What
/// may pass is no such answer: the subvolume would seem not to be there.
pub(super) fn told<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(error) if error.may_pass() => Err(error),
        other => Ok(other.ok()),
    }
}

impl CephFsBackend {
    pub(super) fn mark_as_trash(&self, subvolume: &SubvolumeSpec, keep: Duration) -> Result<()> {
        let deleted = Timestamp::now();
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        let kept_until = deleted.saturating_add(keep).unwrap_or(Timestamp::MAX);
        let mark = serde_json::to_string(&Mark { deleted, kept_until }).expect("plain data");
        Ok(self.cluster.subvolume_metadata_set(subvolume, TRASH_KEY, &mark)?)
    }

    pub(super) fn is_trash(&self, location: &FolderSpec) -> Result<bool> {
        Ok(self.mark(location)?.is_some())
    }

    fn mark(&self, location: &FolderSpec) -> Result<Option<Mark>> {
        let FolderSpec::Subvolume(subvolume) = location else { return Ok(None) };
        match self.cluster.subvolume_metadata_get(subvolume, TRASH_KEY) {
            Ok(text) => Ok(text.and_then(|text| serde_json::from_str(&text).ok())),
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
