//! Folders of CephFS, mounted here.

use std::path::Path;

use super::linux::LinuxSystem;
use super::{
    CephFsSupport, FolderMount, FolderMountRequest, FolderMounts, FsUsage, Result, SystemErrorKind,
};
use crate::deadline::Deadline;
use crate::volume::CephFsClient;

const MISSING: &str = "this version cannot mount CephFS";

impl FolderMounts for LinuxSystem {
    fn cephfs_clients(&self) -> Vec<CephFsSupport> {
        let missing = || Some(MISSING.to_owned());
        let all = CephFsClient::ALL.iter().copied();
        all.map(|client| CephFsSupport { client, missing: missing() }).collect()
    }

    fn mount_folder(&self, request: &FolderMountRequest, _: &Deadline) -> Result<FolderMount> {
        let step = format!("mount {}:{}", request.fs, request.path);
        Err(SystemErrorKind::Refused(MISSING.to_owned()).during(step))
    }

    fn unmount_folder(&self, _: &FolderMount, _: &Deadline) -> Result<()> {
        Ok(())
    }

    fn cut_off_folder(&self, _: &FolderMount, _: &Deadline) -> Result<()> {
        Ok(())
    }

    fn folder_mounts(&self) -> Result<Vec<FolderMount>> {
        Ok(Vec::new())
    }

    fn is_alive(&self, target: &Path, _: &Deadline) -> Result<bool> {
        let step = format!("look at {}", target.display());
        Err(SystemErrorKind::Refused(MISSING.to_owned()).during(step))
    }

    fn folder_usage(&self, target: &Path, _: &Deadline) -> Result<FsUsage> {
        let step = format!("read the usage of {}", target.display());
        Err(SystemErrorKind::Refused(MISSING.to_owned()).during(step))
    }
}
