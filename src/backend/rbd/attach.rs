//! Images as devices and mounts on this host.

use std::path::Path;
use std::time::Duration;

use super::super::cephfs::LOCK_PREFIX;
use super::super::{AttachRequest, Attaching, Attachment, BackendError, MountPlan, Result};
use super::RbdBackend;
use crate::ceph::Watcher;
use crate::deadline::Deadline;
use crate::system::{
    FormatRequest, FsUsage, Holder, MapRequest, MappedDevice, MountRequest, Probe, SystemErrorKind,
};
use crate::volume::{ByteSize, FsType, ImageSpec, MapperKind};

/// How long an undo may take after its cause used up the deadline.
const UNDO: Duration = Duration::from_secs(15);

impl Attaching<ImageSpec, MappedDevice> for RbdBackend {
    fn attach(
        &self,
        request: &AttachRequest<ImageSpec>,
        deadline: &Deadline,
    ) -> Result<Attachment<MappedDevice>> {
        let mapper = self.choose_mapper(request.options.mapper)?;
        let info = self.cluster.image_info(&request.location)?;
        self.check_features(mapper, &info.features, &request.location)?;
        // A writer is attached only where the claim has found no watcher: all there are is ours.
        let before = match request.read_only {
            true => self.cluster.watchers(&request.location)?,
            false => Vec::new(),
        };
        let map = MapRequest {
            mapper,
            image: request.location.clone(),
            read_only: request.read_only,
            map_options: request.options.map_options.clone(),
            // The others are programs of Ceph's, and find the cluster by themselves.
            client: match mapper {
                MapperKind::Krbd => Some(self.cluster.client_access()?),
                MapperKind::Nbd | MapperKind::Fuse => None,
            },
        };
        let device = self.system.map(&map, deadline)?;
        match self.address(&device, &before) {
            Ok(address) => {
                let (folder_client, part) = (None, None);
                Ok(Attachment { attached: device, address, folder_client, size: info.size, part })
            }
            Err(error) => {
                let undo = self.detach(&device, &deadline.for_undo(UNDO));
                Err(error.with_undo(undo))
            }
        }
    }

    fn attached(&self) -> Result<Vec<MappedDevice>> {
        let mapped = self.system.mapped()?.into_iter();
        Ok(mapped.filter(|device| !device.image.image.starts_with(LOCK_PREFIX)).collect())
    }

    fn mount(&self, device: &MappedDevice, plan: &MountPlan, deadline: &Deadline) -> Result<()> {
        let found = self.filesystem(device, plan, deadline)?;
        let fs_type = found.fs_type;
        if !found.sound {
            self.system.check(&device.device, fs_type, deadline)?;
            self.system.grow(&device.device, &plan.target, fs_type, deadline)?;
        }
        if plan.renew_uuid && !plan.read_only && !found.fresh {
            self.system.new_uuid(&device.device, fs_type, deadline)?;
        }
        let request = MountRequest {
            device: device.device.clone(),
            target: plan.target.clone(),
            fs_type,
            read_only: plan.read_only,
            options: mount_options(plan, fs_type),
        };
        self.system.mount(&request, deadline)?;
        self.settle(device, plan, &found, deadline).map_err(|error| {
            let undo = self.system.unmount(&plan.target, &deadline.for_undo(UNDO));
            error.with_undo(undo.map_err(BackendError::from))
        })
    }

    fn unmount(&self, _: &ImageSpec, target: &Path, deadline: &Deadline) -> Result<()> {
        Ok(self.system.unmount(target, deadline)?)
    }

    fn detach(&self, device: &MappedDevice, deadline: &Deadline) -> Result<()> {
        // A process that is just ending may hold the device a moment longer.
        loop {
            match self.system.unmap(device, deadline) {
                Err(error) if matches!(error.kind, SystemErrorKind::Busy(_)) => {
                    if !deadline.wait(Duration::from_millis(200)) {
                        return Err(error.into());
                    }
                }
                other => return Ok(other?),
            }
        }
    }

    fn cut_off(&self, device: &MappedDevice, target: &Path, deadline: &Deadline) -> Result<()> {
        // The device first: what the file system would still write goes nowhere.
        self.system.cut_off(device, deadline)?;
        Ok(self.system.unmount_lazily(target, deadline)?)
    }

    fn is_alive(&self, _: &MappedDevice, _: &Deadline) -> Result<bool> {
        // Whether the device is whole is seen without asking it.
        Ok(true)
    }

    fn is_client_gone(&self, address: &str) -> Result<bool> {
        Ok(self.system.is_client_gone(address)?)
    }

    fn holders(&self, device: &MappedDevice, target: &Path) -> Result<Vec<Holder>> {
        Ok(self.system.holders(device.number, target)?)
    }

