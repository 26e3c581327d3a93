//! One librados connection, from its first option to its end.
//!
//! A connection is shared by all threads, which librados allows, and shut down when the last user
//! of it is gone: whatever refers into it (an I/O context, an open image) holds it alive. It is
//! never repaired: librados reconnects by itself after an outage, and a connection that was
//! blocklisted is dropped for a new one by its owner.
//!
//! Every call ends in time. librados itself has no limit for waiting for the newest map, which it
//! also does before it says that a pool is missing; so that wait happens on a thread of its own.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;
use std::ptr::{null, null_mut};
use std::slice;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::access::{Access, TimeLimits, whole_seconds};
use super::failure::{Failure, Outcome, check};
use super::ffi::rados::*;
use super::{ClusterErrorKind, command};

/// A connected librados handle.
#[derive(Debug)]
pub(super) struct Connection {
    handle: Handle,
    /// `client.4123` is 4123.
    pub(super) client: u64,
    limits: TimeLimits,
}

/// `rados_mon_command` and `rados_mgr_command`, which differ in nothing but whom they ask.
type SendCommand = unsafe extern "C" fn(
    rados_t,
    *mut *const c_char,
    usize,
    *const c_char,
    usize,
    *mut *mut c_char,
    *mut usize,
    *mut *mut c_char,
    *mut usize,
) -> c_int;

/// A librados handle, connected or not; shut down when it is dropped.
#[derive(Debug)]
struct Handle(rados_t);

// SAFETY: librados allows any thread to use a handle, and several at once (librados.h); the one
// call that excludes all others, `rados_shutdown`, is made by `drop`, which has no others left.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle was made by `rados_create2` and is used no more. It must be shut down
        // also where connecting failed: its threads and memory are freed by nothing else.
        unsafe { rados_shutdown(self.0) }
    }
}

/// Options of a control connection: few threads, little memory, no surprises.
const OPTIONS: [(&str, &str); 8] = [
    ("rbd_cache", "false"),
    ("ms_async_op_threads", "1"),
    ("librados_thread_count", "1"),
    ("log_max_recent", "1"),
    ("log_to_stderr", "false"),
    ("err_to_stderr", "false"),
    // "Removed" must not mean "in the trash", whatever `ceph.conf` says.
    ("rbd_move_to_trash_on_remove", "false"),
    // Anything else makes librbd 16 write a number that the monitors refuse (EINVAL), and so
    // unable to remove or resize an image whose last holder was fenced or died.
    ("rbd_blocklist_expire_seconds", "0"),
];

impl Connection {
    /// Connects. Ends within [`TimeLimits::connect`].
    pub(super) fn open(access: &Access) -> Outcome<Self> {
        let handle = Handle::create(&access.client_id)?;
        handle.configure(access)?;
        Self::connect(handle, access)
    }

    /// Connects for commands to the manager, which librados must not give up by itself: it would
    /// write an answer that comes later to where the call's stack was.
    pub(super) fn open_for_manager(access: &Access) -> Outcome<Self> {
        let handle = Handle::create(&access.client_id)?;
        handle.configure(access)?;
        handle.set("rados_mon_op_timeout", "0")?;
        Self::connect(handle, access)
    }

    fn connect(handle: Handle, access: &Access) -> Outcome<Self> {
        // SAFETY: the handle is alive.
        check(unsafe { rados_connect(handle.0) }).map_err(|failure| refused(failure, access))?;
        // SAFETY: the handle is alive and connected.
        let client = unsafe { rados_get_instance_id(handle.0) };
        Ok(Self { handle, client, limits: access.time_limits })
    }

    /// The handle, for I/O contexts, which hold this connection alive.
    pub(super) fn as_ptr(&self) -> rados_t {
        self.handle.0
    }

    /// The cluster's ID.
    pub(super) fn fsid(&self) -> Outcome<String> {
        let mut text = [0u8; 64];
        // SAFETY: the handle is connected, and the buffer as long as it is said to be.
        check(unsafe { rados_cluster_fsid(self.handle.0, text.as_mut_ptr().cast(), text.len()) })?;
        Ok(terminated(&text))
    }

    /// The value of an option of Ceph's configuration, of which the monitors may have set it.
    pub(super) fn option(&self, name: &str) -> Outcome<String> {
        let text = c_string(name)?;
        let mut value = vec![0u8; 4096];
        // SAFETY: the handle is alive, the name a C string, the buffer as long as it is said to be.
        check(unsafe {
            rados_conf_get(self.handle.0, text.as_ptr(), value.as_mut_ptr().cast(), value.len())
        })
        // Never the value: it may be a key.
        .map_err(|failure| Failure { message: format!("{name} cannot be read"), ..failure })?;
        Ok(terminated(&value))
    }

