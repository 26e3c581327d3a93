//! Objects in one pool and namespace: omaps, versions, small reads, class methods.
//!
//! An I/O context belongs to one call. It is cheap (no message is sent for it), and it carries
//! state that threads must not share: the namespace, and the version of the object that was last
//! spoken to. Writes to a full pool come back with an error here; librados would hold them back.

use std::ffi::{CString, c_char, c_int, c_uchar};
use std::fmt;
use std::ptr::{null, null_mut};
use std::slice;
use std::sync::Arc;

use super::connection::{Connection, Reply, c_string};
use super::failure::{Failure, Outcome, check};
use super::ffi::rados::*;
use super::{OmapPage, Swap};
use crate::volume::Location;

/// An I/O context, which holds its connection alive.
pub(super) struct IoContext {
    io: rados_ioctx_t,
    pub(super) connection: Arc<Connection>,
}

// SAFETY: librados allows any thread to use a context (librados.h); what it carries between calls is
// not shared, because this is not `Sync`.
unsafe impl Send for IoContext {}

impl fmt::Debug for IoContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoContext").finish_non_exhaustive()
    }
}

impl Drop for IoContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours, and its connection is still alive.
        unsafe { rados_ioctx_destroy(self.io) }
    }
}

impl IoContext {
    /// Objects at `at`. `NotFound` where there is no such pool; namespaces are not checked.
    pub(super) fn open(connection: &Arc<Connection>, at: &Location) -> Outcome<Self> {
        let namespace = c_string(&at.namespace)?;
        let pool = connection.pool(&at.pool)?;
        let mut io: rados_ioctx_t = null_mut();
        // SAFETY: the connection is alive, and the context is set on success.
        check(unsafe { rados_ioctx_create2(connection.as_ptr(), pool, &raw mut io) })?;
        let context = Self { io, connection: Arc::clone(connection) };
        // SAFETY: the context is alive, the namespace a C string that is copied.
        unsafe {
            rados_ioctx_set_namespace(context.io, namespace.as_ptr());
            rados_set_pool_full_try(context.io);
        }
        Ok(context)
    }

    /// The context, for librbd; alive as long as this is.
    pub(super) fn as_ptr(&self) -> rados_ioctx_t {
        self.io
    }

    /// The value of one key. A missing object is an error here.
    pub(super) fn omap_get(&self, object: &str, key: &str) -> Outcome<Option<Vec<u8>>> {
        Ok(self.omap_get_all(object, [key])?.pop().map(|(_, value)| value))
    }

    /// Those of some keys that are there. A missing object is an error here.
    pub(super) fn omap_get_all<const N: usize>(
        &self,
        object: &str,
        keys: [&str; N],
    ) -> Outcome<Vec<(String, Vec<u8>)>> {
        let lengths = keys.map(str::len);
        let keys = keys.map(|key| key.as_ptr().cast::<c_char>());
        let mut entries = OmapEntries::default();
        let mut result: c_int = 0;
        self.read(object, |op| {
            // SAFETY: the operation is alive; keys, lengths, entries and the result all outlive it.
            unsafe {
                rados_read_op_omap_get_vals_by_keys2(
                    op,
                    keys.as_ptr(),
                    keys.len(),
                    lengths.as_ptr(),
                    &raw mut entries.0,
                    &raw mut result,
                );
            }
        })?;
        check(result)?;
        entries.all()
    }

    /// Entries after a key. A missing object is an error here.
    pub(super) fn omap_page(&self, object: &str, after: &str, limit: u64) -> Outcome<OmapPage> {
        let after = c_string(after)?;
        let mut entries = OmapEntries::default();
        let (mut more, mut result): (c_uchar, c_int) = (0, 0);
        self.read(object, |op| {
            // SAFETY: the operation is alive; the texts and all that is set outlive it.
            unsafe {
                rados_read_op_omap_get_vals2(
                    op,
                    after.as_ptr(),
                    c"".as_ptr(),
                    limit,
                    &raw mut entries.0,
                    &raw mut more,
                    &raw mut result,
                );
            }
        })?;
        check(result)?;
        Ok(OmapPage { entries: entries.all()?, more: more != 0 })
    }

