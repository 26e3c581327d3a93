//! What stands in the state folder of each mount, and what of the mount is still there.
//!
//! A folder's name is the target's, for people, and a number; the target itself and all else is in
//! the record. Nothing in the folder outlives the mount, above all not the key.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::KindResult;
use crate::system::command::{io, last_lines};
use crate::system::linux::{LinuxSystem, Reserved};
use crate::system::mountinfo::Entry;
use crate::system::{
    DeviceNumber, FolderMount, FolderMountRequest, ProcessId, System, SystemErrorKind, mounts,
    state,
};
use crate::volume::CephFsClient;

/// How much of a log is kept, in bytes.
const LONGEST_LOG: u64 = 256 * 1024;
/// How much of a target's name is used: the path of a socket has to be short.
const LONGEST_NAME: usize = 24;

/// What a folder says of its mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(super) boot_id: String,
    pub(super) client: CephFsClient,
    pub(super) id: String,
    pub(super) fs: String,
    pub(super) path: String,
    pub(super) target: PathBuf,
    pub(super) read_only: bool,
    /// Once it is mounted.
    pub(super) number: Option<DeviceNumber>,
    /// Its client: as the kernel names it, or by the address that a `ceph-fuse` says.
    pub(super) instance: Option<String>,
}

/// The folder of one mount.
#[derive(Debug, Clone)]
pub(crate) struct Folder(pub(super) PathBuf);

/// A mount as it is found, whole or not.
#[derive(Debug)]
pub(crate) struct Found {
    pub(super) folder: Folder,
    pub(super) recorded: Recorded,
    /// The mounted file system's; `None` where it is not mounted in our namespace.
    pub(super) number: Option<DeviceNumber>,
    pub(super) process: Option<ProcessId>,
}

impl Folder {
    fn record_file(&self) -> PathBuf {
        self.0.join("mount")
    }

    pub(super) fn process_file(&self) -> PathBuf {
        self.0.join("process")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(super) fn keyring(&self) -> PathBuf {
        self.0.join("keyring")
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.0.join("asok")
    }

    pub(super) fn write(&self, recorded: &Recorded) -> KindResult<()> {
        state::replace(&self.record_file(), recorded).map_err(io(&self.0))
    }

    /// For whoever runs as root, and nobody else.
    pub(super) fn write_keyring(&self, text: &str) -> KindResult<()> {
        let path = self.keyring();
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io(&path))
    }

    pub(super) fn process(&self) -> Option<ProcessId> {
        state::read(&self.process_file()).filter(|process: &ProcessId| process.is_alive())
    }

    /// The end of the log.
    pub(super) fn log_tail(&self) -> String {
        last_lines(&std::fs::read(self.log()).unwrap_or_default())
    }

    /// Empties the log where it has grown too long.
    pub(super) fn cut_log(&self) {
        let long = std::fs::metadata(self.log()).is_ok_and(|log| log.len() > LONGEST_LOG);
        if long && let Ok(log) = std::fs::OpenOptions::new().write(true).open(self.log()) {
            let _ = log.set_len(0);
        }
    }

    /// The record goes last: without it the rest would be nobody's.
    pub(super) fn remove(&self) -> KindResult<()> {
        let others = [self.keyring(), self.admin_socket(), self.log(), self.process_file()];
        for file in others.into_iter().chain([self.record_file()]) {
            let _ = std::fs::remove_file(file);
        }
        match std::fs::remove_dir(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&self.0)(error)),
            _ => Ok(()),
        }
    }
}

impl Found {
    /// Is there somebody to serve it?
    pub(super) fn is_served(&self) -> bool {
        self.recorded.client == CephFsClient::Kernel || self.process.is_some()
    }

    pub(super) fn into_mount(self) -> FolderMount {
        let Recorded { client, id, fs, path, target, read_only, instance, .. } = self.recorded;
        let client_address = match client {
            CephFsClient::Kernel => instance.and_then(|name| super::kernel::client_address(&name)),
            CephFsClient::Fuse => instance,
        };
        let number = self.number.unwrap_or(DeviceNumber { major: 0, minor: 0 });
        let process = self.process;
        FolderMount { client, id, fs, path, target, number, read_only, client_address, process }
    }

    /// Of a `ceph-fuse`: its process, and the address of its client where it is known.
    pub(crate) fn fuse_client(&self) -> Option<(ProcessId, Option<&str>)> {
        Some((self.process?, self.recorded.instance.as_deref()))
    }
}

impl LinuxSystem {
    pub(super) fn record_of(&self, request: &FolderMountRequest) -> Recorded {
        Recorded {
            boot_id: self.host().boot_id.clone(),
            client: request.client,
            id: request.id.clone(),
            fs: request.fs.clone(),
            path: request.path.clone(),
            target: request.target.clone(),
            read_only: request.read_only,
            number: None,
            instance: None,
        }
    }

    /// All mounts of which something is left.
    pub(crate) fn found_folders(&self) -> KindResult<Vec<Found>> {
        let mounted = mounts::own()?;
        Ok(self.state_folders()?.into_iter().filter_map(|it| self.left_of(it, &mounted)).collect())
    }