    fn grow(&self, device: &MappedDevice, target: &Path, deadline: &Deadline) -> Result<()> {
        self.system.refresh_size(device, deadline)?;
        let mounts = self.system.mounts()?;
        let mounted = mounts.iter().rev().find(|mount| mount.target == target);
        let Some(Ok(fs_type)) = mounted.map(|mount| mount.fs_type.parse::<FsType>()) else {
            return Ok(());
        };
        Ok(self.system.grow(&device.device, target, fs_type, deadline)?)
    }

    fn usage(&self, _: &ImageSpec, target: &Path, deadline: &Deadline) -> Result<FsUsage> {
        Ok(self.system.usage(target, deadline)?)
    }

    fn trim(&self, _: &ImageSpec, target: &Path, deadline: &Deadline) -> Result<ByteSize> {
        Ok(self.system.trim(target, deadline)?)
    }
}

impl RbdBackend {
    /// The client instance behind a device: the kernel's word, or the one watcher that is new.
    fn address(&self, device: &MappedDevice, before: &[Watcher]) -> Result<Option<String>> {
        if device.client_address.is_some() {
            return Ok(device.client_address.clone());
        }
        let now = self.cluster.watchers(&device.image)?;
        let new: Vec<&Watcher> = now.iter().filter(|watcher| !before.contains(watcher)).collect();
        match new[..] {
            [watcher] => Ok(Some(watcher.address.clone())),
            // Readers come and go together, and the kernel keeps no watch for one of its own.
            _ if device.read_only => Ok(None),
            _ => Err(BackendError::Unsafe(format!(
                "{} clients opened image {} while it was mapped, where one was expected; try again",
                new.len(),
                device.image
            ))),
        }
    }

    /// What is on the device, made just now if it may be.
    ///
    /// Where the driver has made the file system itself and the superblock is that of one which was
    /// cleanly unmounted, nothing else is looked for: every other device is probed.
    fn filesystem(
        &self,
        device: &MappedDevice,
        plan: &MountPlan,
        deadline: &Deadline,
    ) -> Result<Filesystem> {
        let path = &device.device;
        if let Some(fs_type) = plan.made.filter(|_| !plan.read_only)
            && self.system.is_sound(path, fs_type, deadline)?
        {
            return Ok(Filesystem { fs_type, sound: true, fresh: false });
        }
        let found = match &plan.format {
            Some((fs_type, mkfs_options)) => {
                let (fs_type, mkfs_options) = (*fs_type, mkfs_options.clone());
                let request = FormatRequest { fs_type, mkfs_options };
                match self.system.format(path, &request, deadline)? {
                    Probe::Empty => return Ok(Filesystem { fs_type, sound: true, fresh: true }),
                    found => found,
                }
            }
            None => self.system.probe(path, deadline)?,
        };
        match found {
            Probe::Filesystem(fs_type) => {
                Ok(Filesystem { fs_type, sound: plan.read_only, fresh: false })
            }
            found => Err(BackendError::Unsafe(refusal(device, plan, &found))),
        }
    }

    /// What follows the mount: the size, and the folder that containers see.
    fn settle(
        &self,
        device: &MappedDevice,
        plan: &MountPlan,
        found: &Filesystem,
        deadline: &Deadline,
    ) -> Result<()> {
        if plan.read_only {
            return Ok(());
        }
        if !found.sound {
            self.system.grow(&device.device, &plan.target, found.fs_type, deadline)?;
        }
        if !plan.folder.is_empty() {
            self.system.make_folder(&plan.target, &plan.folder, plan.owner, deadline)?;
        }
        Ok(())
    }
}

/// The file system of a device.
struct Filesystem {
    fs_type: FsType,
    /// It is neither to be checked nor to be grown.
    sound: bool,
    /// It was made just now.
    fresh: bool,
}

/// Why what was found is not mounted.
fn refusal(device: &MappedDevice, plan: &MountPlan, found: &Probe) -> String {
    let image = &device.image;
    match found {
        Probe::Other(found) if plan.format.is_some() => format!(
            "image {image} holds {found} and was never formatted to the end, most likely because a \
             host died in the middle of mkfs; no container has ever had it: remove the volume and \
             create it again"
        ),
        Probe::Other(found) => format!(
            "image {image} holds {found}, which is not mounted and not overwritten; volumes are \
             ext4 or xfs on the whole image"
        ),
        Probe::Empty | Probe::Filesystem(_) => format!(
            "image {image} has no file system, and it is not new, so it is not formatted; if its \
             data is lost, restore it from a snapshot or a backup"
        ),
    }
}

/// A read-only device cannot replay a journal, and a copy of an XFS carries its original's UUID.
fn mount_options(plan: &MountPlan, fs_type: FsType) -> Vec<String> {
    let mut options = plan.options.clone();
    if plan.read_only {
        match fs_type {
            FsType::Ext4 => options.push("noload".to_owned()),
            FsType::Xfs => options.extend(["norecovery".to_owned(), "nouuid".to_owned()]),
        }
    }
    options
}
