//! Who holds a file system: the mounts of it in every mount namespace of this host.
//!
//! An `umount` of ours succeeds while a container still writes, because the container has a mount
//! of its own; only `/proc/PID/mountinfo` of a process in its namespace tells. Each namespace is
//! read once, from a process that is not confined to a part of it.
//!
//! Not every mount elsewhere is a use. A *copy* of ours came along when somebody copied the
//! namespace whole (a service with `PrivateMounts`) or took the host's root as a folder (a
//! monitoring container), or when the kernel propagated it (a managed plugin's mount shows up in
//! the engine's namespace under the engine's name for it). A copy is told by its root, which is
//! the whole file system, and its path, which ends with ours or with that of a propagated one. A
//! container's mount has the path that the container chose.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::command::io;
use super::mountinfo::{self, Entry};
use super::{DeviceNumber, Holder, SystemErrorKind, process};

/// The mounts of one file system in one namespace, seen by one process.
struct Seen {
    pid: u32,
    ours: bool,
    entries: Vec<Entry>,
}

/// The mounts that hold a file system, other than `ours` and its copies.
pub(crate) fn find(number: DeviceNumber, ours: &Path) -> Result<Vec<Holder>, SystemErrorKind> {
    let seen = everywhere(number)?;
    let used = uses(&seen, ours);
    Ok(used.map(|(pid, entry)| holder(pid, entry.mount.target.clone())).collect())
}

/// The processes of our own namespace that have files open below a folder.
pub(crate) fn with_open_files(folder: &Path) -> Vec<Holder> {
    let own = namespace_of("self");
    let pids = process::all().into_iter().flatten();
    let near = pids.filter(|pid| namespace_of(&pid.to_string()) == own);
    near.filter_map(|pid| Some(holder(pid, process::file_in_use_below(pid, folder)?))).collect()
}

fn holder(pid: u32, target: PathBuf) -> Holder {
    Holder { pid, command: process::name(pid), target }
}

fn namespace_of(pid: &str) -> Option<OsString> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    Some(link.into_os_string())
}

fn everywhere(number: DeviceNumber) -> Result<Vec<Seen>, SystemErrorKind> {
    let own = namespace_of("self");
    let read = |pid: &str| std::fs::read(format!("/proc/{pid}/mountinfo"));
    let text = read("self").map_err(io(Path::new("/proc/self/mountinfo")))?;
    let here = mountinfo::parse_of(&text, number);
    let mut seen = vec![Seen { pid: std::process::id(), ours: true, entries: here }];
    for pid in representatives(own.as_ref())? {
        // A process that has just ended has taken its namespace along, or left it to others.
        if let Ok(text) = read(&pid.to_string()) {
            let entries = mountinfo::parse_of(&text, number);
            seen.push(Seen { pid, ours: false, entries });
        }
    }
    Ok(seen)
}

/// Processes that together see all of every other namespace: one whose root is the namespace's
/// own, or else all that are there.
fn representatives(own: Option<&OsString>) -> Result<Vec<u32>, SystemErrorKind> {
    let mut found: HashMap<OsString, Pids> = HashMap::new();
    for pid in process::all().map_err(io(Path::new("/proc")))? {
        let Some(namespace) = namespace_of(&pid.to_string()) else { continue };
        if own == Some(&namespace) {
            continue;
        }
        let pids = found.entry(namespace).or_default();
        if pids.whole.is_none() {
            let root = std::fs::read_link(format!("/proc/{pid}/root"));
            let whole = root.is_ok_and(|root| root == Path::new("/"));
            if whole { pids.whole = Some(pid) } else { pids.confined.push(pid) }
        }
    }
    let chosen = found.into_values().map(|pids| pids.whole.map_or(pids.confined, |pid| vec![pid]));
    Ok(chosen.flatten().collect())
}

#[derive(Default)]
struct Pids {
    whole: Option<u32>,
    confined: Vec<u32>,
}

