//! Folders of CephFS as mounts on this host.

use std::path::Path;

use super::super::{AttachRequest, Attaching, Attachment, BackendError, MountPlan, Result};
use super::{CephFsBackend, Folder};
use crate::deadline::Deadline;
use crate::system::{FolderMountRequest, FsUsage, Holder, Ownership, SystemError, SystemErrorKind};
use crate::volume::{ByteSize, CephFsClient, FolderSpec, SharedBy, VolumeOptions};

impl Attaching<FolderSpec, Folder> for CephFsBackend {
    fn attach(
        &self,
        request: &AttachRequest<FolderSpec>,
        deadline: &Deadline,
    ) -> Result<Attachment<Folder>> {
        let held = match request.options.access {
            SharedBy::One if !request.read_only => Some(self.hold(request, deadline)?),
            _ => None,
        };
        let mounted = self.mount_folder(request, deadline);
        let mounted = mounted.and_then(|mounted| self.with_snapshot(mounted, deadline));
        match (mounted, held) {
            // Who holds it is known by the image.
            (Ok(folder), Some(held)) => {
                let folder_client = folder.address.clone();
                Ok(Attachment { address: held.address, folder_client, ..folder })
            }
            (Ok(attached), None) => Ok(attached),
            (Err(error), _) => {
                let late = deadline.for_undo(UNDO);
                Err(error.with_undo(self.unmount(&request.location, &request.target, &late)))
            }
        }
    }

    fn attached(&self) -> Result<Vec<Folder>> {
        let mounts = self.system.folder_mounts()?.into_iter();
        let folder = |mount: crate::system::FolderMount| {
            let place = serde_json::from_str(&mount.id).ok()?;
            Some(Folder { place, mount })
        };
        Ok(mounts.filter_map(folder).collect())
    }

    fn mount(&self, _: &Folder, _: &MountPlan, _: &Deadline) -> Result<()> {
        // It was mounted when it was attached, and its owner is the manager's to set.
        Ok(())
    }

    fn unmount(&self, location: &FolderSpec, target: &Path, deadline: &Deadline) -> Result<()> {
        let ours = self.system.folder_mounts()?.into_iter().find(|mount| mount.target == target);
        match ours {
            Some(mount) => self.system.unmount_folder(&mount, deadline)?,
            None => self.system.unmount(target, deadline)?,
        }
        self.let_go(location, deadline)
    }

    fn detach(&self, folder: &Folder, deadline: &Deadline) -> Result<()> {
        self.system.unmount_folder(&folder.mount, deadline)?;
        self.let_go(&folder.place, deadline)
    }

    fn cut_off(&self, folder: &Folder, target: &Path, deadline: &Deadline) -> Result<()> {
        self.system.cut_off_folder(&folder.mount, deadline)?;
        let mut held = self.held(&folder.place)?.into_iter();
        held.try_for_each(|device| self.images.cut_off(&device, target, deadline))
    }

    fn is_alive(&self, folder: &Folder, deadline: &Deadline) -> Result<bool> {
        Ok(self.system.is_alive(&folder.mount.target, deadline)?)
    }

    fn is_client_gone(&self, address: &str) -> Result<bool> {
        Ok(self.system.is_client_gone(address)?)
    }

    fn holders(&self, folder: &Folder, target: &Path) -> Result<Vec<Holder>> {
        Ok(self.system.holders(folder.mount.number, target)?)
    }

    fn grow(&self, _: &Folder, _: &Path, _: &Deadline) -> Result<()> {
        // A quota holds from when it is set.
        Ok(())
    }

    fn usage(&self, _: &FolderSpec, target: &Path, deadline: &Deadline) -> Result<FsUsage> {
        Ok(self.system.folder_usage(target, deadline)?)
    }

    fn trim(&self, location: &FolderSpec, _: &Path, _: &Deadline) -> Result<ByteSize> {
        Err(BackendError::Invalid(format!("{location} is in CephFS, which frees blocks by itself")))
    }
}

