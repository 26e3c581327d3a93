//! A folder mounted by `ceph-fuse`.
//!
//! ```text
//!   keyring written ──▶ ceph-fuse started, outlives us ──▶ mounted ──▶ keyring removed
//! ```
//!
//! The process is started as `rbd-fuse` is (see `kernel::detach`), and like it has to live for as
//! long as the mount: killed, the mount is dead. The key is in its memory once it has mounted, and
//! no longer in a file.
//!
//! **No acknowledged byte is lost.** A fenced `ceph-fuse` answers an fsync with success though what
//! it had in its cache is gone, so that cache (`client_oc`) is off: each write is in the cluster, or
//! has failed, when it is answered. The option `client_oc=true` turns it on, where speed counts for
//! more.
//!
//! A client that was evicted while the host was cut off, and not fenced, comes back by itself
//! (`client_reconnect_stale`). To trim the kernel's cache it remounts, which fails where our mount
//! is gone and a container's is not; it is told not to die of that.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::options::Options;
use super::record::{Folder, Found};
use super::{KindResult, admin_socket, why_not};
use crate::deadline::Deadline;
use crate::system::command::io;
use crate::system::kernel::{Call, Detach};
use crate::system::linux::LinuxSystem;
use crate::system::{FolderMountRequest, ProcessId, SystemErrorKind, mounts, state};
use crate::volume::ClientAccess;

const PROGRAM: &str = "ceph-fuse";
/// The settings that every mount has; see above. The volume's options come after them.
const SETTINGS: [&str; 3] = [
    "--client_oc=false",
    "--client_reconnect_stale=true",
    "--client_die_on_failed_dentry_invalidate=false",
];
/// How much sooner than its deadline a mount gives up by itself, so that it can say why.
const EARLIER: Duration = Duration::from_secs(1);
/// How long a killed process may take to be gone.
const KILLED: Duration = Duration::from_secs(3);
/// The path of a socket is at most this long, in bytes.
const LONGEST_SOCKET: usize = 107;

/// What is missing here for `ceph-fuse`.
pub(super) fn missing(system: &LinuxSystem) -> Option<String> {
    let program = system.programs().find(PROGRAM).err().map(|kind| kind.to_string());
    let absent = !Path::new("/dev/fuse").exists();
    program.or_else(|| {
        absent
            .then(|| "/dev/fuse is missing; load the kernel module fuse (modprobe fuse)".to_owned())
    })
}

/// Ends the process at once; the mount is dead then.
pub(super) fn kill(found: &Found, deadline: &Deadline) -> KindResult<()> {
    let started = Instant::now();
    let Some(process) = found.process else { return Ok(()) };
    process.signal(Signal::SIGKILL);
    if process.wait_for_end(&deadline.for_undo(KILLED).at_most(KILLED)) {
        return Ok(());
    }
    Err(SystemErrorKind::Timeout { after: started.elapsed() })
}

impl LinuxSystem {
    /// Mounts, and gives the address of the client.
    pub(super) fn mount_by_fuse(
        &self,
        folder: &Folder,
        request: &FolderMountRequest,
        options: &Options,
        deadline: &Deadline,
    ) -> KindResult<Option<String>> {
        state::make_folder(&request.target).map_err(io(&request.target))?;
        if let Some(text) = keyring_of(&request.access)? {
            folder.write_keyring(&text)?;
        }
        let process = self.start_ceph_fuse(folder, request, options, deadline)?;
        if !mounts::wait_for_mount(&request.target, process, deadline)? {
            return Err(ended(folder, request));
        }
        // It mounts the cluster's file system first, and only then here.
        let _ = std::fs::remove_file(folder.keyring());
        Ok(admin_socket::client_address(&folder.admin_socket(), deadline))
    }

    fn start_ceph_fuse(
        &self,
        folder: &Folder,
        request: &FolderMountRequest,
        options: &Options,
        deadline: &Deadline,
    ) -> KindResult<ProcessId> {
        let conf = self.settings().ceph_conf.display().to_string();
        let command = self.programs().find(PROGRAM)?.args(["-f", "-c", &conf]);
        let command = command.args(arguments(folder, request, options, deadline.left()));
        let line = command.arg(&request.target).line().into_iter();
        let detach = Detach {
            line: line.map(|arg| arg.to_string_lossy().into_owned()).collect(),
            log: folder.log(),
            process_file: folder.process_file(),
        };
        self.kernel().call(&Call::Detach(detach), deadline)
    }
}

fn arguments(
    folder: &Folder,
    request: &FolderMountRequest,
    options: &Options,
    limit: Duration,
) -> Vec<String> {
    let mut args = vec!["--id".to_owned(), request.access.client_id.clone()];
    if request.access.key.is_some() {
        args.extend(["--keyring".to_owned(), folder.keyring().display().to_string()]);
    }
    args.extend(["--client_fs".to_owned(), request.fs.clone()]);
    args.extend(["-r".to_owned(), request.path.clone()]);
    // Its errors go to its log, and not a second time to its standard error.
    args.push(format!("--log-file={}", folder.log().display()));
    args.push("--err-to-stderr=false".to_owned());
    let socket = folder.admin_socket();
    let fits = socket.as_os_str().len() <= LONGEST_SOCKET;
    let socket = if fits { socket.display().to_string() } else { String::new() };
    args.push(format!("--admin-socket={socket}"));
    let limit = limit.saturating_sub(EARLIER).as_secs().max(1);
    args.push(format!("--client_mount_timeout={limit}"));
    args.extend(SETTINGS.map(str::to_owned));
    args.extend(options.of_client.iter().map(|option| format!("--{option}")));
    args.extend(["-o".to_owned(), options.words().join(",")]);
    args
}

