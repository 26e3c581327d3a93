//! Making, describing and destroying subvolumes.

use std::time::Duration;

use super::super::{BackendError, Found, Plan, Provisioning, Result, StoredInfo};
use super::lock::is_snapshot;
use super::trash::told;
use super::{CephFsBackend, DESCRIPTION_KEY, GROUP};
use crate::ceph::{
    ClusterError, ClusterErrorKind, FileSystem, PoolUsage, SubvolumeInfo, SubvolumeLayout,
    SubvolumeState, Watcher,
};
use crate::volume::{
    ByteSize, FolderPath, FolderSpec, PathSpec, SubvolumeSpec, VolumeName, VolumeOptions,
};

impl Provisioning<FolderSpec> for CephFsBackend {
    fn plan(&self, name: &VolumeName, options: &VolumeOptions) -> Result<Plan<FolderSpec>> {
        let fs = self.file_system(options)?;
        match &options.path {
            Some(FolderPath::Absolute(path)) => {
                let path = PathSpec { fs: fs.name, path: path.clone() };
                return Ok(Plan {
                    location: FolderSpec::Path(path),
                    size: ByteSize::default(),
                    adopted: true,
                });
            }
            Some(FolderPath::Within { volume, .. }) => {
                let text = format!("{volume} is another volume, of which a backend knows nothing");
                return Err(BackendError::Invalid(text));
            }
            None => {}
        }
        check_data_pool(&fs, options)?;
        let group = self.group(&fs, options)?;
        let spec =
            |subvolume| SubvolumeSpec { fs: fs.name.clone(), group: group.clone(), subvolume };
        let subvolume = self.free_subvolume(name, spec)?;
        Ok(Plan {
            location: FolderSpec::Subvolume(subvolume),
            size: options.new_size().unwrap_or_default(),
            adopted: false,
        })
    }

    fn provision(&self, location: &FolderSpec, options: &VolumeOptions) -> Result<()> {
        let FolderSpec::Subvolume(subvolume) = location else { return Ok(()) };
        let layout = SubvolumeLayout {
            size: options.new_size(),
            data_pool: options.data_pool.clone(),
            mode: options.mode,
            uid: options.uid,
            gid: options.gid,
            isolated: options.isolated,
        };
        self.cluster.group_create(&subvolume.fs, &subvolume.group)?;
        self.create_whole(subvolume, &layout)
    }

    fn describe(&self, location: &FolderSpec, description: &str) -> Result<()> {
        match location {
            FolderSpec::Subvolume(at) => {
                Ok(self.cluster.subvolume_metadata_set(at, DESCRIPTION_KEY, description)?)
            }
            // A folder that was there before has nowhere to carry a description.
            FolderSpec::Within { .. } | FolderSpec::Snapshot { .. } | FolderSpec::Path(_) => Ok(()),
        }
    }

    fn description(&self, location: &FolderSpec) -> Result<Option<String>> {
        match location {
            FolderSpec::Subvolume(at) => {
                Ok(self.cluster.subvolume_metadata_get(at, DESCRIPTION_KEY)?)
            }
            FolderSpec::Within { .. } | FolderSpec::Snapshot { .. } | FolderSpec::Path(_) => {
                Ok(None)
            }
        }
    }