    /// The client's own address as blocklist entries write it, such as `10.0.0.7:0/3187512345`.
    pub(super) fn address(&self) -> Outcome<String> {
        let mut text: *mut c_char = null_mut();
        // SAFETY: the handle is connected; on success the call sets the pointer to a C string
        // that is ours to free.
        check(unsafe { rados_getaddrs(self.handle.0, &raw mut text) })?;
        // SAFETY: as above; it is freed once, after it was copied.
        let address = unsafe {
            let address = CStr::from_ptr(text).to_string_lossy().into_owned();
            rados_buffer_free(text);
            address
        };
        Ok(address)
    }

    /// Sends a command to the monitors; the error carries their own words.
    pub(super) fn monitor_command(&self, json: &str) -> Outcome<Vec<u8>> {
        self.command(rados_mon_command, json)
    }

    /// Sends a command to the active manager. Only for a connection of
    /// [`Connection::open_for_manager`]; may wait for ever.
    pub(super) fn manager_command(&self, json: &str) -> Outcome<Vec<u8>> {
        self.command(rados_mgr_command, json)
    }

    fn command(&self, send: SendCommand, json: &str) -> Outcome<Vec<u8>> {
        let json = c_string(json)?;
        let mut commands = [json.as_ptr()];
        let (mut output, mut status) = (Reply::default(), Reply::default());
        // SAFETY: the handle is connected; the command outlives the call; there is no input; both
        // replies are set to buffers that are ours to free, which `Reply` does.
        let code = unsafe {
            send(
                self.handle.0,
                commands.as_mut_ptr(),
                commands.len(),
                null(),
                0,
                &raw mut output.data,
                &raw mut output.length,
                &raw mut status.data,
                &raw mut status.length,
            )
        };
        let words = String::from_utf8_lossy(status.bytes()).trim().to_owned();
        check(code).map_err(|failure| {
            let silent = words.is_empty() || failure.errno == libc::ETIMEDOUT;
            if silent { failure } else { Failure { message: words, ..failure } }
        })?;
        Ok(output.bytes().to_vec())
    }

    /// A pool's number. `NotFound` only after the newest map was looked at.
    ///
    /// librados looks up an unknown name in the newest map, for which it waits without any limit.
    /// So it is asked here only for names that its map has, or else on a thread of its own.
    pub(super) fn pool(self: &Arc<Self>, name: &str) -> Outcome<i64> {
        let text = c_string(name)?;
        let connection = Arc::clone(self);
        // SAFETY: the handle is connected and held alive by the closure, the name is a C string.
        let look_up = move || unsafe { rados_pool_lookup(connection.handle.0, text.as_ptr()) };
        let number = if self.knows_pool(name)? { look_up() } else { self.patiently(look_up)? };
        if number < 0 {
            let failure = Failure::of_errno(c_int::try_from(-number).unwrap_or(libc::EIO));
            let words = || format!("there is no pool {name:?}");
            return Err(failure.worded(ClusterErrorKind::NotFound, words));
        }
        Ok(number)
    }

    /// Is a pool of that name in the map that this client has?
    fn knows_pool(&self, name: &str) -> Outcome<bool> {
        let mut names = vec![0u8; 1024];
        loop {
            let (buffer, length) = (names.as_mut_ptr().cast(), names.len());
            // SAFETY: the handle is connected, and the buffer as long as it is said to be. The
            // result is the length that the whole list needs.
            let needed = check(unsafe { rados_pool_list(self.handle.0, buffer, length) })?;
            let needed = usize::try_from(needed).unwrap_or(0);
            if needed <= length {
                return Ok(names[..needed]
                    .split(|byte| *byte == 0)
                    .any(|of| of == name.as_bytes()));
            }
            names.resize(needed, 0);
        }
    }

    /// A pool's name.
    pub(super) fn pool_name(&self, pool: i64) -> Outcome<String> {
        let mut name = [0u8; 512];
        // SAFETY: the handle is connected, and the buffer as long as it is said to be.
        check(unsafe {
            rados_pool_reverse_lookup(self.handle.0, pool, name.as_mut_ptr().cast(), name.len())
        })?;
        Ok(terminated(&name))
    }

    /// Waits for the newest map of the cluster, for at most the monitors' time limit.
    pub(super) fn catch_up(self: &Arc<Self>) -> Outcome<()> {
        let connection = Arc::clone(self);
        // SAFETY: the handle is connected, and held alive by the closure.
        let wait = move || unsafe { rados_wait_for_latest_osdmap(connection.handle.0) };
        check(self.patiently(wait)?).map(drop)
    }

    /// What `work` returns, which may wait for the newest map and so for ever.
    ///
    /// The monitors are asked something cheap first: normally no thread gets stuck, and one that
    /// does goes on when the outage ends.
    fn patiently<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Outcome<T> {
        command::ping(self)?;
        let limit = Duration::from_secs(whole_seconds(self.limits.monitor).max(1));
        within(limit, work).ok_or_else(|| Failure::of_errno(libc::ETIMEDOUT))
    }
}

