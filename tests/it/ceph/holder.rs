//! Who else has an image: a client of librbd, and one that behaves as a kernel does that has mapped
//! it exclusively.
//!
//! The latter is none of librbd: a client of that which gives its lock to nobody still makes a
//! snapshot for whoever asks it to. The kernel answers a wish for the lock with EROFS, and any
//! other wish with EOPNOTSUPP (`rbd_watch_cb` in `drivers/block/rbd.c`).

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use ::ceph::rados::{
    rados_conf_read_file, rados_conf_set, rados_connect, rados_create2, rados_exec,
    rados_ioctx_create, rados_ioctx_destroy, rados_ioctx_selfmanaged_snap_set_write_ctx,
    rados_ioctx_set_namespace, rados_ioctx_t, rados_notify_ack, rados_shutdown, rados_t,
    rados_unwatch2, rados_watch_flush, rados_watch2, rados_write,
};
use docker_volume_ceph::ceph::{Images, RadosCluster};
use docker_volume_ceph::volume::ImageSpec;

use super::Lab;

type Image = *mut c_void;

#[link(name = "rbd")]
unsafe extern "C" {
    fn rbd_open(
        io: rados_ioctx_t,
        name: *const c_char,
        image: *mut Image,
        snap: *const c_char,
    ) -> c_int;
    fn rbd_close(image: Image) -> c_int;
    fn rbd_write(image: Image, at: u64, length: usize, bytes: *const c_char) -> isize;
    fn rbd_flush(image: Image) -> c_int;
    fn rbd_lock_acquire(image: Image, mode: c_uint) -> c_int;
}

const EXCLUSIVE: c_uint = 0;

/// A client of its own, in the place of an image.
struct Client {
    cluster: rados_t,
    io: rados_ioctx_t,
}

/// An image that a client of librbd has open for writing until this is dropped.
pub(super) struct Holder {
    image: Image,
    _client: Client,
}

/// An image that is held as a kernel does, until this is dropped.
pub(super) struct Kernel {
    data: String,
    watched: Box<Watched>,
    cookie: u64,
    client: Client,
}

fn text(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).expect("no zero byte")
}

impl Client {
    fn of(lab: &Lab, image: &ImageSpec) -> Self {
        let conf = text(lab.conf().into_os_string().into_encoded_bytes());
        let key = lab.folder().join("ceph.client.admin.keyring");
        let key = text(key.into_os_string().into_encoded_bytes());
        let (pool, namespace) = (&image.location.pool, &image.location.namespace);
        let (pool, namespace) = (text(&**pool), text(&**namespace));
        let (mut cluster, mut io) = (null_mut(), null_mut());
        let (ceph, name) = (c"ceph".as_ptr(), c"client.admin".as_ptr());
        // SAFETY: all names are C strings, and each handle is set on success, which is looked for.
        unsafe {
            assert_eq!(rados_create2(&raw mut cluster, ceph, name, 0), 0);
            assert_eq!(rados_conf_read_file(cluster, conf.as_ptr()), 0);
            assert_eq!(rados_conf_set(cluster, c"keyring".as_ptr(), key.as_ptr()), 0);
            assert_eq!(rados_connect(cluster), 0);
            assert_eq!(rados_ioctx_create(cluster, pool.as_ptr(), &raw mut io), 0);
            rados_ioctx_set_namespace(io, namespace.as_ptr());
        }
        Self { cluster, io }
    }

    /// Calls a method of the class of locks.
    fn lock(&self, object: &CStr, method: &CStr, input: &[u8]) -> c_int {
        let (class, length) = (c"lock".as_ptr(), input.len());
        let (object, method, input) = (object.as_ptr(), method.as_ptr(), input.as_ptr().cast());
        // SAFETY: the context is alive, the names are C strings, the input as long as is said.
        unsafe { rados_exec(self.io, object, class, method, input, length, null_mut(), 0) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: both are alive, and ended once, in this order.
        unsafe {
            rados_ioctx_destroy(self.io);
            rados_shutdown(self.cluster);
        }
    }
}

impl Holder {
    /// Opens the image.
    pub(super) fn open(lab: &Lab, image: &ImageSpec) -> Self {
        let client = Client::of(lab, image);
        let (name, mut open) = (text(&*image.image), null_mut());
        // SAFETY: the context is alive, the name a C string, the image set on success.
        assert_eq!(unsafe { rbd_open(client.io, name.as_ptr(), &raw mut open, null()) }, 0);
        Self { image: open, _client: client }
    }

    /// Opens the image, and holds its lock.
    pub(super) fn exclusive(lab: &Lab, image: &ImageSpec) -> Self {
        let holder = Self::open(lab, image);
        // SAFETY: the image is open.
        assert_eq!(unsafe { rbd_lock_acquire(holder.image, EXCLUSIVE) }, 0);
        holder
    }

