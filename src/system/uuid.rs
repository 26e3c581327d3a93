//! Another UUID for the file system of a clone.
//!
//! A clone has its parent's UUID, and XFS mounts no two of the same at once. The programs that
//! change it want a file system that needs no replay: ext4 is replayed and checked by `e2fsck`
//! where `tune2fs` asks for it; XFS replays only at a mount, which is done where nobody sees it.
//! `xfs_admin` ends well also where it changed nothing, and so the UUID itself is looked at.

use std::path::Path;

use super::SystemErrorKind;
use super::kernel::Call;
use super::linux::LinuxSystem;
use crate::deadline::Deadline;
use crate::volume::FsType;

type KindResult<T> = std::result::Result<T, SystemErrorKind>;

impl LinuxSystem {
    pub(super) fn renew_uuid(
        &self,
        device: &Path,
        fs_type: FsType,
        deadline: &Deadline,
    ) -> KindResult<()> {
        match fs_type {
            FsType::Ext4 => self.renew_ext4(device, deadline),
            FsType::Xfs => self.renew_xfs(device, deadline),
        }
    }

    fn renew_ext4(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let tune2fs = self.programs().find("tune2fs")?.args(["-U", "random"]).arg(device);
        self.e2fsck(device, &["-p"], deadline)?;
        if tune2fs.run_to_any_end(deadline)?.code() == Some(0) {
            return Ok(());
        }
        // Every checksum is made from the UUID: with unfinished business it wants a full check.
        self.e2fsck(device, &["-f", "-p"], deadline)?;
        tune2fs.run(deadline).map(drop)
    }

    fn renew_xfs(&self, device: &Path, deadline: &Deadline) -> KindResult<()> {
        let xfs_admin = self.programs().find("xfs_admin")?.args(["-U", "generate"]).arg(device);
        let before = self.uuid(device, deadline)?;
        let refused = xfs_admin.run_to_any_end(deadline)?;
        if self.uuid(device, deadline)? != before {
            return Ok(());
        }
        tracing::debug!(device = %device.display(), output = refused.tail(), "to be replayed first");
        let at = self.settings().state_folder.clone();
        let replay = Call::ReplayXfs { device: device.to_owned(), at };
        self.kernel().call::<()>(&replay, deadline)?;
        let output = xfs_admin.run_to_any_end(deadline)?;
        if self.uuid(device, deadline)? == before { Err(xfs_admin.failed(&output)) } else { Ok(()) }
    }

    fn uuid(&self, device: &Path, deadline: &Deadline) -> KindResult<Vec<u8>> {
        let args = ["-p", "-o", "value", "-s", "UUID"];
        Ok(self.programs().find("blkid")?.args(args).arg(device).run(deadline)?.stdout)
    }
}