    /// Compares and sets one key in one operation; the empty value stands for "missing".
    pub(super) fn omap_compare_and_set(
        &self,
        object: &str,
        key: &str,
        expected: &[u8],
        new: &[u8],
    ) -> Outcome<Swap> {
        let (keys, key_lengths) = ([key.as_ptr().cast::<c_char>()], [key.len()]);
        let (values, value_lengths) = ([new.as_ptr().cast::<c_char>()], [new.len()]);
        let (expected, length) = (expected.as_ptr().cast(), expected.len());
        let (equal, mut result) = (LIBRADOS_CMPXATTR_OP_EQ, 0);
        let written = self.write(object, |op| {
            // SAFETY: the operation is alive, librados copies keys and values into it, and the
            // result outlives it. A comparison on a missing object would be ENOENT, hence the
            // creation, which does nothing where the object is there.
            unsafe {
                rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, null());
                rados_write_op_omap_cmp2(
                    op,
                    keys[0],
                    equal,
                    expected,
                    key_lengths[0],
                    length,
                    &raw mut result,
                );
                let (keys, key_lengths) = (keys.as_ptr(), key_lengths.as_ptr());
                if new.is_empty() {
                    rados_write_op_omap_rm_keys2(op, keys, key_lengths, 1);
                } else {
                    let (values, lengths) = (values.as_ptr(), value_lengths.as_ptr());
                    rados_write_op_omap_set2(op, keys, values, key_lengths, lengths, 1);
                }
            }
        });
        match written {
            Ok(()) => Ok(Swap::Swapped),
            Err(failure) if failure.errno == libc::ECANCELED => Ok(Swap::Changed),
            Err(failure) => Err(failure),
        }
    }

    /// The object's version. A missing object is an error here.
    pub(super) fn version(&self, object: &str) -> Outcome<u64> {
        let object = c_string(object)?;
        // SAFETY: the context is alive, the name a C string; size and time are not asked for.
        check(unsafe { rados_stat(self.io, object.as_ptr(), null_mut(), null_mut()) })?;
        // SAFETY: the context is alive, and no other thread has spoken through it since.
        Ok(unsafe { rados_get_last_version(self.io) })
    }

    /// The first `limit` bytes of an object.
    pub(super) fn head(&self, object: &str, limit: usize) -> Outcome<Vec<u8>> {
        let object = c_string(object)?;
        let mut bytes = vec![0u8; limit];
        // SAFETY: the context is alive, the name a C string, the buffer as long as is said.
        let read = check(unsafe {
            rados_read(self.io, object.as_ptr(), bytes.as_mut_ptr().cast(), limit, 0)
        })?;
        bytes.truncate(usize::try_from(read).unwrap_or(0));
        Ok(bytes)
    }

    /// Makes an empty object; one that is there stays as it is.
    pub(super) fn create(&self, object: &str) -> Outcome<()> {
        self.write(object, |op| {
            // SAFETY: the operation is alive.
            unsafe { rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, null()) }
        })
    }

    /// A write that changes nothing of an object that must be there.
    pub(super) fn touch(&self, object: &str) -> Outcome<()> {
        self.write(object, |op| {
            // SAFETY: the operation is alive.
            unsafe {
                rados_write_op_assert_exists(op);
                rados_write_op_create(op, LIBRADOS_CREATE_IDEMPOTENT, null());
            }
        })
    }

    /// Calls a writing method of an object class on an object that must be there.
    pub(super) fn call(
        &self,
        object: &str,
        class: &str,
        method: &str,
        input: &[u8],
    ) -> Outcome<()> {
        let (class, method): (CString, CString) = (c_string(class)?, c_string(method)?);
        let mut result: c_int = 0;
        self.write(object, |op| {
            // SAFETY: the operation is alive, librados copies names and input, and the result
            // outlives it.
            unsafe {
                rados_write_op_assert_exists(op);
                let input = (input.as_ptr().cast(), input.len());
                let (class, method) = (class.as_ptr(), method.as_ptr());
                rados_write_op_exec(op, class, method, input.0, input.1, &raw mut result);
            }
        })
    }

    /// Asks all who watch an object, and waits for their answers for `seconds` (at least 1, and
    /// less than the time limit of an operation). The reply, in Ceph's encoding, of those who
    /// answered and those who did not; what the call itself returns says neither.
    pub(super) fn notify(&self, object: &str, message: &[u8], seconds: u64) -> Outcome<Vec<u8>> {
        let object = c_string(object)?;
        let length = c_length(message)?;
        let mut reply = Reply::default();
        // SAFETY: the context is alive, name and message are as long as is said, and the reply is
        // set to a buffer that is ours to free, which `Reply` does.
        let code = unsafe {
            rados_notify2(
                self.io,
                object.as_ptr(),
                message.as_ptr().cast(),
                length,
                seconds * 1000,
                &raw mut reply.data,
                &raw mut reply.length,
            )
        };
        match reply.bytes() {
            [] => Err(check(code).err().unwrap_or_else(|| Failure::of_errno(libc::ETIMEDOUT))),
            bytes => Ok(bytes.to_vec()),
        }
    }

    /// Answers what was heard on a watch.
    pub(super) fn answer(
        &self,
        object: &str,
        notify: u64,
        cookie: u64,
        reply: &[u8],
    ) -> Outcome<()> {
        let object = c_string(object)?;
        let length = c_length(reply)?;
        let reply = reply.as_ptr().cast();
        // SAFETY: the context is alive, name and reply are as long as is said.
        check(unsafe { rados_notify_ack(self.io, object.as_ptr(), notify, cookie, reply, length) })
            .map(drop)
    }

    /// Who holds a lock of an object: `(client.4123, address)`, none where nobody does.
    pub(super) fn lockers(&self, object: &str, lock: &str) -> Outcome<Vec<(String, String)>> {
        let (object, lock) = (c_string(object)?, c_string(lock)?);
        // More than one holder has no place for a lock that is exclusive.
        let mut texts = [[0u8; 512]; 4];
        let mut lengths = [512usize; 4];
        let mut exclusive: c_int = 0;
        let [tag, clients, cookies, addresses] = &mut texts;
        let [tag_length, clients_length, cookies_length, addresses_length] = &mut lengths;
        // SAFETY: the context is alive, the names are C strings, each buffer is as long as is said.
        let count = unsafe {
            rados_list_lockers(
                self.io,
                object.as_ptr(),
                lock.as_ptr(),
                &raw mut exclusive,
                tag.as_mut_ptr().cast(),
                tag_length,
                clients.as_mut_ptr().cast(),
                clients_length,
                cookies.as_mut_ptr().cast(),
                cookies_length,
                addresses.as_mut_ptr().cast(),
                addresses_length,
            )
        };
        let count = usize::try_from(count)
            .map_err(|_| Failure::of_errno(i32::try_from(-count).unwrap_or(libc::EIO)))?;
        let text = |buffer: &[u8]| {
            let parts = buffer.split(|byte| *byte == 0).take(count);
            parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
        };
        Ok(text(&texts[1]).into_iter().zip(text(&texts[3])).collect())
    }

    /// Takes a share in a lock for so many seconds, or renews it. Creates the object.
    pub(super) fn lock_shared(
        &self,
        object: &str,
        lock: &str,
        cookie: &str,
        seconds: u32,
    ) -> Outcome<()> {
        let (object, lock, cookie) = (c_string(object)?, c_string(lock)?, c_string(cookie)?);
        let mut keep = libc::timeval { tv_sec: seconds.into(), tv_usec: 0 };
        let (lock, cookie, none) = (lock.as_ptr(), cookie.as_ptr(), c"".as_ptr());
        let flags = LIBRADOS_LOCK_FLAG_MAY_RENEW;
        // SAFETY: the context is alive, the texts are C strings, the time outlives the call.
        check(unsafe {
            rados_lock_shared(
                self.io,
                object.as_ptr(),
                lock,
                cookie,
                none,
                none,
                &raw mut keep,
                flags,
            )
        })
        .map(drop)
    }

    /// Gives up a share in a lock; success where there is none.
    pub(super) fn unlock(&self, object: &str, lock: &str, cookie: &str) -> Outcome<()> {
        let (object, lock, cookie) = (c_string(object)?, c_string(lock)?, c_string(cookie)?);
        let (object, lock, cookie) = (object.as_ptr(), lock.as_ptr(), cookie.as_ptr());
        // SAFETY: the context is alive, the texts are C strings.
        match check(unsafe { rados_unlock(self.io, object, lock, cookie) }) {
            Err(failure) if failure.errno != libc::ENOENT => Err(failure),
            _ => Ok(()),
        }
    }

    /// Calls a reading method of an object class; its answer, which has to fit into `limit` bytes.
    pub(super) fn ask(
        &self,
        object: &str,
        class: &str,
        method: &str,
        input: &[u8],
        limit: usize,
    ) -> Outcome<Vec<u8>> {
        let (object, class, method) = (c_string(object)?, c_string(class)?, c_string(method)?);
        let mut output = vec![0u8; limit];
        // SAFETY: the context is alive, the names are C strings, both buffers as long as is said.
        let length = check(unsafe {
            rados_exec(
                self.io,
                object.as_ptr(),
                class.as_ptr(),
                method.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                output.as_mut_ptr().cast(),
                limit,
            )
        })?;
        output.truncate(usize::try_from(length).unwrap_or(0));
        Ok(output)
    }

    /// Removes an object; success where it is gone.
    pub(super) fn remove(&self, object: &str) -> Outcome<()> {
        let object = c_string(object)?;
        // SAFETY: the context is alive, the name a C string.
        match check(unsafe { rados_remove(self.io, object.as_ptr()) }) {
            Err(failure) if failure.errno != libc::ENOENT => Err(failure),
            _ => Ok(()),
        }
    }

    /// A number for a new snapshot of what is in the context's pool.
    pub(super) fn new_snapshot_id(&self) -> Outcome<u64> {
        let mut id = 0;
        // SAFETY: the context is alive, and the number is set on success.
        check(unsafe { rados_ioctx_selfmanaged_snap_create(self.io, &raw mut id) })?;
        Ok(id)
    }

    /// Lets the cluster drop all that a snapshot kept.
    pub(super) fn drop_snapshot_id(&self, id: u64) -> Outcome<()> {
        // SAFETY: the context is alive.
        check(unsafe { rados_ioctx_selfmanaged_snap_remove(self.io, id) }).map(drop)
    }

    fn read(&self, object: &str, fill: impl FnOnce(rados_read_op_t)) -> Outcome<()> {
        let object = c_string(object)?;
        // SAFETY: the operation is made, filled, carried out and released here, and only here.
        let code = unsafe {
            let op = rados_create_read_op();
            fill(op);
            let code = rados_read_op_operate(op, self.io, object.as_ptr(), 0);
            rados_release_read_op(op);
            code
        };
        check(code).map(drop)
    }

    fn write(&self, object: &str, fill: impl FnOnce(rados_write_op_t)) -> Outcome<()> {
        let object = c_string(object)?;
        // SAFETY: as for `read`; no time is given, so librados takes its own.
        let code = unsafe {
            let op = rados_create_write_op();
            fill(op);
            let code = rados_write_op_operate(op, self.io, object.as_ptr(), null_mut(), 0);
            rados_release_write_op(op);
            code
        };
        check(code).map(drop)
    }
}

