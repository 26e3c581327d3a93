//! From the text of a setting to its value; every refusal says what is allowed.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use tracing::level_filters::LevelFilter;

use super::{
    CephAccess, Compatibility, Folders, Home, Inputs, LogFormat, LogSettings, MetricsAddress,
    Origin, Problem, Raw, SnapshotSettings, Times, VolumeDefaults,
};
use crate::volume::{ByteSize, MapperKind, Options};

/// The longest path of a Unix socket (`sun_path` less its NUL).
const LONGEST_SOCKET: usize = 107;

/// Reads setting after setting and keeps what is wrong.
#[derive(Debug)]
pub(super) struct Reader {
    inputs: Inputs,
}

impl Reader {
    pub(super) fn new(inputs: Inputs) -> Self {
        Self { inputs }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.inputs.problems
    }

    /// The value of one setting; its type's default where it is wrong or not given.
    pub(super) fn read<T: Default>(
        &mut self,
        name: &str,
        text: &Option<String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(text) = text else { return T::default() };
        parse(text).unwrap_or_else(|reason| {
            self.refuse(name, text, &reason);
            T::default()
        })
    }

    pub(super) fn refuse(&mut self, name: &str, value: &str, reason: &str) {
        let origin: Origin = self.inputs.origin(name);
        self.inputs.complain(name, value, &origin, reason);
    }

    pub(super) fn problem_count(&self) -> usize {
        self.inputs.problems.len()
    }

    /// A setting's text, unless it was refused already.
    pub(super) fn readable_text(&self, name: &str) -> Option<String> {
        if self.is_refused(name) { None } else { self.inputs.text(name) }
    }

    /// The volume options as they were written.
    pub(super) fn written_defaults(&self) -> String {
        self.inputs.raw().default.join(",")
    }

    pub(super) fn is_refused(&self, name: &str) -> bool {
        self.inputs.problems.iter().any(|problem| problem.setting == name)
    }

    pub(super) fn ceph_access(
        &mut self,
        raw: &Raw,
        readable: &dyn Fn(&Path) -> Result<(), String>,
    ) -> CephAccess {
        let file = |text: &str| path(text).and_then(|path| readable(&path).map(|()| path));
        CephAccess {
            conf: self.read("ceph-conf", &raw.ceph_conf, file),
            client_id: self.read("client-id", &raw.client_id, client_id),
            keyring: self.read("keyring", &raw.keyring, |text| file(text).map(Some)),
            connect_timeout: self.read("connect-timeout", &raw.connect_timeout, duration),
            mon_timeout: self.read("mon-timeout", &raw.mon_timeout, duration),
            osd_timeout: self.read("osd-timeout", &raw.osd_timeout, duration),
        }
    }

    pub(super) fn home(&mut self, raw: &Raw) -> Home {
        Home {
            pool: self.read("pool", &raw.pool, |text| match text {
                "" => Err("a pool has a name".to_owned()),
                _ => part_of_spec(text),
            }),
            namespace: self.read("namespace", &raw.namespace, part_of_spec),
        }
    }

    pub(super) fn folders(&mut self, raw: &Raw) -> Folders {
        Folders {
            state: self.read("state-folder", &raw.state_folder, path),
            cache: self.read("cache-folder", &raw.cache_folder, path),
            mount_root: self.read("mount-root", &raw.mount_root, path),
        }
    }

    pub(super) fn volume_defaults(&mut self, raw: &Raw) -> VolumeDefaults {
        let compatibility = self.read("compatibility", &raw.compatibility, compatibility);
        let size = |text: &str| size(text, compatibility).map(Some);
        let mut volumes = VolumeDefaults {
            max_size: self.read("max-size", &raw.max_size, size),
            compatibility,
            options: Options::new(),
        };
        let rules = volumes.rules();
        for pair in &raw.default {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match rules.canonical(&Options::from([(key.to_owned(), value.to_owned())])) {
                Ok(canonical) => {
                    for (key, value) in canonical {
                        let other = volumes.options.insert(key, value.clone());
                        if other.is_some_and(|other| other != value) {
                            self.refuse("default", pair, "given twice, under different names");
                        }
                    }
                }
                Err(error) => self.refuse("default", pair, &error.to_string()),
            }
        }
        volumes
    }

    pub(super) fn snapshots(&mut self, raw: &Raw) -> SnapshotSettings {
        SnapshotSettings {
            hooks_folder: self.read("hooks-folder", &raw.hooks_folder, path),
            hook_limit: self.read("hook-limit", &raw.hook_limit, duration),
            freeze_limit: self.read("freeze-limit", &raw.freeze_limit, duration),
            engine_socket: self.read("engine-socket", &raw.engine_socket, path),
        }
    }

