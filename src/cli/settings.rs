//! Settings from where they are: flags, environment, the file.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;

use super::outcome::{Exit, Failure};
use crate::ceph::{Access, TimeLimits};
use crate::config::{CephAccess, DEFAULT_CONFIG, DEFAULT_SOCKET, Inputs, Settings};

/// All settings, checked; the files that they name can be read.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn load(matches: &ArgMatches) -> Result<Settings, Failure> {
    settle(matches, &readable)
}

/// All settings, checked, without a look at the files that they name.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn load_words(matches: &ArgMatches) -> Result<Settings, Failure> {
    settle(matches, &|_| Ok(()))
}

fn settle(
    matches: &ArgMatches,
    readable: &dyn Fn(&Path) -> Result<(), String>,
) -> Result<Settings, Failure> {
    let inputs = Inputs::from_matches(matches);
    let inputs = match read_file(matches)? {
        Some((path, text)) => inputs.over_file(&path, &text),
        None => inputs,
    };
    Settings::settle(inputs, readable).map_err(|problems| Failure::new(Exit::Usage, problems))
}

/// The daemon's socket for a command that needs no other setting: the flag, the variable, the file
/// where it can be read, the default, that of the managed plugin.
///
/// # Errors
/// Where several plugins could be meant.
pub(super) fn socket(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    let given = matches.get_one::<String>("socket").filter(|path| !path.is_empty()).cloned();
    let in_file = || {
        let (_, text) = read_file(matches).ok().flatten()?;
        let table: toml::Table = text.parse().ok()?;
        table.get("socket")?.as_str().map(str::to_owned)
    };
    given.or_else(in_file).map_or_else(|| found(Path::new(DEFAULT_SOCKET)), |path| Ok(path.into()))
}

/// The default, or that of the one managed plugin that answers: the engine gives each a folder of its
/// own, beside the sockets of other drivers.
fn found(default: &Path) -> Result<PathBuf, Failure> {
    let (Some(folder), Some(name)) = (default.parent(), default.file_name()) else {
        return Ok(default.to_owned());
    };
    if default.exists() {
        return Ok(default.to_owned());
    }
    let folders = fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = folders.map(|entry| entry.path().join(name));
    // A plugin that was killed leaves its socket.
    let mut sockets: Vec<PathBuf> =
        sockets.filter(|path| UnixStream::connect(path).is_ok()).collect();
    sockets.sort();
    match &sockets[..] {
        [] => Ok(default.to_owned()),
        [one] => Ok(one.clone()),
        several => {
            let several: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            let message = format!(
                "several plugins have the driver: name the socket of one with --socket: {}",
                several.join(", ")
            );
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

/// The file of settings that is read, where there is one.
pub(super) fn file(matches: &ArgMatches) -> Option<PathBuf> {
    read_file(matches).ok().flatten().map(|(path, _)| path)
}

/// How the cluster is reached, with every time limit at most `limit`.
pub(super) fn access(ceph: &CephAccess, limit: Option<Duration>) -> Access {
    let at_most = |time: Duration| limit.map_or(time, |limit| time.min(limit));
    Access {
        conf: ceph.conf.clone(),
        client_id: ceph.client_id.clone(),
        keyring: ceph.keyring.clone(),
        time_limits: TimeLimits {
            connect: at_most(ceph.connect_timeout),
            monitor: at_most(ceph.mon_timeout),
            osd: at_most(ceph.osd_timeout),
        },
    }
}

/// The file of settings: the one that was named, or the default one if it is there.
fn read_file(matches: &ArgMatches) -> Result<Option<(PathBuf, String)>, Failure> {
    let named = matches.get_one::<String>("config").filter(|path| !path.is_empty());
    let path = PathBuf::from(named.map_or(DEFAULT_CONFIG, String::as_str));
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(error) => {
            let message = format!("read the settings (--config) {}: {error}", path.display());
            Err(Failure::new(Exit::Usage, message))
        }
    }
}

fn readable(path: &Path) -> Result<(), String> {
    let opened = File::open(path).and_then(|file| file.metadata());
    match opened {
        Ok(metadata) if metadata.is_dir() => Err("it is a folder, not a file".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_socket_of_the_one_plugin_that_answers_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let [default, one, other] =
            ["ceph.sock", "1a2b/ceph.sock", "3c4d/ceph.sock"].map(|path| folder.path().join(path));
        assert_eq!(found(&default).expect("none"), default);
        let listen = |path: &Path| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            UnixListener::bind(path).expect("a socket")
        };
        drop(listen(&other));
        let _one = listen(&one);
        assert_eq!(found(&default).expect("one, and what another has left"), one);
        fs::remove_file(&other).expect("a file");
        let _other = listen(&other);
        let said = found(&default).expect_err("two").message;
        assert!(said.contains("1a2b") && said.contains("3c4d"), "{said}");
        let _default = listen(&default);
        assert_eq!(found(&default).expect("the host's own"), default);
    }
}