    fn deprovision(&self, location: &FolderSpec, keep: Option<Duration>) -> Result<()> {
        self.close(location)?;
        let FolderSpec::Subvolume(subvolume) = location else { return Ok(()) };
        let gone = match keep {
            Some(keep) => self.mark_as_trash(subvolume, keep),
            None => self.remove_with_snapshots(subvolume).map_err(BackendError::from),
        };
        match gone {
            Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn close(&self, location: &FolderSpec) -> Result<()> {
        if is_snapshot(location) {
            return Ok(());
        }
        self.drop_lock(location)?;
        self.take_keys(location)
    }

    /// As with an image, nothing is there any more of what is in the trash.
    fn info(&self, location: &FolderSpec) -> Result<StoredInfo> {
        if self.is_trash(location)? {
            return Err(in_the_trash(location).into());
        }
        let (id, size) = match location {
            FolderSpec::Subvolume(at) | FolderSpec::Within { subvolume: at, .. } => {
                let info = self.cluster.subvolume_info(at)?;
                (info.path, info.quota.unwrap_or_default())
            }
            FolderSpec::Snapshot { subvolume: at, snapshot } => {
                self.check_snapshot(at, snapshot)?;
                (location.to_string(), ByteSize::default())
            }
            // Only a mount could tell more of it.
            FolderSpec::Path(path) => (path.path.clone(), ByteSize::default()),
        };
        Ok(StoredInfo { id, size, features: Vec::new() })
    }

    fn stored(&self, location: &FolderSpec) -> Result<ByteSize> {
        match location {
            FolderSpec::Subvolume(at) | FolderSpec::Within { subvolume: at, .. } => {
                Ok(self.cluster.subvolume_info(at)?.used)
            }
            FolderSpec::Snapshot { .. } | FolderSpec::Path(_) => {
                Err(BackendError::Invalid(format!("only a mount tells what {location} takes")))
            }
        }
    }

    fn watchers(&self, location: &FolderSpec) -> Result<Vec<Watcher>> {
        if is_snapshot(location) {
            return Ok(Vec::new());
        }
        match self.images.watchers(&self.lock_of(location)) {
            Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::NotFound => {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn resize(&self, location: &FolderSpec, size: ByteSize) -> Result<()> {
        match location {
            FolderSpec::Subvolume(at) => {
                let used = self.cluster.subvolume_info(at)?.used;
                if size < used {
                    return Err(BackendError::Invalid(format!(
                        "{used} are used, and the quota cannot be less ({size})"
                    )));
                }
                Ok(self.cluster.subvolume_resize(at, size, true)?)
            }
            FolderSpec::Snapshot { .. } => Err(BackendError::Invalid(format!(
                "{location} is a snapshot, and is shown as it is"
            ))),
            FolderSpec::Within { .. } | FolderSpec::Path(_) => Err(BackendError::Invalid(format!(
                "{location} was adopted as it is and has no quota of the driver's"
            ))),
        }
    }

    fn room(&self, pool: &str) -> Result<PoolUsage> {
        Ok(self.cluster.pool_usage(pool)?)
    }

    fn survey(&self) -> Result<Vec<Found<FolderSpec>>> {
        let mut found = Vec::new();
        for at in self.subvolumes()? {
            let location = FolderSpec::Subvolume(at);
            // What is in the trash is no volume; one that went meanwhile is none any more.
            let Some(false) = told(self.is_trash(&location))? else { continue };
            let Some(description) = told(self.description(&location))? else { continue };
            found.push(Found { location, description });
        }
        Ok(found)
    }
}

impl CephFsBackend {
    /// Makes a subvolume that is whole. What an earlier attempt has made is taken for it; what a
    /// manager has left that died in the middle is taken away first, because the cluster would only
    /// mend it, and it would look to containers as if somebody had used it.
    fn create_whole(&self, subvolume: &SubvolumeSpec, layout: &SubvolumeLayout) -> Result<()> {
        for _ in 0..3 {
            let found = match self.cluster.subvolume_info(subvolume) {
                Err(error) if error.kind == ClusterErrorKind::NotFound => None,
                other => Some(other?),
            };
            match found {
                None => self.cluster.subvolume_create(subvolume, layout)?,
                Some(info) if is_left(&info) => {
                    self.cluster.subvolume_remove(subvolume)?;
                }
                Some(_) if self.is_trash(&FolderSpec::Subvolume(subvolume.clone()))? => {
                    return Err(BackendError::Conflict(format!(
                        "subvolume {subvolume} went to the trash at the same time; try again"
                    )));
                }
                Some(info) if info.quota == layout.size => return Ok(()),
                Some(info) => {
                    return Err(BackendError::Conflict(format!(
                        "there is a subvolume {subvolume} already, of another quota ({}), so it is \
                         none of ours",
                        info.quota.map_or_else(|| "none".to_owned(), |quota| quota.to_string())
                    )));
                }
            }
        }
        Err(BackendError::Unsafe(format!(
            "subvolume {subvolume} was made, and was never whole; look at the manager's log"
        )))
    }

    /// A subvolume for good, and its snapshots with it.
    pub(super) fn remove_with_snapshots(&self, at: &SubvolumeSpec) -> crate::ceph::Result<()> {
        match self.cluster.subvolume_remove(at) {
            Err(error) if error.kind == ClusterErrorKind::NotEmpty => {
                for snapshot in self.cluster.subvolume_snapshot_list(at)? {
                    self.cluster.subvolume_snapshot_remove(at, &snapshot.name)?;
                }
                self.cluster.subvolume_remove(at)
            }
            other => other,
        }
    }

    /// The file system that is asked for, or the only one.
    fn file_system(&self, options: &VolumeOptions) -> Result<FileSystem> {
        let all = self.cluster.file_systems()?;
        let names = || all.iter().map(|fs| fs.name.as_str()).collect::<Vec<_>>().join(", ");
        match &options.fs {
            Some(name) => all.iter().find(|fs| fs.name == *name).cloned().ok_or_else(|| {
                let there = if all.is_empty() { "none".to_owned() } else { names() };
                BackendError::Invalid(format!(
                    "fs {name:?} is not in this cluster; its file systems are {there}"
                ))
            }),
            None => match &all[..] {
                [only] => Ok(only.clone()),
                [] => Err(BackendError::Invalid(
                    "this cluster has no CephFS; make one with: ceph fs volume create cephfs"
                        .to_owned(),
                )),
                _ => Err(BackendError::Invalid(format!(
                    "this cluster has several file systems ({}); name one with fs=",
                    names()
                ))),
            },
        }
    }

    /// The group that is asked for, which has to be there, or the driver's own.
    fn group(&self, fs: &FileSystem, options: &VolumeOptions) -> Result<String> {
        let Some(group) = &options.group else { return Ok(GROUP.to_owned()) };
        let groups = self.cluster.groups(&fs.name)?;
        if group == GROUP || groups.contains(group) {
            return Ok(group.clone());
        }
        Err(BackendError::Invalid(format!(
            "group {group:?} is not in file system {0}, which has {1}; make it with: \
             ceph fs subvolumegroup create {0} {group}",
            fs.name,
            if groups.is_empty() { "none".to_owned() } else { groups.join(", ") },
        )))
    }

    /// A subvolume of the volume's name. Where the trash has it, another name is as good: the
    /// catalog knows which.
    fn free_subvolume(
        &self,
        name: &VolumeName,
        spec: impl Fn(String) -> SubvolumeSpec,
    ) -> Result<SubvolumeSpec> {
        let mut subvolume = spec(name.to_string());
        for copy in 2..1000 {
            match self.cluster.subvolume_info(&subvolume) {
                Err(error) if error.kind == ClusterErrorKind::NotFound => return Ok(subvolume),
                Err(error) => return Err(error.into()),
                // What a manager left that died: to be taken away, and made anew.
                Ok(info) if info.state == SubvolumeState::HalfMade => return Ok(subvolume),
                Ok(_) if self.is_trash(&FolderSpec::Subvolume(subvolume.clone()))? => {
                    subvolume = spec(format!("{name}.{copy}"));
                }
                Ok(info) => {
                    return Err(BackendError::Conflict(format!(
                        "there is a subvolume {subvolume} already, which is no volume; adopt it \
                         with path={}, or choose another name",
                        info.path
                    )));
                }
            }
        }
        Err(BackendError::Conflict(format!("the trash has a thousand volumes called {name}")))
    }

    /// Every subvolume that this client can see, in every group.
    pub(super) fn subvolumes(&self) -> Result<Vec<SubvolumeSpec>> {
        let mut all = Vec::new();
        for fs in self.cluster.file_systems()? {
            for group in self.cluster.groups(&fs.name)? {
                let names = self.cluster.subvolume_list(&fs.name, &group)?;
                all.extend(names.into_iter().map(|subvolume| SubvolumeSpec {
                    fs: fs.name.clone(),
                    group: group.clone(),
                    subvolume,
                }));
            }
        }
        Ok(all)
    }
}

/// Is it what a manager has left that died while it made it, and empty?
fn is_left(info: &SubvolumeInfo) -> bool {
    info.state == SubvolumeState::HalfMade || (info.mended && info.used.bytes() == 0)
}

fn in_the_trash(location: &FolderSpec) -> ClusterError {
    ClusterError {
        kind: ClusterErrorKind::NotFound,
        call: "look at subvolume",
        subject: location.to_string(),
        errno: libc::ENOENT,
        message: "it is in the trash".to_owned(),
    }
}

fn check_data_pool(fs: &FileSystem, options: &VolumeOptions) -> Result<()> {
    match options.data_pool.as_ref().filter(|pool| !fs.data_pools.contains(pool)) {
        None => Ok(()),
        Some(pool) => Err(BackendError::Invalid(format!(
            "data-pool {pool:?} is none of file system {0}, which has {1}; add it with: \
             ceph fs add_data_pool {0} {pool}",
            fs.name,
            fs.data_pools.join(", ")
        ))),
    }
}
