//! An open RBD image.
//!
//! Open for reading, it leaves no watch and takes no lock, so that nobody mistakes it for a
//! holder. Open for writing, it is a watcher until it is dropped.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::zeroed;
use std::ptr::{null, null_mut};

use jiff::Timestamp;

use super::connection::{c_string, terminated};
use super::failure::{Outcome, check};
use super::ffi::rbd::*;
use super::io_context::IoContext;
use super::snapshots::Progress;
use super::{ImageInfo, Watcher, features};
use crate::volume::ByteSize;

/// An open image; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Image<'io> {
    image: rbd_image_t,
    io: &'io IoContext,
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        // SAFETY: the image is open, its context alive, and this is its last use. An error of
        // closing is one of the watch or the lock, and both end with the client.
        unsafe { rbd_close(self.image) };
    }
}

type Open = unsafe extern "C" fn(
    super::ffi::rados::rados_ioctx_t,
    *const c_char,
    *mut rbd_image_t,
    *const c_char,
) -> c_int;

impl<'io> Image<'io> {
    /// The image of that name, for reading.
    pub(super) fn open_read_only(io: &'io IoContext, name: &str) -> Outcome<Self> {
        Self::open_by(rbd_open_read_only, io, name)
    }

    /// The image with that internal ID, in the trash or not, for reading.
    pub(super) fn open_by_id_read_only(io: &'io IoContext, id: &str) -> Outcome<Self> {
        Self::open_by(rbd_open_by_id_read_only, io, id)
    }

    /// The image of that name, for writing: a watcher for as long as it is open.
    pub(super) fn open_for_writing(io: &'io IoContext, name: &str) -> Outcome<Self> {
        Self::open_by(rbd_open, io, name)
    }

    /// The image with that internal ID, in the trash or not, for writing.
    pub(super) fn open_by_id_for_writing(io: &'io IoContext, id: &str) -> Outcome<Self> {
        Self::open_by(rbd_open_by_id, io, id)
    }

    /// The image of that name as a snapshot has it, for reading. librbd 16 cannot open it so at once
    /// where the snapshot has no object map (ENOENT); it can go there.
    pub(super) fn open_snapshot(io: &'io IoContext, name: &str, snapshot: &str) -> Outcome<Self> {
        let (open, snapshot) = (Self::open_read_only(io, name)?, c_string(snapshot)?);
        // SAFETY: the image is open, the name a C string.
        check(unsafe { rbd_snap_set(open.image, snapshot.as_ptr()) })?;
        Ok(open)
    }

    fn open_by(open: Open, io: &'io IoContext, which: &str) -> Outcome<Self> {
        let which = c_string(which)?;
        let mut image: rbd_image_t = null_mut();
        // SAFETY: the context is alive, the name a C string, no snapshot is named, and the image
        // is set on success only.
        check(unsafe { open(io.as_ptr(), which.as_ptr(), &raw mut image, null()) })?;
        Ok(Self { image, io })
    }

    /// What the image says of itself.
    pub(super) fn info(&self) -> Outcome<ImageInfo> {
        let stat = self.stat()?;
        let (mut id, mut bits) = ([0u8; 128], 0u64);
        // SAFETY: the image is open, and the buffer as long as it is said to be.
        check(unsafe { rbd_get_id(self.image, id.as_mut_ptr().cast(), id.len()) })?;
        // SAFETY: the image is open.
        check(unsafe { rbd_get_features(self.image, &raw mut bits) })?;
        Ok(ImageInfo {
            id: terminated(&id),
            size: ByteSize(stat.size),
            features: features::names(bits),
            object_size: ByteSize(stat.obj_size),
            data_pool: self.data_pool(bits)?,
            created: self.created()?,
        })
    }

    /// The image's size in bytes.
    pub(super) fn size(&self) -> Outcome<u64> {
        Ok(self.stat()?.size)
    }

    /// The value of a metadata key.
    pub(super) fn metadata(&self, key: &str) -> Outcome<String> {
        let key = c_string(key)?;
        let value = grown(4096, |buffer: &mut Vec<u8>, length| {
            // SAFETY: the image is open, the key a C string, the buffer as long as is said; where
            // it is too short, the length becomes the one that is needed.
            unsafe {
                rbd_metadata_get(self.image, key.as_ptr(), buffer.as_mut_ptr().cast(), length)
            }
        })?;
        Ok(terminated(&value))
    }

    /// Who has the image open for writing, except this client.
    pub(super) fn watchers(&self) -> Outcome<Vec<Watcher>> {
        let list = grown(8, |buffer: &mut Vec<rbd_image_watcher_t>, count| {
            // SAFETY: the image is open, and the array as long as is said.
            unsafe { rbd_watchers_list(self.image, buffer.as_mut_ptr(), count) }
        })?;
        let watcher = |of: &rbd_image_watcher_t| Watcher {
            // SAFETY: the list was filled, and is freed below.
            address: unsafe { text(of.addr) },
            client: of.id.cast_unsigned(),
            cookie: of.cookie,
        };
        let watchers: Vec<Watcher> = list.iter().map(watcher).collect();
        let mut list = list;
        // SAFETY: it was filled by librbd, and its texts are freed once.
        unsafe { rbd_watchers_list_cleanup(list.as_mut_ptr(), list.len()) };
        let own = self.io.connection.client;
        Ok(watchers.into_iter().filter(|watcher| watcher.client != own).collect())
    }

