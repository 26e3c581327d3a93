//! What is attached to this host and who asked for it, kept where the kernel's mounts are kept: in
//! a folder that dies with the boot.
//!
//! A reference is a mount ID, and mount IDs are *hints*. The engine repeats the ID of a running
//! container for `docker cp`, repeats an old one after a failed Unmount or its own crash, and
//! never sends many Unmounts at all. Neither a set nor a counter survives that. The rule that does:
//!
//! * Mount with a known ID is idempotent; Unmount drops the ID, and an unknown ID is success;
//! * a volume is torn down only when no ID is left **and** no other mount namespace holds its file
//!   system;
//! * an ID that no kernel user backs for a grace period is dropped.
//!
//! One file a volume, replaced by temp file, fsync, rename, under the volume's lock:
//!
//! ```text
//!  (no file) ──▶ attaching ──▶ mounted ──▶ detaching ──▶ (no file)
//!                    └──────────────────────▲
//! ```
//!
//! `attaching` is written before the first step and `detaching` before the first undo, so that
//! whatever a killed daemon left is found under the volume's name and undone. A file of another
//! boot is void: its mounts died with that boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backend::Attachment;
use crate::durable;
use crate::volume::{Claim, MountId, Place, VolumeName};

/// Where an attachment is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    /// On its way up, or a daemon died there.
    Attaching,
    /// In use.
    Mounted,
    /// On its way down, or a daemon died there, or a step down failed.
    Detaching,
}

/// One volume on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    /// The volume.
    pub(super) name: VolumeName,
    /// The boot that it belongs to.
    pub(super) boot_id: String,
    /// Where the volume lies.
    pub(super) location: Place,
    /// Attached for reading only.
    pub(super) read_only: bool,
    /// Attached without keeping others from it.
    pub(super) shared: bool,
    /// Where it is in its life.
    pub(super) phase: Phase,
    /// What of it is attached, once something is.
    pub(super) attachment: Option<Attachment>,
    /// Where the file system is mounted.
    pub(super) target: PathBuf,
    /// The folder of it that containers see.
    pub(super) folder: String,
    /// Since when; with the boot, what a claim of this reference is known by.
    pub(super) since: Timestamp,
    /// Who asked for it.
    pub(super) ids: BTreeSet<MountId>,
}

impl Reference {
    /// What containers see.
    pub(super) fn mountpoint(&self) -> PathBuf {
        if self.folder.is_empty() { self.target.clone() } else { self.target.join(&self.folder) }
    }

    /// Is it this reference's claim? Never told by the host's name, which clones share.
    pub(super) fn has_made(&self, claim: &Claim) -> bool {
        claim.boot_id == self.boot_id && claim.since == self.since
    }
}

/// All volumes on this host, in memory and on disk alike.
#[derive(Debug)]
pub(super) struct References {
    folder: PathBuf,
    held: Mutex<BTreeMap<VolumeName, Reference>>,
}

impl References {
    /// Reads what an earlier daemon of this boot left, and drops what is of another.
    pub(super) fn open(state_folder: &Path, boot_id: &str) -> io::Result<Self> {
        let folder = state_folder.join("volumes");
        fs::create_dir_all(&folder).map_err(|error| named(&folder, error))?;
        let mut held = BTreeMap::new();
        for file in fs::read_dir(&folder).map_err(|error| named(&folder, error))? {
            let path = file.map_err(|error| named(&folder, error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(reference) if reference.boot_id == boot_id => {
                    held.insert(reference.name.clone(), reference);
                }
                Ok(reference) => {
                    tracing::info!(volume = %reference.name, "reference of another boot dropped");
                    fs::remove_file(&path).map_err(|error| named(&path, error))?;
                }
                // The reconciler finds what it stood for by the kernel's evidence.
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "unreadable reference")
                }
            }
        }
        Ok(Self { folder, held: Mutex::new(held) })
    }

    /// The volume's reference.
    pub(super) fn get(&self, name: &VolumeName) -> Option<Reference> {
        self.lock().get(name).cloned()
    }

    /// All references.
    pub(super) fn all(&self) -> Vec<Reference> {
        self.lock().values().cloned().collect()
    }

    /// Writes a reference; on disk first.
    pub(super) fn put(&self, reference: &Reference) -> io::Result<()> {
        let path = self.path(&reference.name);
        durable::replace(&path, &serde_json::to_vec(reference)?)?;
        self.lock().insert(reference.name.clone(), reference.clone());
        Ok(())
    }

    /// Drops a reference; one that is gone is success.
    pub(super) fn remove(&self, name: &VolumeName) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(&path, error)),
            _ => {
                self.lock().remove(name);
                Ok(())
            }
        }
    }

    fn path(&self, name: &VolumeName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<VolumeName, Reference>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<Reference> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, boot_id: &str) -> Reference {
        Reference {
            name: name.parse().expect("a name"),
            boot_id: boot_id.to_owned(),
            location: Place::Image("rbd/docker/a".parse().expect("a spec")),
            read_only: false,
            shared: false,
            phase: Phase::Mounted,
            attachment: None,
            target: PathBuf::from("/mnt/a"),
            folder: String::new(),
            since: Timestamp::UNIX_EPOCH,
            ids: BTreeSet::from(["id1".parse().expect("an ID")]),
        }
    }

    #[test]
    fn references_survive_the_daemon_and_not_the_boot() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = References::open(folder.path(), "boot1").expect("opens");
        first.put(&reference("a", "boot1")).expect("written");
        let second = References::open(folder.path(), "boot1").expect("opens");
        assert_eq!(second.all(), [reference("a", "boot1")]);
        let after_boot = References::open(folder.path(), "boot2").expect("opens");
        assert_eq!(after_boot.all(), []);
        assert_eq!(References::open(folder.path(), "boot1").expect("opens").all(), []);
    }

    #[test]
    fn an_unreadable_reference_does_not_hide_the_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = References::open(folder.path(), "boot1").expect("opens");
        first.put(&reference("a", "boot1")).expect("written");
        fs::File::create(folder.path().join("volumes/b.json")).expect("written");
        let second = References::open(folder.path(), "boot1").expect("opens");
        assert_eq!(second.all(), [reference("a", "boot1")]);
    }
}
