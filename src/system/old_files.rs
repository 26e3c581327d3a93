//! Files that nobody has written for long, as the logs of a volume.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::kernel::{Call, FindOld};
use super::linux::LinuxSystem;
use super::{Result, SystemErrorKind};
use crate::deadline::Deadline;
use crate::volume::ByteSize;

/// So long before the deadline the search ends by itself, to say what it has found.
const SPARE: Duration = Duration::from_secs(2);

/// What was found, and removed where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OldFiles {
    /// How many.
    pub count: u64,
    /// The space that they take, or took; of files that have another name nothing.
    pub bytes: ByteSize,
    /// Up to 100 of them, by their path in the folder, with control characters replaced and the
    /// beginning of long ones cut off.
    pub names: Vec<String>,
    /// How many more could not be removed, because they are marked as not to be changed.
    pub kept: u64,
    /// All was seen; `false` where the time was over before, or folders lie too deep.
    pub whole: bool,
}

impl LinuxSystem {
    pub(super) fn find_old_files(
        &self,
        folder: &Path,
        older_than: Timestamp,
        remove: bool,
        deadline: &Deadline,
    ) -> Result<OldFiles> {
        let left = deadline.left();
        let within = left.saturating_sub(SPARE.min(left / 4));
        let find = FindOld { folder: folder.to_owned(), older_than, remove, within };
        let found = self.kernel().call(&Call::OldFiles(find), deadline);
        found.map_err(|kind: SystemErrorKind| {
            let what = if remove { "remove" } else { "look for" };
            kind.during(format!("{what} old files in {}", folder.display()))
        })
    }
}
