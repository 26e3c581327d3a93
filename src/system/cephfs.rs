//! Folders of CephFS, mounted on this host by a client of their own.
//!
//! ```text
//!   refused: options that are the driver's, a target at which something is mounted
//!        │
//!   STATE/cephfs/NAME made, what is mounted recorded in it
//!        │ by the kernel's client (`kernel`), or a `ceph-fuse` that outlives us (`fuse`)
//!        ▼
//!   MOUNTED, its number and its client recorded
//!        │ unmount: fenced or dead? then the way below. In use anywhere? Busy, and nothing done
//!        │ written out ──▶ unmounted ──▶ client gone ──▶ NAME removed
//!        ▼ cut off: client killed, or all its calls aborted ──▶ unmounted lazily ──▶ NAME removed
//! ```
//!
//! **What is mounted** is read from the kernel's mount table and from `/proc`; the records only say
//! which of it is ours, and of what it is. Another boot's are void. A record of which nothing is
//! left is taken away at the next mount.
//!
//! **Every mount has a client of its own**: fencing one leaves the others alone, and no two share a
//! cache that one of them could lose.
//!
//! **An unmount writes out first**, and says so only when it is done. Where the cluster is away it
//! ends by its deadline, and can be repeated: nothing is given up before the caller cuts it off.
//!
//! **Nobody here looks below a target** but a child with a deadline.

mod admin_socket;
mod fuse;
mod kernel;
mod options;
mod record;
mod restore;

use std::path::Path;
use std::time::{Duration, Instant};

use super::kernel::{Call, errno};
use super::linux::LinuxSystem;
use super::mounts::{self, busy_with};
use super::{
    CephFsSupport, DeviceNumber, FolderMount, FolderMountRequest, FolderMounts, FsUsage, Result,
    SystemErrorKind, holders,
};
use crate::deadline::Deadline;
use crate::progress::Progress;
use crate::volume::CephFsClient;

pub(crate) use record::Found;

/// How long an unmount waits for a folder to say whether it still serves: no more than half of the
/// time that it has.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an undo may take when the deadline of what it undoes is over.
const UNDO: Duration = Duration::from_secs(10);

type KindResult<T> = std::result::Result<T, SystemErrorKind>;

impl FolderMounts for LinuxSystem {
    fn cephfs_clients(&self) -> Vec<CephFsSupport> {
        let missing = |client| match client {
            CephFsClient::Kernel => kernel::missing(),
            CephFsClient::Fuse => fuse::missing(self),
        };
        let all = CephFsClient::ALL.iter().copied();
        all.map(|client| CephFsSupport { client, missing: missing(client) }).collect()
    }

    fn mount_folder(
        &self,
        request: &FolderMountRequest,
        deadline: &Deadline,
    ) -> Result<FolderMount> {
        let FolderMountRequest { fs, path, target, client, .. } = request;
        let step = || format!("mount {fs}:{path} at {} by {client}", target.display());
        self.mount_new(request, deadline).map_err(|kind| kind.during(step()))
    }

    fn unmount_folder(&self, mount: &FolderMount, deadline: &Deadline) -> Result<()> {
        let step = || format!("unmount {}:{} at {}", mount.fs, mount.path, mount.target.display());
        self.unmount_found(mount, deadline).map_err(|kind| kind.during(step()))
    }

    fn cut_off_folder(&self, mount: &FolderMount, deadline: &Deadline) -> Result<()> {
        let step = || format!("cut off {}:{} at {}", mount.fs, mount.path, mount.target.display());
        let cut = || match self.found_folder(mount)? {
            Some(found) => self.take_folder_down(&found, deadline),
            None => self.forget(mount),
        };
        cut().map_err(|kind: SystemErrorKind| kind.during(step()))
    }

    fn folder_mounts(&self) -> Result<Vec<FolderMount>> {
        let found = self.found_folders().map_err(|kind| kind.during("list the folders of CephFS"));
        let settled = found?.into_iter().filter(|found| !self.is_reserved(&found.folder.0));
        Ok(settled.inspect(|found| found.folder.cut_log()).map(Found::into_mount).collect())
    }