    pub(super) fn times(&mut self, raw: &Raw) -> Times {
        Times {
            busy_wait: self.read("busy-wait", &raw.busy_wait, duration),
            reference_grace: self.read("reference-grace", &raw.reference_grace, duration),
            fence_after: self.read("fence-after", &raw.fence_after, duration),
            reconcile_interval: self.read("reconcile-interval", &raw.reconcile_interval, duration),
            create_deadline: self.read("create-deadline", &raw.create_deadline, duration),
            mount_deadline: self.read("mount-deadline", &raw.mount_deadline, duration),
            call_deadline: self.read("call-deadline", &raw.call_deadline, duration),
        }
    }

    pub(super) fn log(&mut self, raw: &Raw) -> LogSettings {
        LogSettings {
            level: self.read("log-level", &raw.log_level, log_level),
            format: self.read("log-format", &raw.log_format, |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err("it is text or json".to_owned()),
            }),
        }
    }
}

pub(super) fn mapper(text: &str) -> Result<Option<MapperKind>, String> {
    match text {
        "auto" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| "it is auto, krbd, nbd or fuse".to_owned()),
    }
}

/// Is it the daemon's own?
pub(super) fn cephfs_key(text: &str) -> Result<bool, String> {
    match text {
        "volume" => Ok(false),
        "daemon" => Ok(true),
        _ => Err("it is volume or daemon".to_owned()),
    }
}

pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    match text.len() {
        length if length > LONGEST_SOCKET => Err(format!(
            "it has {length} bytes; the path of a Unix socket has at most {LONGEST_SOCKET}"
        )),
        _ => Ok(path),
    }
}

/// A port of the loopback, or a socket.
pub(super) fn metrics(text: &str) -> Result<Option<MetricsAddress>, String> {
    if text.starts_with('/') {
        return socket(text).map(MetricsAddress::Unix).map(Some);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() && address.port() != 0 => {
            Ok(Some(MetricsAddress::Tcp(address)))
        }
        Ok(_) => Err("it is a port of the loopback, such as 127.0.0.1:9284: metrics tell the \
                      volumes' names, and are for what runs on this host"
            .to_owned()),
        Err(_) => Err("write an address such as 127.0.0.1:9284, or the absolute path of a Unix \
                       socket"
            .to_owned()),
    }
}

/// A size, by the unit that a bare number has.
fn size(text: &str, compatibility: Compatibility) -> Result<ByteSize, String> {
    let size = match compatibility.bare_size_unit() {
        Some(unit) => ByteSize::parse_with_bare_unit(text, unit),
        None => text.parse(),
    };
    match size {
        Ok(ByteSize(0)) => Err("it is more than 0".to_owned()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// An absolute path without `..`, other than the root.
fn path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    if !path.is_absolute() || climbs || path.parent().is_none() || text.contains(char::is_control) {
        return Err("write an absolute path without \"..\", such as /run/ceph".to_owned());
    }
    // Without "." and doubled or trailing slashes, so that paths can be compared.
    Ok(path.components().collect())
}

fn client_id(text: &str) -> Result<String, String> {
    if let Some(id) = text.strip_prefix("client.") {
        return Err(format!("write the ID without \"client.\": {id:?}"));
    }
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '[' | ']' | '=');
    match text {
        "" => Err("a client has an ID, such as docker for client.docker".to_owned()),
        _ if text.contains(odd) => Err("a client ID has no space, '/', '[', ']' or '='".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

fn part_of_spec(text: &str) -> Result<String, String> {
    match text.contains(|c: char| c.is_control() || matches!(c, '/' | '@')) {
        true => Err("no '/', '@' or control character is allowed".to_owned()),
        false => Ok(text.to_owned()),
    }
}

fn compatibility(text: &str) -> Result<Compatibility, String> {
    [Compatibility::None, Compatibility::Wetopi, Compatibility::Rexray]
        .into_iter()
        .find(|known| known.to_string() == text)
        .ok_or_else(|| "it is none, wetopi or rexray".to_owned())
}

/// A time with its unit, such as `30s`, `2m` or `1m 30s`, in whole milliseconds.
///
/// # Errors
/// What is expected, where it is something else.
pub fn duration(text: &str) -> Result<Duration, String> {
    let advice = || "write a time such as 30s or 2m".to_owned();
    let signed: SignedDuration = text.parse().map_err(|_| advice())?;
    let duration = Duration::try_from(signed).map_err(|_| advice())?;
    if duration.subsec_nanos() % 1_000_000 == 0 { Ok(duration) } else { Err(advice()) }
}

fn log_level(text: &str) -> Result<String, String> {
    let level_of = |part: &str| part.rsplit('=').next().map(|level| level.trim().to_lowercase());
    let known = |part: &str| {
        let level = level_of(part).unwrap_or_default();
        !level.is_empty() && level.parse::<LevelFilter>().is_ok() && level.parse::<u8>().is_err()
    };
    match text.split(',').all(known) {
        true => Ok(text.to_owned()),
        false => Err("it is off, error, warn, info, debug or trace, or by module: \
                      info,docker_volume_ceph::ceph=debug"
            .to_owned()),
    }
}