    /// What is left of the mount of that folder.
    pub(super) fn found_in(&self, folder: &Folder) -> KindResult<Option<Found>> {
        Ok(self.left_of(folder.clone(), &mounts::own()?))
    }

    /// What is left of that mount.
    pub(super) fn found_folder(&self, mount: &FolderMount) -> KindResult<Option<Found>> {
        let same = |found: &Found| {
            let recorded = &found.recorded;
            recorded.target == mount.target && recorded.id == mount.id
        };
        Ok(self.found_folders()?.into_iter().find(same))
    }

    fn left_of(&self, folder: Folder, mounted: &[Entry]) -> Option<Found> {
        let recorded: Recorded = state::read(&folder.record_file())?;
        if recorded.boot_id != self.host().boot_id {
            return None;
        }
        let number = number_of(&recorded, mounted);
        let process = folder.process();
        let left = number.is_some() || process.is_some();
        left.then_some(Found { folder, recorded, number, process })
    }

    fn state_folders(&self) -> KindResult<Vec<Folder>> {
        let all = self.settings().state_folder.join("cephfs");
        match std::fs::read_dir(&all) {
            Ok(entries) => Ok(entries.flatten().map(|entry| Folder(entry.path())).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io(&all)(error)),
        }
    }

    /// A folder that no other mount has. Those of which nothing is left are taken away first.
    pub(super) fn new_state_folder(&self, target: &Path) -> KindResult<(Folder, Reserved<'_>)> {
        let all = self.settings().state_folder.join("cephfs");
        state::make_folder(&all).map_err(io(&all))?;
        self.sweep()?;
        let name = name_of(target);
        for copy in 0..1000 {
            let folder = Folder(all.join(format!("{name}+{copy}")));
            let Some(reserved) = self.reserve(&folder.0) else { continue };
            match std::fs::create_dir(&folder.0) {
                Ok(()) => return Ok((folder, reserved)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io(&folder.0)(error)),
            }
        }
        Err(SystemErrorKind::Refused("it is mounted a thousand times".to_owned()))
    }

    /// Takes away the folders of which nothing is left.
    pub(super) fn sweep(&self) -> KindResult<()> {
        let mounted = mounts::own()?;
        for folder in self.state_folders()? {
            let Some(_reserved) = self.reserve(&folder.0) else { continue };
            if self.left_of(folder.clone(), &mounted).is_none() {
                let _ = folder.remove();
            }
        }
        Ok(())
    }
}

/// The number of what is mounted there, if it is what was recorded.
fn number_of(recorded: &Recorded, mounted: &[Entry]) -> Option<DeviceNumber> {
    let fs_type = match recorded.client {
        CephFsClient::Kernel => "ceph",
        CephFsClient::Fuse => "fuse.ceph-fuse",
    };
    let at = mounted.iter().map(|entry| &entry.mount).rfind(|it| it.target == recorded.target)?;
    let same = at.fs_type == fs_type && recorded.number.is_none_or(|number| number == at.number);
    same.then_some(at.number)
}

/// A part of the target's name, for people to recognise.
fn name_of(target: &Path) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.chars().map(|c| if plain(c) { c } else { '%' }).take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::mountinfo;

    fn recorded(client: CephFsClient, minor: Option<u32>) -> Recorded {
        Recorded {
            boot_id: "b".to_owned(),
            client,
            id: "v".to_owned(),
            fs: "cephfs".to_owned(),
            path: "/volumes/v".to_owned(),
            target: "/mnt/v".into(),
            read_only: false,
            number: minor.map(|minor| DeviceNumber { major: 0, minor }),
            instance: None,
        }
    }

    #[test]
    fn a_mount_is_ours_by_its_place_its_type_and_its_number() {
        let table = |fs_type: &str| {
            let line = format!("64 27 0:40 / /mnt/v rw,nosuid - {fs_type} ceph-fuse rw\n");
            mountinfo::parse(line.as_bytes())
        };
        let found = |client, minor, fs_type: &str| {
            number_of(&recorded(client, minor), &table(fs_type)).map(|number| number.minor)
        };
        assert_eq!(found(CephFsClient::Fuse, None, "fuse.ceph-fuse"), Some(40));
        assert_eq!(found(CephFsClient::Fuse, Some(40), "fuse.ceph-fuse"), Some(40));
        assert_eq!(found(CephFsClient::Fuse, Some(41), "fuse.ceph-fuse"), None);
        assert_eq!(found(CephFsClient::Kernel, None, "fuse.ceph-fuse"), None);
        assert_eq!(found(CephFsClient::Kernel, None, "ceph"), Some(40));
    }

    #[test]
    fn a_folders_name_is_short_and_plain() {
        assert_eq!(name_of(Path::new("/mnt/pg data")), "pg%data");
        assert_eq!(name_of(Path::new(&format!("/mnt/{}", "x".repeat(250)))).len(), LONGEST_NAME);
    }
}
