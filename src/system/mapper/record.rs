//! Which of the kernel's devices are ours: a small file for each, and one for each that is being
//! made.
//!
//! The *intent* is written before the map, and the *record* after it, when the device is known. A
//! crash in between leaves the intent: a device of that image which was not there before is ours.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{KindResult, file_name};
use crate::system::command::io;
use crate::system::{ProcessId, state};
use crate::volume::ImageSpec;

const INTENT: &str = "intent:";

/// A device that we have mapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) boot_id: String,
    pub(super) image: ImageSpec,
    /// What tells this device from a later one of its number: its client.
    pub(super) client: Option<String>,
    /// The same, for a device that a process serves.
    pub(super) process: Option<ProcessId>,
}

/// A map that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) boot_id: String,
    pub(super) image: ImageSpec,
    /// The devices of the image that were there before, and are not ours.
    pub(super) before: Vec<String>,
}

/// The records of one mapper.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    boot_id: String,
}

impl Records {
    pub(super) fn of(folder: PathBuf, boot_id: &str) -> Self {
        Self { folder, boot_id: boot_id.to_owned() }
    }

    /// Says that a map is begun; the answer is to be given to [`Records::done`].
    pub(super) fn begin(&self, image: &ImageSpec, before: Vec<String>) -> KindResult<PathBuf> {
        let path = self.folder.join(format!("{INTENT}{}", file_name(image)));
        let intent = Intent { boot_id: self.boot_id.clone(), image: image.clone(), before };
        self.write(&path, &intent)?;
        Ok(path)
    }

    pub(super) fn done(intent: &Path) {
        let _ = std::fs::remove_file(intent);
    }

    pub(super) fn add(&self, device: &str, record: &Record) -> KindResult<()> {
        self.write(&self.folder.join(device), record)
    }

    pub(super) fn remove(&self, device: &str) {
        let _ = std::fs::remove_file(self.folder.join(device));
    }

    /// The record of a device, of this boot.
    pub(super) fn get(&self, device: &str) -> Option<Record> {
        let record: Record = state::read(&self.folder.join(device))?;
        (record.boot_id == self.boot_id).then_some(record)
    }

    /// Was a map of the image begun, and was this device not there before?
    pub(super) fn is_begun(&self, image: &ImageSpec, device: &str) -> bool {
        let path = self.folder.join(format!("{INTENT}{}", file_name(image)));
        let intent: Option<Intent> = state::read(&path);
        intent.is_some_and(|intent| {
            intent.boot_id == self.boot_id
                && intent.image == *image
                && !intent.before.iter().any(|known| known == device)
        })
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> KindResult<()> {
        state::make_folder(&self.folder).map_err(io(&self.folder))?;
        state::replace(path, value).map_err(io(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_boots_records_are_void() {
        let folder = tempfile::tempdir().expect("a folder");
        let image: ImageSpec = "rbd/docker/x".parse().expect("a spec");
        let records = Records::of(folder.path().join("krbd"), "boot-1");
        let record = Record {
            boot_id: "boot-1".to_owned(),
            image: image.clone(),
            client: None,
            process: None,
        };
        records.add("rbd0", &record).expect("written");
        records.begin(&image, vec!["rbd1".to_owned()]).expect("written");
        assert_eq!(records.get("rbd0"), Some(record));
        assert!(records.is_begun(&image, "rbd2") && !records.is_begun(&image, "rbd1"));

        let later = Records::of(folder.path().join("krbd"), "boot-2");
        assert_eq!(later.get("rbd0"), None);
        assert!(!later.is_begun(&image, "rbd2"));
    }
}
