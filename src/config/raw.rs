//! What was written: every setting once, as text.
//!
//! A field here is the one definition of a setting. Its name is the flag (`--mount-root`), the
//! environment variable (`DOCKER_CEPH_MOUNT_ROOT`) and the key in the file (`mount-root`), its doc
//! comment is the help, and its default is the default everywhere. Everything is text, also in the
//! file, and is made sense of in [`Settings`](super::Settings): so that one start reports every
//! setting that is wrong, wherever it was written.

use clap::Args;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Where the file of settings is looked for; it need not be there.
pub const DEFAULT_CONFIG: &str = "/etc/docker-volume-ceph/config.toml";

/// Where Docker looks for a driver called `ceph`.
pub const DEFAULT_SOCKET: &str = "/run/docker/plugins/ceph.sock";

/// Every setting, as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Deserialize)]
#[command(next_help_heading = "Settings")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// Ceph's own configuration file
    #[arg(long, env = "DOCKER_CEPH_CEPH_CONF", value_name = "FILE")]
    #[arg(default_value = "/etc/ceph/ceph.conf")]
    pub ceph_conf: Option<String>,

    /// The Ceph client to be, without "client."
    #[arg(long, env = "DOCKER_CEPH_CLIENT_ID", value_name = "ID", default_value = "docker")]
    pub client_id: Option<String>,

    /// The file with the client's key; else Ceph looks where it always looks
    #[arg(long, env = "DOCKER_CEPH_KEYRING", value_name = "FILE")]
    pub keyring: Option<String>,

    /// The pool of the catalog, and of volumes that name no other
    #[arg(long, env = "DOCKER_CEPH_POOL", value_name = "POOL", default_value = "rbd")]
    pub pool: Option<String>,

    /// The RADOS namespace in that pool; empty for the pool's default one
    #[arg(long, env = "DOCKER_CEPH_NAMESPACE", value_name = "NAME", default_value = "docker")]
    pub namespace: Option<String>,

    /// How an image becomes a block device: auto (krbd, else nbd), krbd, nbd or fuse
    #[arg(long, env = "DOCKER_CEPH_MAPPER", value_name = "MAPPER", default_value = "auto")]
    pub mapper: Option<String>,

    /// Whose key a folder of CephFS is mounted by: volume (one for each) or daemon
    #[arg(long, env = "DOCKER_CEPH_CEPHFS_KEY", value_name = "WHOSE", default_value = "volume")]
    pub cephfs_key: Option<String>,

    /// Unix socket of the daemon. A flag of every command, and so defined there.
    #[arg(skip)]
    pub socket: Option<String>,

    /// Where Prometheus may ask for metrics: a port of the loopback such as 127.0.0.1:9284, or the
    /// path of a Unix socket; else nowhere
    #[arg(long, env = "DOCKER_CEPH_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,

    /// What this boot knows: references, and what is attached
    #[arg(long, env = "DOCKER_CEPH_STATE_FOLDER", value_name = "FOLDER")]
    #[arg(default_value = "/run/docker-volume-ceph")]
    pub state_folder: Option<String>,

    /// What outlives the boot: the last known catalog
    #[arg(long, env = "DOCKER_CEPH_CACHE_FOLDER", value_name = "FOLDER")]
    #[arg(default_value = "/var/lib/docker-volume-ceph")]
    pub cache_folder: Option<String>,

    /// Volumes are mounted in this folder, each under its name
    #[arg(long, env = "DOCKER_CEPH_MOUNT_ROOT", value_name = "FOLDER")]
    #[arg(default_value = "/var/lib/docker-volume-ceph/mounts")]
    pub mount_root: Option<String>,

    /// A volume option for new volumes that do not give it, such as size=10G; may be repeated.
    /// A table in the file; a list with commas in the environment
    #[arg(long, env = "DOCKER_CEPH_DEFAULT", value_name = "KEY=VALUE")]
    #[serde(deserialize_with = "key_value_table")]
    pub default: Vec<String>,

    /// The largest volume that may be asked for, such as 1T
    #[arg(long, env = "DOCKER_CEPH_MAX_SIZE", value_name = "SIZE")]
    pub max_size: Option<String>,

    /// How a size without a unit is read: none (refused), wetopi (MiB) or rexray (GiB)
    #[arg(long, env = "DOCKER_CEPH_COMPATIBILITY", value_name = "PEER", default_value = "none")]
    pub compatibility: Option<String>,

    /// How long a mount waits for another host to let go of the volume
    #[arg(long, env = "DOCKER_CEPH_BUSY_WAIT", value_name = "TIME", default_value = "45s")]
    pub busy_wait: Option<String>,

    /// How long the host that holds a volume has to be silent to be taken for dead
    #[arg(long, env = "DOCKER_CEPH_FENCE_AFTER", value_name = "TIME", default_value = "10s")]
    pub fence_after: Option<String>,

    /// How long a mount may stand that no container uses; more than the engine's 120s for a Mount
    #[arg(long, env = "DOCKER_CEPH_REFERENCE_GRACE", value_name = "TIME", default_value = "150s")]
    pub reference_grace: Option<String>,

    /// Programs that run around a snapshot, in the folders pre-snapshot and post-snapshot here
    #[arg(long, env = "DOCKER_CEPH_HOOKS_FOLDER", value_name = "FOLDER")]
    #[arg(default_value = "/etc/docker-volume-ceph/hooks.d")]
    pub hooks_folder: Option<String>,

    /// How long one of those programs may take
    #[arg(long, env = "DOCKER_CEPH_HOOK_LIMIT", value_name = "TIME", default_value = "60s")]
    pub hook_limit: Option<String>,

    /// How long a file system may stand still for a snapshot before it goes on by itself
    #[arg(long, env = "DOCKER_CEPH_FREEZE_LIMIT", value_name = "TIME", default_value = "10s")]
    pub freeze_limit: Option<String>,

    /// The engine's socket, where it is asked which containers use a volume
    #[arg(long, env = "DOCKER_CEPH_ENGINE_SOCKET", value_name = "PATH")]
    #[arg(default_value = "/run/docker.sock")]
    pub engine_socket: Option<String>,

    /// The pause between two looks at what is mounted, mapped and recorded
    #[arg(long, env = "DOCKER_CEPH_RECONCILE_INTERVAL", value_name = "TIME")]
    #[arg(default_value = "15s")]
    pub reconcile_interval: Option<String>,

    /// The time for one Create; less than the engine's 120s
    #[arg(long, env = "DOCKER_CEPH_CREATE_DEADLINE", value_name = "TIME", default_value = "100s")]
    pub create_deadline: Option<String>,

    /// The time for one Mount; less than the engine's 120s
    #[arg(long, env = "DOCKER_CEPH_MOUNT_DEADLINE", value_name = "TIME", default_value = "100s")]
    pub mount_deadline: Option<String>,

    /// The time for any other call; less than the engine's 60s
    #[arg(long, env = "DOCKER_CEPH_CALL_DEADLINE", value_name = "TIME", default_value = "50s")]
    pub call_deadline: Option<String>,

    /// The time for connecting to the cluster (Ceph's client_mount_timeout)
    #[arg(long, env = "DOCKER_CEPH_CONNECT_TIMEOUT", value_name = "TIME", default_value = "10s")]
    pub connect_timeout: Option<String>,

    /// The time for one question to the monitors (Ceph's rados_mon_op_timeout)
    #[arg(long, env = "DOCKER_CEPH_MON_TIMEOUT", value_name = "TIME", default_value = "30s")]
    pub mon_timeout: Option<String>,

    /// The time for one operation on an object (Ceph's rados_osd_op_timeout)
    #[arg(long, env = "DOCKER_CEPH_OSD_TIMEOUT", value_name = "TIME", default_value = "30s")]
    pub osd_timeout: Option<String>,

    /// What is logged: off, error, warn, info, debug or trace; or by module,
    /// such as info,docker_volume_ceph::ceph=debug
    #[arg(long, env = "DOCKER_CEPH_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: Option<String>,

    /// How it is logged: text or json
    #[arg(long, env = "DOCKER_CEPH_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: Option<String>,
}

/// Reads a table of words, numbers and truth values as `key=value`.
fn key_value_table<'de, D: Deserializer<'de>>(table: D) -> Result<Vec<String>, D::Error> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a table of volume options, such as size = \"10G\"")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
            let mut pairs = Vec::new();
            while let Some((key, value)) = map.next_entry::<String, toml::Value>()? {
                let value = plain_text(&value).ok_or_else(|| {
                    A::Error::custom(format!("{key} is neither a text, a number nor true or false"))
                })?;
                pairs.push(format!("{key}={value}"));
            }
            Ok(pairs)
        }
    }

    table.deserialize_map(Pairs)
}

fn plain_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(truth) => Some(truth.to_string()),
        toml::Value::Float(_)
        | toml::Value::Datetime(_)
        | toml::Value::Array(_)
        | toml::Value::Table(_) => None,
    }
}