impl CephFsBackend {
    fn mount_folder(
        &self,
        request: &AttachRequest<FolderSpec>,
        deadline: &Deadline,
    ) -> Result<Attachment<Folder>> {
        let place = &request.location;
        let (path, size) = self.path_of(place)?;
        let mount = FolderMountRequest {
            client: self.choose_client(request.options.client)?,
            fs: place.fs().to_owned(),
            path,
            target: request.target.clone(),
            read_only: request.read_only,
            options: request.options.mount_options.clone(),
            access: self.access(place, request.read_only)?,
            id: serde_json::to_string(place).expect("a place is plain data"),
        };
        let mount = match self.system.mount_folder(&mount, deadline) {
            Err(error) if may_make(place, &error, request) => {
                self.make_within(place, &mount, &request.options, deadline)?;
                self.system.mount_folder(&mount, deadline)?
            }
            other => other?,
        };
        let address = mount.client_address.clone();
        let attached = Folder { place: place.clone(), mount };
        Ok(Attachment { attached, address, folder_client: None, size, part: None })
    }

    /// The folder's path in its file system, and its quota.
    fn path_of(&self, place: &FolderSpec) -> Result<(String, ByteSize)> {
        Ok(match place {
            FolderSpec::Path(path) => (path.path.clone(), ByteSize::default()),
            FolderSpec::Subvolume(subvolume) | FolderSpec::Snapshot { subvolume, .. } => {
                let info = self.cluster.subvolume_info(subvolume)?;
                (info.path, info.quota.unwrap_or_default())
            }
            FolderSpec::Within { subvolume, folder } => {
                let info = self.cluster.subvolume_info(subvolume)?;
                (format!("{}/{folder}", info.path), ByteSize::default())
            }
        })
    }

    /// Makes a folder of another volume that is not there yet: by way of the whole volume, mounted
    /// for a moment beside the target, where no container sees it. A link in it is not followed.
    fn make_within(
        &self,
        place: &FolderSpec,
        request: &FolderMountRequest,
        options: &VolumeOptions,
        deadline: &Deadline,
    ) -> Result<()> {
        let FolderSpec::Within { subvolume, folder } = place else { return Ok(()) };
        let whole = FolderSpec::Subvolume(subvolume.clone());
        // No volume is called so.
        let name = request.target.file_name().unwrap_or_default().to_string_lossy();
        let mount = FolderMountRequest {
            path: self.path_of(&whole)?.0,
            target: request.target.with_file_name(format!(".{name}.whole")),
            ..request.clone()
        };
        let mount = self.system.mount_folder(&mount, deadline)?;
        let owner = Ownership { uid: options.uid, gid: options.gid, mode: options.mode };
        let mut at = mount.target.clone();
        let made = folder.split('/').try_for_each(|name| {
            let made = self.system.make_folder(&at, name, owner, deadline);
            at.push(name);
            made
        });
        let undone = self.system.unmount_folder(&mount, &deadline.for_undo(UNDO));
        made.map_err(BackendError::from).map_err(|error| match &undone {
            Ok(()) => error,
            Err(undo) => error.with_undo(Err(BackendError::Invalid(undo.to_string()))),
        })?;
        Ok(undone?)
    }

    /// The client to use: the volume's, else the kernel's, else `ceph-fuse`.
    pub(super) fn choose_client(&self, asked: Option<CephFsClient>) -> Result<CephFsClient> {
        let supported = self.system.cephfs_clients();
        let missing = |client: CephFsClient| {
            supported.iter().find(|s| s.client == client).and_then(|s| s.missing.clone())
        };
        if let Some(client) = asked {
            return match missing(client) {
                None => Ok(client),
                Some(why) => Err(BackendError::Invalid(format!(
                    "client {client} cannot be used on this host: {why}"
                ))),
            };
        }
        let all = CephFsClient::ALL.iter().copied();
        all.clone().find(|client| missing(*client).is_none()).ok_or_else(|| {
            let why =
                all.map(|client| format!("{client}: {}", missing(client).unwrap_or_default()));
            BackendError::Invalid(format!(
                "no client of CephFS can be used on this host ({})",
                why.collect::<Vec<_>>().join("; ")
            ))
        })
    }
}

/// How long an undo may take after its cause used up the deadline.
const UNDO: std::time::Duration = std::time::Duration::from_secs(15);

/// Is the folder missing, and one that the driver makes?
fn may_make(place: &FolderSpec, error: &SystemError, request: &AttachRequest<FolderSpec>) -> bool {
    let missing = match &error.kind {
        SystemErrorKind::Io { source, .. } => source.raw_os_error() == Some(libc::ENOENT),
        SystemErrorKind::Refused(_) | SystemErrorKind::Command { .. } => true,
        _ => false,
    };
    missing && !request.read_only && matches!(place, FolderSpec::Within { .. })
}
