//! What the program runs with: complete and validated.
//!
//! Settings are written in a file, in the environment and as flags, in that order of rising
//! precedence ([`Inputs`]), and become [`Settings`] in one step that finds *everything* that is
//! wrong: a start after one repair must not bring up the next mistake. Nothing here touches the
//! host; what only the host can tell (is that file there?) is asked through a function.

mod inputs;
mod limits;
mod peers;
mod problem;
mod raw;
mod value;

pub use inputs::{Inputs, names};
pub use peers::peer_variables;
pub use problem::{Origin, Problem, Problems, environment_name};
pub use raw::{DEFAULT_CONFIG, DEFAULT_SOCKET, Raw};
pub use value::duration;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::volume::{ByteSize, Location, MapperKind, OptionRules, Options};

/// What the program runs with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// How the cluster is reached.
    pub ceph: CephAccess,
    /// The pool and namespace of the catalog, and of volumes that name no other.
    pub home: Home,
    /// The mapper; `None`: the best that the host has.
    pub mapper: Option<MapperKind>,
    /// Folders of CephFS are mounted by the daemon's own key, instead of one for each volume.
    pub cephfs_own_key: bool,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Where Prometheus may ask for metrics; `None`: nowhere.
    pub metrics: Option<MetricsAddress>,
    /// Where things lie on this host.
    pub folders: Folders,
    /// What new volumes get.
    pub volumes: VolumeDefaults,
    /// How snapshots are taken.
    pub snapshots: SnapshotSettings,
    /// How long things may take.
    pub times: Times,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// How the cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CephAccess {
    /// Ceph's own configuration file.
    pub conf: PathBuf,
    /// The client to be, without `client.`.
    pub client_id: String,
    /// The file with its key; `None`: where Ceph looks.
    pub keyring: Option<PathBuf>,
    /// The time for connecting.
    pub connect_timeout: Duration,
    /// The time for one question to the monitors.
    pub mon_timeout: Duration,
    /// The time for one operation on an object.
    pub osd_timeout: Duration,
}

/// Where Prometheus may ask for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAddress {
    /// A port of the loopback.
    Tcp(SocketAddr),
    /// A Unix socket of root's.
    Unix(PathBuf),
}

/// A pool and a RADOS namespace in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Home {
    /// The pool.
    pub pool: String,
    /// The namespace; empty for the pool's default one.
    pub namespace: String,
}

/// Where things lie on this host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folders {
    /// What this boot knows.
    pub state: PathBuf,
    /// What outlives the boot.
    pub cache: PathBuf,
    /// Volumes are mounted here.
    pub mount_root: PathBuf,
}

/// What new volumes get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeDefaults {
    /// Volume options that are used where none is given; canonical.
    pub options: Options,
    /// The largest volume that may be asked for.
    pub max_size: Option<ByteSize>,
    /// How a size without a unit is read.
    pub compatibility: Compatibility,
}

/// How a size without a unit is read, which other drivers do in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compatibility {
    /// It is refused.
    #[default]
    None,
    /// As MiB, like wetopi/docker-volume-rbd.
    Wetopi,
    /// As GiB, like rexray.
    Rexray,
}

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Times {
    /// How long a mount waits for another host to let go.
    pub busy_wait: Duration,
    /// How long a holder has to be silent to be taken for dead.
    pub fence_after: Duration,
    /// How long a mount ID may stand without a kernel user.
    pub reference_grace: Duration,
    /// The pause between two reconciliations.
    pub reconcile_interval: Duration,
    /// For one Create.
    pub create_deadline: Duration,
    /// For one Mount.
    pub mount_deadline: Duration,
    /// For any other call.
    pub call_deadline: Duration,
}

/// How snapshots are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotSettings {
    /// Hooks, in the folders `pre-snapshot` and `post-snapshot` in it.
    pub hooks_folder: PathBuf,
    /// For one hook.
    pub hook_limit: Duration,
    /// How long a file system may stand still.
    pub freeze_limit: Duration,
    /// Where the engine is asked which containers use a volume.
    pub engine_socket: PathBuf,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// A level, or levels by module.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Compatibility {
    /// The unit that a bare number gets.
    #[must_use]
    pub fn bare_size_unit(self) -> Option<char> {
        match self {
            Self::None => None,
            Self::Wetopi => Some('M'),
            Self::Rexray => Some('G'),
        }
    }
}

impl VolumeDefaults {
    /// How the options of a volume are read.
    #[must_use]
    pub fn rules(&self) -> OptionRules {
        OptionRules {
            defaults: self.options.clone(),
            max_size: self.max_size,
            bare_size_unit: self.compatibility.bare_size_unit(),
        }
    }
}

impl From<&Home> for Location {
    fn from(home: &Home) -> Self {
        Self::new(&home.pool, &home.namespace)
    }
}

impl Settings {
    /// Makes settings of what was written. `readable` says why a file cannot be read.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn settle(
        inputs: Inputs,
        readable: &dyn Fn(&Path) -> Result<(), String>,
    ) -> Result<Self, Problems> {
        let raw = inputs.raw();
        let mut reader = value::Reader::new(inputs);
        let settings = Self {
            ceph: reader.ceph_access(&raw, readable),
            home: reader.home(&raw),
            mapper: reader.read("mapper", &raw.mapper, value::mapper),
            cephfs_own_key: reader.read("cephfs-key", &raw.cephfs_key, value::cephfs_key),
            socket: reader.read("socket", &raw.socket, value::socket),
            metrics: reader.read("metrics-listen", &raw.metrics_listen, value::metrics),
            folders: reader.folders(&raw),
            volumes: reader.volume_defaults(&raw),
            snapshots: reader.snapshots(&raw),
            times: reader.times(&raw),
            log: reader.log(&raw),
        };
        limits::check(&settings, &mut reader);
        match reader.into_problems() {
            none if none.is_empty() => Ok(settings),
            problems => Err(Problems(problems)),
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Wetopi => "wetopi",
            Self::Rexray => "rexray",
        })
    }
}

#[cfg(test)]
mod tests;