    /// Fills some bytes with one, and writes them out.
    pub(super) fn fill(&self, at: u64, length: usize, byte: u8) {
        let bytes = vec![byte; length];
        // SAFETY: the image is open, and the bytes as long as is said.
        let written = unsafe { rbd_write(self.image, at, length, bytes.as_ptr().cast()) };
        assert_eq!(usize::try_from(written).ok(), Some(length), "{written}");
        // SAFETY: the image is open.
        assert_eq!(unsafe { rbd_flush(self.image) }, 0);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: the image is open, and closed once.
        unsafe { rbd_close(self.image) };
    }
}

/// What the callback of the kernel's watch is given.
struct Watched {
    io: rados_ioctx_t,
    header: CString,
    /// How many calls to read the header again are still heard.
    hears: AtomicU32,
}

extern "C" fn on_message(
    watched: *mut c_void,
    notify: u64,
    cookie: u64,
    _notifier: u64,
    data: *mut c_void,
    length: usize,
) {
    // SAFETY: it outlives the watch.
    let Watched { io, header, hears } = unsafe { &*watched.cast::<Watched>() };
    let message = if data.is_null() {
        &[]
    } else {
        // SAFETY: librados gives a buffer of that length, which lives as long as this call.
        unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }
    };
    let one_less = |left: u32| left.checked_sub(1);
    let (now, before) = (Ordering::SeqCst, Ordering::SeqCst);
    if message.is_empty() && hears.fetch_update(now, before, one_less).is_err() {
        return;
    }
    let reply = answer(message);
    let (bytes, length) = (reply.as_ptr().cast(), c_int::try_from(reply.len()).unwrap_or(0));
    // SAFETY: the context is alive, the name a C string, the reply as long as is said.
    unsafe { rados_notify_ack(*io, header.as_ptr(), notify, cookie, bytes, length) };
}

extern "C" fn on_loss(_: *mut c_void, _: u64, _: c_int) {}

impl Kernel {
    /// Takes the image's lock, and watches its header.
    pub(super) fn map(lab: &Lab, cluster: &RadosCluster, image: &ImageSpec) -> Self {
        let client = Client::of(lab, image);
        let id = cluster.image_info(image).expect("there").id;
        let watched = Box::new(Watched {
            io: client.io,
            header: text(format!("rbd_header.{id}")),
            hears: AtomicU32::new(u32::MAX),
        });
        let (argument, mut cookie) = ((&raw const *watched).cast_mut().cast(), 0);
        let header = watched.header.as_ptr();
        let (cookie_at, heard, lost) = (&raw mut cookie, Some(on_message as _), Some(on_loss as _));
        // SAFETY: the context is alive, the name a C string, and the argument outlives the watch.
        let code = unsafe { rados_watch2(client.io, header, cookie_at, heard, lost, argument) };
        assert_eq!(code, 0);
        // The lock names the watch: one whose owner does not watch is broken by librbd.
        let kernel = Self { data: format!("rbd_data.{id}"), watched, cookie, client };
        let exclusive =
            [&[1][..], &string(&kernel.lock()), &string("internal"), &string(""), &[0; 9]].concat();
        let lock = versioned(&[string("rbd_lock"), exclusive].concat());
        assert_eq!(kernel.client.lock(&kernel.watched.header, c"lock", &lock), 0);
        kernel
    }

    /// Reads the header again only so often, and then answers no more to that.
    pub(super) fn hears_only(&self, times: u32) {
        self.watched.hears.store(times, Ordering::SeqCst);
    }

    fn lock(&self) -> String {
        format!("auto {}", self.cookie)
    }

    /// Fills an object with one byte; `snapshots` are those that the kernel knows of.
    pub(super) fn fill(&self, object: usize, snapshots: &[u64], byte: u8) {
        let mut snapshots = snapshots.to_vec();
        snapshots.sort_unstable_by(|a, b| b.cmp(a));
        let (seq, count) = (snapshots.first().copied().unwrap_or(0), snapshots.len());
        let (name, bytes) = (text(format!("{}.{object:016x}", self.data)), vec![byte; 4 << 20]);
        let (io, count) = (self.client.io, c_int::try_from(count).expect("a few"));
        // SAFETY: the context is alive, the name a C string, lists and bytes as long as is said.
        unsafe {
            let snapshots = snapshots.as_mut_ptr();
            assert_eq!(rados_ioctx_selfmanaged_snap_set_write_ctx(io, seq, snapshots, count), 0);
            let (name, length) = (name.as_ptr(), bytes.len());
            assert_eq!(rados_write(io, name, bytes.as_ptr().cast(), length, 0), 0);
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let unlock = versioned(&[string("rbd_lock"), string(&self.lock())].concat());
        let unlocked = self.client.lock(&self.watched.header, c"unlock", &unlock);
        // SAFETY: the watch is ended once, and its callbacks are through after the flush.
        unsafe {
            rados_unwatch2(self.client.io, self.cookie);
            rados_watch_flush(self.client.cluster);
        }
        assert!(unlocked == 0 || std::thread::panicking(), "somebody broke its lock: {unlocked}");
    }
}

/// What the kernel answers to a message: nothing to an empty one, and to what only says that
/// something happened (0, 1 and 3); an error to a wish.
fn answer(message: &[u8]) -> Vec<u8> {
    let wish = message.get(6..10).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let result: i32 = match wish {
        None | Some(0 | 1 | 3) => return Vec::new(),
        Some(2) => -30,
        Some(_) => -95,
    };
    versioned(&result.to_le_bytes())
}

/// A text in Ceph's encoding.
fn string(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [&length.to_le_bytes()[..], text.as_bytes()].concat()
}

/// A struct of version 1 in Ceph's encoding.
fn versioned(fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(fields.len()).expect("short");
    [&[1, 1], &length.to_le_bytes()[..], fields].concat()
}
