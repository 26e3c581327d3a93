//! The host that this program runs on.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::command::{PROGRAM_FOLDERS, Programs, io};
use super::kernel::Kernel;
use super::{Host, Result, System, SystemErrorKind};

/// What a [`LinuxSystem`] is made with.
#[derive(Debug, Clone)]
pub struct LinuxSettings {
    /// Where what is known of maps stands; on a file system that does not survive a boot.
    pub state_folder: PathBuf,
    /// The cluster's configuration file.
    pub ceph_conf: PathBuf,
    /// The client's name, without `client.`.
    pub client_id: String,
    /// The client's keyring, where the configuration file does not say it.
    pub keyring: Option<PathBuf>,
    /// The program that is started again for calls that can hang: this one.
    pub helper: PathBuf,
    /// The folders that programs are run from.
    pub program_folders: Vec<PathBuf>,
}

impl LinuxSettings {
    /// The settings of a daemon: itself as the helper, and the usual folders of programs.
    pub fn new(
        state_folder: impl Into<PathBuf>,
        ceph_conf: impl Into<PathBuf>,
        client_id: impl Into<String>,
    ) -> Self {
        Self {
            state_folder: state_folder.into(),
            ceph_conf: ceph_conf.into(),
            client_id: client_id.into(),
            keyring: None,
            helper: PathBuf::from("/proc/self/exe"),
            program_folders: PROGRAM_FOLDERS.iter().map(PathBuf::from).collect(),
        }
    }
}

/// The kernel, the programs and the processes of this host.
#[derive(Debug)]
pub struct LinuxSystem {
    host: Host,
    settings: LinuxSettings,
    kernel: Arc<Kernel>,
    programs: Programs,
    /// Folders of fuse maps that are being made: not yet for anybody else to see.
    being_made: Mutex<HashSet<PathBuf>>,
}

impl LinuxSystem {
    /// Makes the state folder where it is missing.
    pub fn new(settings: LinuxSettings) -> Result<Self> {
        let state = &settings.state_folder;
        super::state::make_folder(state)
            .map_err(|error| io(state)(error).during("make the state folder"))?;
        Self::to_look_at(settings)
    }

    /// Changes nothing: for one who only asks.
    pub fn to_look_at(settings: LinuxSettings) -> Result<Self> {
        let host = this_host().map_err(|kind| kind.during("read the boot ID"))?;
        let programs = Programs::new(settings.program_folders.clone());
        let kernel = Arc::new(Kernel::new(settings.helper.clone(), programs.clone()));
        Ok(Self { host, settings, kernel, programs, being_made: Mutex::default() })
    }

    /// Those of the programs that are missing, each with its package.
    pub(crate) fn missing_programs<'a>(&self, names: &[&'a str]) -> Vec<(&'a str, &'a str)> {
        self.programs.missing(names)
    }

    pub(super) fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    pub(super) fn programs(&self) -> &Programs {
        &self.programs
    }

    pub(super) fn settings(&self) -> &LinuxSettings {
        &self.settings
    }

    /// The arguments by which every program of Ceph finds the cluster and the key.
    pub(super) fn ceph_args(&self) -> Vec<String> {
        let settings = &self.settings;
        let conf = settings.ceph_conf.display().to_string();
        let mut args = vec!["-c".into(), conf, "--id".into(), settings.client_id.clone()];
        if let Some(keyring) = &settings.keyring {
            args.extend(["--keyring".into(), keyring.display().to_string()]);
        }
        args
    }

    /// Keeps a folder from being seen as a half-made map while it is being worked on; `None` where
    /// somebody works on it already.
    pub(super) fn reserve(&self, folder: &Path) -> Option<Reserved<'_>> {
        let folder = folder.to_owned();
        let new = self.reserved().insert(folder.clone());
        new.then(|| Reserved { system: self, folder })
    }

    pub(super) fn is_reserved(&self, folder: &Path) -> bool {
        self.reserved().contains(folder)
    }

    fn reserved(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.being_made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl System for LinuxSystem {
    fn host(&self) -> &Host {
        &self.host
    }
}

/// A folder that is being worked on, until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    system: &'a LinuxSystem,
    folder: PathBuf,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.system.reserved().remove(&self.folder);
    }
}

fn this_host() -> std::result::Result<Host, SystemErrorKind> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot_id = std::fs::read_to_string(path).map_err(io(path))?.trim().to_owned();
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Host { name, boot_id })
}