fn c_length(bytes: &[u8]) -> Outcome<c_int> {
    c_int::try_from(bytes.len()).map_err(|_| Failure::invalid("it is too long"))
}

/// The entries that a read operation found; empty until it was carried out.
struct OmapEntries(rados_omap_iter_t);

impl Default for OmapEntries {
    fn default() -> Self {
        Self(null_mut())
    }
}

impl OmapEntries {
    fn all(&mut self) -> Outcome<Vec<(String, Vec<u8>)>> {
        let mut all = Vec::new();
        while let Some((key, value)) = self.next()? {
            let key = String::from_utf8(key).map_err(|error| {
                let key = error.as_bytes().escape_ascii().to_string();
                Failure::unreadable(format!("its key \"{key}\" is not UTF-8"))
            })?;
            all.push((key, value));
        }
        Ok(all)
    }

    fn next(&mut self) -> Outcome<Option<(Vec<u8>, Vec<u8>)>> {
        let (mut key, mut value): (*mut c_char, *mut c_char) = (null_mut(), null_mut());
        let (mut key_length, mut value_length) = (0, 0);
        if self.0.is_null() {
            return Ok(None);
        }
        // SAFETY: the iterator is alive; what it points to lives until the next step, and is
        // copied before. After the last entry both pointers are null.
        unsafe {
            check(rados_omap_get_next2(
                self.0,
                &raw mut key,
                &raw mut value,
                &raw mut key_length,
                &raw mut value_length,
            ))?;
            if key.is_null() {
                return Ok(None);
            }
            Ok(Some((copied(key, key_length), copied(value, value_length))))
        }
    }
}

impl Drop for OmapEntries {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the iterator was made by a read operation and is ended once.
            unsafe { rados_omap_get_end(self.0) }
        }
    }
}

/// # Safety
/// `data` points to `length` bytes, or is null.
unsafe fn copied(data: *const c_char, length: usize) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { slice::from_raw_parts(data.cast(), length) }.to_vec()
}
