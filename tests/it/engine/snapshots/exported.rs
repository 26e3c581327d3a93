//! A snapshot of an image as a file of this machine, and what the file system in it has to pass before
//! anybody has mounted it.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::engine::verified;
use crate::support::daemon::{run, timed};
use crate::support::host::text;

/// A file system in a file.
pub(crate) struct Exported {
    folder: TempDir,
}

impl Exported {
    /// Where `rbd` has put the image, once it was told the path.
    pub(crate) fn by(export: impl FnOnce(&str)) -> Self {
        let it = Self { folder: tempfile::tempdir().expect("a folder") };
        export(&it.image());
        it
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self) -> String {
        self.path("image").to_str().expect("text").to_owned()
    }

    /// By its journal it has nothing to replay; the number of its records.
    #[track_caller]
    pub(crate) fn clean_ext4(&self) -> u64 {
        let image = self.image();
        let superblock = text(&run(timed(30, "dumpe2fs").args(["-h", &image])));
        assert!(superblock.contains("has_journal"), "{superblock}");
        assert!(!superblock.contains("needs_recovery"), "{superblock}");
        let checked = run(timed(30, "e2fsck").args(["-f", "-n", &image]));
        assert!(checked.status.success(), "{checked:?}");
        let log = run(timed(30, "debugfs").args(["-R", "cat /_data/log", &image])).stdout;
        fs::write(self.path("log"), log).expect("written");
        self.records()
    }

    /// It dirties its log on purpose while it stands still, and is whole once that is replayed; the
    /// number of its records.
    #[track_caller]
    pub(crate) fn whole_xfs(&self) -> u64 {
        const REPLAY: &str = "set -e; cd \"$1\"; mkdir at; mount -o loop,nouuid image at; \
            trap 'umount at' EXIT; cp at/_data/log log";
        let folder = self.folder.path().to_str().expect("text");
        let replayed = run(timed(60, "sh").args(["-c", REPLAY, "replay", folder]));
        assert!(replayed.status.success(), "{replayed:?}");
        let checked = run(timed(60, "xfs_repair").args(["-n", &self.image()]));
        assert!(checked.status.success(), "{checked:?}");
        self.records()
    }

    #[track_caller]
    fn records(&self) -> u64 {
        let said = verified(self.folder.path());
        said.parse().unwrap_or_else(|_| panic!("not all records are whole: {said}"))
    }
}