    fn is_alive(&self, target: &Path, deadline: &Deadline) -> Result<bool> {
        let alive = self.folder_answers(target, deadline);
        alive.map_err(|kind| kind.during(format!("look whether {} serves", target.display())))
    }

    fn names_in(&self, folder: &Path, deadline: &Deadline) -> Result<Vec<String>> {
        let names = self.kernel().call(&Call::Names { folder: folder.to_owned() }, deadline);
        names.map_err(|kind| kind.during(format!("list {}", folder.display())))
    }

    fn folder_usage(&self, target: &Path, deadline: &Deadline) -> Result<FsUsage> {
        let call = Call::FolderUsage { target: target.to_owned() };
        let usage = self.kernel().call(&call, deadline);
        usage.map_err(|kind| kind.during(format!("read the usage of {}", target.display())))
    }

    fn can_restore_folder(&self) -> Result<()> {
        self.restorers().map(drop).map_err(|kind| kind.during("copy a snapshot back"))
    }

    fn restore_folder(
        &self,
        mounted: &Path,
        snapshot: &str,
        progress: Progress<'_>,
        deadline: &Deadline,
    ) -> Result<()> {
        let restored = self.restore(mounted, snapshot, progress, deadline);
        restored.map_err(|kind| {
            kind.during(format!("copy snapshot {snapshot} back to {}", mounted.display()))
        })
    }
}

impl LinuxSystem {
    fn mount_new(
        &self,
        request: &FolderMountRequest,
        deadline: &Deadline,
    ) -> KindResult<FolderMount> {
        let options = options::of(request)?;
        if mounts::own()?.iter().any(|entry| entry.mount.target == request.target) {
            return Err(SystemErrorKind::Refused("something is mounted there".to_owned()));
        }
        let (folder, _reserved) = self.new_state_folder(&request.target)?;
        let made = folder.write(&self.record_of(request)).and_then(|()| match request.client {
            CephFsClient::Kernel => self.mount_by_kernel(request, options, deadline),
            CephFsClient::Fuse => self.mount_by_fuse(&folder, request, &options, deadline),
        });
        made.and_then(|instance| self.recorded_mount(&folder, instance)).inspect_err(|_| {
            let undone = self.undo_mount(&folder, request, &deadline.for_undo(UNDO));
            if let Err(error) = undone {
                let target = request.target.display();
                tracing::warn!(%error, %target, "a failed mount was not undone");
            }
        })
    }

    /// The mount as the kernel shows it, from now on with its number and its client.
    fn recorded_mount(
        &self,
        folder: &record::Folder,
        instance: Option<String>,
    ) -> KindResult<FolderMount> {
        let lost = || SystemErrorKind::Refused("the mount is gone again".to_owned());
        let mut found = self.found_in(folder)?.ok_or_else(lost)?;
        found.recorded.number = Some(found.number.ok_or_else(lost)?);
        found.recorded.instance = instance;
        folder.write(&found.recorded)?;
        Ok(found.into_mount())
    }

    fn undo_mount(
        &self,
        folder: &record::Folder,
        request: &FolderMountRequest,
        deadline: &Deadline,
    ) -> KindResult<()> {
        if let Some(found) = self.found_in(folder)? {
            self.take_folder_down(&found, deadline)?;
        }
        let _ = std::fs::remove_dir(&request.target);
        folder.remove()
    }