fn uses<'a>(seen: &'a [Seen], ours: &'a Path) -> impl Iterator<Item = (u32, &'a Entry)> {
    let names = names_of_copies(seen, ours);
    let all = seen
        .iter()
        .flat_map(|namespace| namespace.entries.iter().map(move |entry| (namespace, entry)));
    all.filter(
        move |(namespace, entry)| {
            if namespace.ours { entry.mount.target != ours } else { !is_copy(entry, &names) }
        },
    )
    .map(|(namespace, entry)| (namespace.pid, entry))
}

/// The paths of our mount: ours, and where the kernel has propagated it to.
fn names_of_copies(seen: &[Seen], ours: &Path) -> Vec<PathBuf> {
    let here = seen.iter().filter(|namespace| namespace.ours).flat_map(|own| &own.entries);
    let group = here.filter(|entry| entry.mount.target == ours).find_map(|entry| entry.shared);
    let elsewhere = seen.iter().filter(|namespace| !namespace.ours).flat_map(|it| &it.entries);
    let propagated = elsewhere.filter(|entry| {
        group.is_some()
            && (entry.shared == group || entry.master == group)
            && entry.mount.target.file_name() == ours.file_name()
    });
    let propagated = propagated.map(|entry| entry.mount.target.clone());
    std::iter::once(ours.to_owned()).chain(propagated).collect()
}

fn is_copy(entry: &Entry, names: &[PathBuf]) -> bool {
    let target = entry.mount.target.as_os_str().as_bytes();
    let whole = entry.mount.root == Path::new("/");
    whole && names.iter().any(|name| target.ends_with(name.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "/var/lib/x/mnt/v1";

    fn seen(pid: u32, ours: bool, lines: &[(&str, &str, &str)]) -> Seen {
        let line = |(root, target, tags): &(&str, &str, &str)| {
            format!("7 1 7:0 {root} {target} rw {tags}- ext4 /dev/loop0 rw\n")
        };
        let text: String = lines.iter().map(line).collect();
        Seen { pid, ours, entries: mountinfo::parse(text.as_bytes()) }
    }

    fn found(all: &[Seen]) -> Vec<(u32, String)> {
        let used = uses(all, Path::new(OURS));
        used.map(|(pid, entry)| (pid, entry.mount.target.display().to_string())).collect()
    }

    #[test]
    fn a_containers_mount_is_a_use_and_a_copied_namespace_is_not() {
        let all = [
            seen(1, true, &[("/", OURS, "")]),
            seen(2, false, &[("/data", "/var/lib/postgresql", "")]),
            seen(3, false, &[("/", OURS, "")]),
            seen(4, false, &[("/", "/host/var/lib/x/mnt/v1", "")]),
            seen(5, false, &[("/", "/adopted", "")]),
        ];
        let expected = [(2, "/var/lib/postgresql".to_owned()), (5, "/adopted".to_owned())];
        assert_eq!(found(&all), expected);
    }

    #[test]
    fn a_copied_namespace_that_also_has_the_containers_mount_counts() {
        let all = [
            seen(1, true, &[("/", OURS, "")]),
            seen(2, false, &[("/", OURS, ""), ("/data", "/merged/data", "")]),
        ];
        assert_eq!(found(&all), [(2, "/merged/data".to_owned())]);
    }

    #[test]
    fn bind_mounts_in_our_own_namespace_count() {
        let all = [seen(1, true, &[("/", OURS, ""), ("/data", "/srv/data", "")])];
        assert_eq!(found(&all), [(1, "/srv/data".to_owned())]);
    }

    #[test]
    fn a_propagated_mount_and_its_copies_do_not_count_whatever_the_path() {
        let engine = "/var/lib/docker/plugins/1234/propagated-mount/v1";
        let monitor = format!("/host{engine}");
        let all = [
            seen(1, true, &[("/", OURS, "shared:5 ")]),
            seen(2, false, &[("/", engine, "shared:5 ")]),
            seen(3, false, &[("/", &monitor, "")]),
            seen(4, false, &[("/data", "/data", "master:5 ")]),
        ];
        assert_eq!(found(&all), [(4, "/data".to_owned())]);
    }
}