/// A keyring with that key alone.
fn keyring_of(access: &ClientAccess) -> KindResult<Option<String>> {
    let Some(key) = &access.key else { return Ok(None) };
    let (id, key) = (&access.client_id, key.reveal());
    if [id.as_str(), key].iter().any(|text| text.contains(|c: char| c.is_control() || c == ']')) {
        let said = format!("the key of client.{id} cannot stand in a keyring");
        return Err(SystemErrorKind::Refused(said));
    }
    Ok(Some(format!("[client.{id}]\n\tkey = {key}\n")))
}

fn ended(folder: &Folder, request: &FolderMountRequest) -> SystemErrorKind {
    let log = folder.log_tail();
    let why = errno_in(&log).and_then(|errno| why_not(errno, request));
    let output = why.map_or_else(|| log.clone(), |why| format!("{why}: {log}"));
    let status = "ended at once".to_owned();
    SystemErrorKind::Command { program: PROGRAM.to_owned(), status, output }
}

/// The errno that a log gives for the end. A key that is no good is not said by its errno.
fn errno_in(log: &str) -> Option<i32> {
    let refused = ["handle_auth_bad_method", "authenticate timed out"];
    if refused.iter().any(|said| log.contains(said)) {
        return Some(libc::EACCES);
    }
    // It says so of a file system that is not there, and a line of its log may stand within the next.
    if log.contains("mdsmap subscription failed") {
        return Some(libc::ENOENT);
    }
    let after = log.rsplit_once("ceph mount failed with (")?.1;
    after.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{CephFsClient, Secret};

    fn request() -> FolderMountRequest {
        FolderMountRequest {
            client: CephFsClient::Fuse,
            fs: "cephfs".to_owned(),
            path: "/volumes/v".to_owned(),
            target: "/mnt/v".into(),
            read_only: false,
            options: Vec::new(),
            access: ClientAccess {
                monitors: Vec::new(),
                client_id: "v".to_owned(),
                key: Some(Secret::new("AQVERYSECRET==")),
                default_map_options: Vec::new(),
            },
            id: "v".to_owned(),
        }
    }

    #[test]
    fn the_volumes_settings_come_after_the_drivers_and_no_key_is_an_argument() {
        let folder = Folder("/run/x/cephfs/v+0".into());
        let options = Options { flags: 0, of_client: vec!["client_oc=true".to_owned()] };
        let limit = Duration::from_secs(20);
        let line = arguments(&folder, &request(), &options, limit).join(" ");
        assert_eq!(
            line,
            "--id v --keyring /run/x/cephfs/v+0/keyring --client_fs cephfs -r /volumes/v \
             --log-file=/run/x/cephfs/v+0/log --err-to-stderr=false --admin-socket=/run/x/cephfs/v+0/asok \
             --client_mount_timeout=19 --client_oc=false --client_reconnect_stale=true \
             --client_die_on_failed_dentry_invalidate=false --client_oc=true \
             -o rw,suid,dev,exec,atime,async"
        );
        let long = Folder(format!("/run/{}", "x".repeat(100)).into());
        let line = arguments(&long, &request(), &options, limit).join(" ");
        assert!(line.contains("--admin-socket= "), "{line}");
    }

    #[test]
    fn an_end_is_explained_by_the_log() {
        let not_there = "ceph-fuse[2173]: ceph mount failed with (2) No such file or directory";
        let bad_key = "monclient(hunting): handle_auth_bad_method server allowed_methods [2]";
        assert_eq!(errno_in(not_there), Some(libc::ENOENT));
        assert_eq!(errno_in(bad_key), Some(libc::EACCES));
        let no_fs =
            "ceph mount failed with -1 client.6438 mdsmap subscription failed with -2 (2) No";
        assert_eq!(errno_in(no_fs), Some(libc::ENOENT));
        assert_eq!(errno_in("fuse failed to start"), None);
        let why = why_not(libc::ENOENT, &request()).expect("known");
        assert!(why.contains("no folder /volumes/v in it, or client.v may not"), "{why}");
        assert_eq!(why_not(libc::ENOMEM, &request()), None);
    }

    #[test]
    fn a_keyring_holds_one_key() {
        let mut access = request().access;
        let text = keyring_of(&access).expect("a keyring").expect("a key");
        assert_eq!(text, "[client.v]\n\tkey = AQVERYSECRET==\n");
        access.client_id = "v]\n[client.admin".to_owned();
        keyring_of(&access).expect_err("no name of a client");
        access.key = None;
        assert_eq!(keyring_of(&access).expect("none"), None);
    }
}