    fn unmount_found(&self, mount: &FolderMount, deadline: &Deadline) -> KindResult<()> {
        let started = Instant::now();
        let Some(found) = self.found_folder(mount)? else { return self.forget(mount) };
        let Some(_reserved) = self.reserve(&found.folder.0) else {
            return Err(SystemErrorKind::Refused("it is being unmounted already".to_owned()));
        };
        let target = &found.recorded.target;
        if found.number.is_some() {
            let look = deadline.at_most(ANSWER.min(deadline.left() / 2));
            // No answer says nothing: it may still have something to write out.
            if !found.is_served() || !self.folder_answers(target, &look).unwrap_or(true) {
                return self.take_folder_down(&found, deadline);
            }
            refuse_held(&found)?;
            self.write_out(&found, deadline)?;
            let call = Call::Unmount { target: target.clone(), lazy: false };
            let unmounted: KindResult<()> = self.kernel().call(&call, deadline);
            unmounted.map_err(|kind| match errno(&kind) {
                Some(libc::EBUSY) => SystemErrorKind::Busy(busy_with(target)),
                _ => kind,
            })?;
        }
        wait_for_client(&found, started, deadline)?;
        found.folder.remove()
    }

    /// What an unmount left that was killed at its deadline: the kernel had done its part. Below a
    /// mount point nothing is looked at.
    fn forget(&self, mount: &FolderMount) -> KindResult<()> {
        let _ = std::fs::remove_dir(&mount.target);
        self.sweep()
    }

    /// The kernel writes out while it is still mounted, so that a deadline changes nothing. A
    /// `ceph-fuse` is not told of a syncfs: it writes out when it is unmounted, and then ends.
    fn write_out(&self, found: &Found, deadline: &Deadline) -> KindResult<()> {
        if found.recorded.client == CephFsClient::Fuse {
            return Ok(());
        }
        let call = Call::SyncFs { target: found.recorded.target.clone() };
        match self.kernel().call(&call, deadline) {
            Err(kind @ SystemErrorKind::Io { .. }) => {
                let target = found.recorded.target.display();
                tracing::warn!(%kind, %target, "not all could be written out");
                Ok(())
            }
            done => done,
        }
    }

    /// At once, from wherever it had got to, and without writing anything out.
    fn take_folder_down(&self, found: &Found, deadline: &Deadline) -> KindResult<()> {
        let target = found.recorded.target.clone();
        let result = match found.recorded.client {
            CephFsClient::Kernel => self.abort_kernel_mount(found, deadline),
            CephFsClient::Fuse => fuse::kill(found, deadline),
        };
        if found.number.is_some() {
            self.kernel().call::<()>(&Call::Unmount { target, lazy: true }, deadline)?;
        }
        result?;
        found.folder.remove()
    }

    fn folder_answers(&self, target: &Path, deadline: &Deadline) -> KindResult<bool> {
        self.kernel().call(&Call::IsAlive { target: target.to_owned() }, deadline)
    }
}

/// Why a client ends with that errno at a mount, as far as both say the same.
fn why_not(errno: i32, request: &FolderMountRequest) -> Option<String> {
    let name = format!("client.{}", request.access.client_id);
    match errno {
        libc::ENOENT => Some(format!(
            "there is no file system {}, no folder {} in it, or {name} may not see it",
            request.fs, request.path
        )),
        libc::EACCES | libc::EPERM => {
            Some(format!("the cluster does not let {name} in; see ceph auth get {name}"))
        }
        _ => None,
    }
}

/// Another mount of it would keep the client, which then could be neither found nor ended.
fn refuse_held(found: &Found) -> KindResult<()> {
    let Some(number) = found.number else { return Ok(()) };
    let holders = holders::find(number, &found.recorded.target)?;
    if holders.is_empty() { Ok(()) } else { Err(SystemErrorKind::Busy(holders)) }
}

/// What was unmounted is in the cluster when its process has ended. It does not where another mount
/// namespace still has the mount.
fn wait_for_client(found: &Found, started: Instant, deadline: &Deadline) -> KindResult<()> {
    let Some(process) = found.process else { return Ok(()) };
    if process.wait_for_end(deadline) {
        return Ok(());
    }
    let held_by = |number: DeviceNumber| holders::find(number, &found.recorded.target);
    let holders = found.recorded.number.map_or(Ok(Vec::new()), held_by)?;
    if holders.is_empty() {
        return Err(SystemErrorKind::Timeout { after: started.elapsed() });
    }
    Err(SystemErrorKind::Busy(holders))
}