    /// The bytes that the image's objects take.
    pub(super) fn used(&self) -> Outcome<u64> {
        let (size, mut used) = (self.size()?, 0u64);
        let (whole, no_parent) = (1, 0);
        let argument = (&raw mut used).cast::<c_void>();
        // SAFETY: the image is open, no snapshot is named, and the argument is the number that the
        // callback expects, which outlives the call.
        check(unsafe {
            rbd_diff_iterate2(self.image, null(), 0, size, no_parent, whole, add_extent, argument)
        })?;
        Ok(used)
    }

    /// Makes the image larger. Making it smaller is refused by librbd too.
    pub(super) fn grow(&self, size: ByteSize) -> Outcome<()> {
        // SAFETY: the image is open for writing, and the callback takes no argument.
        check(unsafe { rbd_resize2(self.image, size.bytes(), false, no_progress, null_mut()) })
            .map(drop)
    }

    /// The image, for librbd; alive as long as this is.
    pub(super) fn as_ptr(&self) -> rbd_image_t {
        self.image
    }

    fn stat(&self) -> Outcome<rbd_image_info_t> {
        // SAFETY: it is a plain C struct, for which all zeroes is a value.
        let mut stat: rbd_image_info_t = unsafe { zeroed() };
        // SAFETY: the image is open, and the struct as large as it is said to be.
        check(unsafe { rbd_stat(self.image, &raw mut stat, size_of_val(&stat)) })?;
        Ok(stat)
    }

    fn data_pool(&self, bits: u64) -> Outcome<Option<String>> {
        if bits & RBD_FEATURE_DATA_POOL == 0 {
            return Ok(None);
        }
        // SAFETY: the image is open.
        let pool = unsafe { rbd_get_data_pool_id(self.image) };
        self.io.connection.pool_name(pool).map(Some)
    }

    fn created(&self) -> Outcome<Option<Timestamp>> {
        // SAFETY: it is a plain C struct, for which all zeroes is a value.
        let mut created: libc::timespec = unsafe { zeroed() };
        // SAFETY: the image is open.
        check(unsafe { rbd_get_create_timestamp(self.image, &raw mut created) })?;
        let nanoseconds = i32::try_from(created.tv_nsec).unwrap_or(0);
        Ok(Timestamp::new(created.tv_sec, nanoseconds).ok().filter(|time| time.as_second() > 0))
    }
}

/// A callback for progress that nobody watches. librbd crashes where there is none.
pub(super) extern "C" fn no_progress(_done: u64, _total: u64, _argument: *mut c_void) -> c_int {
    0
}

/// Tells the [`Progress`] that `progress` points to. Nothing here can panic.
pub(super) extern "C" fn report(done: u64, total: u64, progress: *mut c_void) -> c_int {
    // SAFETY: the caller passes a pointer to one, which outlives the call.
    let progress = unsafe { *progress.cast::<Progress<'_>>() };
    progress(done, total);
    0
}

/// Adds an extent that exists to the number that `total` points to. Nothing here can panic.
extern "C" fn add_extent(_at: u64, length: usize, exists: c_int, total: *mut c_void) -> c_int {
    let total = total.cast::<u64>();
    // SAFETY: `Image::used` passes a pointer to a number that nothing else touches meanwhile.
    let total = unsafe { &mut *total };
    if exists != 0 {
        *total = total.saturating_add(length as u64);
    }
    0
}

/// Adds an extent that changed, also to nothing, as above.
pub(super) extern "C" fn add_changed(
    at: u64,
    length: usize,
    _exists: c_int,
    total: *mut c_void,
) -> c_int {
    add_extent(at, length, 1, total)
}

/// Fills a list by a function of librbd that says ERANGE, and how long it has to be, where it is
/// too short. What is read may grow in between, so this is repeated.
pub(super) fn grown<T>(
    length: usize,
    fill: impl Fn(&mut Vec<T>, *mut usize) -> c_int,
) -> Outcome<Vec<T>> {
    let mut length = length;
    loop {
        let mut list: Vec<T> = Vec::with_capacity(length);
        let mut filled = length;
        let code = fill(&mut list, &raw mut filled);
        if code != -libc::ERANGE {
            check(code)?;
            // SAFETY: librbd filled that many, which are no more than were offered.
            unsafe { list.set_len(filled.min(length)) };
            return Ok(list);
        }
        length = filled.max(length * 2);
    }
}

/// The text at `text`; empty where it is null.
///
/// # Safety
/// `text` is a C string or null.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