impl Handle {
    fn create(client_id: &str) -> Outcome<Self> {
        let name = c_string(&format!("client.{client_id}"))?;
        let mut handle: rados_t = null_mut();
        // SAFETY: both names are C strings; on success the handle is set.
        check(unsafe { rados_create2(&raw mut handle, c"ceph".as_ptr(), name.as_ptr(), 0) })?;
        Ok(Self(handle))
    }

    fn configure(&self, access: &Access) -> Outcome<()> {
        self.read_conf(&access.conf)?;
        for (option, value) in OPTIONS {
            self.set(option, value)?;
        }
        let limits = access.time_limits;
        for (option, limit) in [
            ("client_mount_timeout", limits.connect),
            ("rados_mon_op_timeout", limits.monitor),
            ("rados_osd_op_timeout", limits.osd),
        ] {
            self.set(option, &whole_seconds(limit).max(1).to_string())?;
        }
        match &access.keyring {
            Some(keyring) => self.set("keyring", &keyring.to_string_lossy()),
            None => Ok(()),
        }
    }

    fn read_conf(&self, conf: &Path) -> Outcome<()> {
        let path = c_string(&conf.to_string_lossy())?;
        // SAFETY: the handle is alive, the path a C string.
        check(unsafe { rados_conf_read_file(self.0, path.as_ptr()) }).map_err(|failure| {
            let message = format!("{} cannot be read as a Ceph configuration", conf.display());
            Failure { kind: ClusterErrorKind::Invalid, message, ..failure }
        })?;
        Ok(())
    }

    fn set(&self, option: &str, value: &str) -> Outcome<()> {
        let (name, text) = (c_string(option)?, c_string(value)?);
        // SAFETY: the handle is alive, both texts are C strings.
        check(unsafe { rados_conf_set(self.0, name.as_ptr(), text.as_ptr()) }).map_err(
            |failure| Failure { message: format!("{option} cannot be {value:?}"), ..failure },
        )?;
        Ok(())
    }
}

/// A buffer that librados allocated for a reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) data: *mut c_char,
    pub(super) length: usize,
}

impl Default for Reply {
    fn default() -> Self {
        Self { data: null_mut(), length: 0 }
    }
}

impl Reply {
    /// The reply, which no zero byte ends.
    pub(super) fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: librados set both together, and the buffer lives until this is dropped.
        unsafe { slice::from_raw_parts(self.data.cast(), self.length) }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: it is librados' own buffer, freed once; a null pointer is allowed.
        unsafe { rados_buffer_free(self.data) }
    }
}

/// A connection's failure in words: librados has nothing but a number for it.
fn refused(failure: Failure, access: &Access) -> Failure {
    let (client, conf) = (&access.client_id, access.conf.display());
    let keyring = access.keyring.as_ref().map(|path| format!(" in {}", path.display()));
    let keyring = keyring.unwrap_or_default();
    let (kind, message) = match failure.errno {
        libc::ETIMEDOUT => (
            ClusterErrorKind::Unreachable,
            format!(
                "no monitor answered within {} s; check `mon host` in {conf}, the network, and \
                 `ceph -s`",
                whole_seconds(access.time_limits.connect).max(1)
            ),
        ),
        libc::ENOENT => (
            ClusterErrorKind::Denied,
            format!("no monitor in {conf}, or no key of client.{client}{keyring}"),
        ),
        // EIO: the keyring is no keyring.
        libc::EINVAL | libc::EIO => (
            ClusterErrorKind::Denied,
            format!("the key of client.{client}{keyring} is malformed or not the cluster's"),
        ),
        libc::EACCES | libc::EPERM => (
            ClusterErrorKind::Denied,
            format!("the cluster does not know client.{client} with the key{keyring}"),
        ),
        libc::EOPNOTSUPP => {
            (ClusterErrorKind::Denied, format!("client.{client} shows no key{keyring}"))
        }
        _ => return failure,
    };
    Failure { kind, message, ..failure }
}

/// What `work` returns, or `None` after `limit`; then its thread goes on by itself.
pub(super) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // Nobody listens any more after the limit, and nothing is lost.
    thread::spawn(move || drop(sender.send(work())));
    receiver.recv_timeout(limit).ok()
}

/// A text for C, which ends at the first zero byte.
pub(super) fn c_string(text: &str) -> Outcome<CString> {
    CString::new(text).map_err(|_| Failure::invalid(format!("{text:?} contains a zero byte")))
}

/// The text in a buffer up to its first zero byte.
pub(super) fn terminated(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_alone() {
        let (_keep, never) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(10), move || never.recv().is_ok()), None);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn a_text_with_a_zero_byte_is_refused() {
        assert_eq!(c_string("a\0b").expect_err("refused").kind, ClusterErrorKind::Invalid);
        assert_eq!(terminated(b"abc\0\0"), "abc");
        assert_eq!(terminated(b"abc"), "abc");
    }
}
