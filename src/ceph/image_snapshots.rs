//! The snapshots of an open image, by librbd.

use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};

use jiff::Timestamp;

use super::ImageSnapshot;
use super::connection::c_string;
use super::failure::{Outcome, check};
use super::ffi::rbd::*;
use super::image::{Image, add_changed, grown, no_progress, report, text};
use super::snapshots::Going;
use crate::progress::Progress;
use crate::volume::{ByteSize, ImageSpec, Location};

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody wished for it.
    User,
    /// It was removed, but something that was made of it needs it.
    Trash,
    /// A group or a mirror.
    Other,
}

impl Image<'_> {
    /// The snapshots that were made by somebody's wish, the oldest first.
    pub(super) fn snapshots(&self) -> Outcome<Vec<ImageSnapshot>> {
        let all = self.all_snapshots()?.into_iter();
        Ok(all.filter(|(kind, _)| *kind == Kind::User).map(|(_, snapshot)| snapshot).collect())
    }

    /// All snapshots, the oldest first, and what each is for.
    pub(super) fn all_snapshots(&self) -> Outcome<Vec<(Kind, ImageSnapshot)>> {
        let mut room: c_int = 64;
        loop {
            let mut list: Vec<rbd_snap_info_t> =
                Vec::with_capacity(usize::try_from(room).unwrap_or(64));
            // SAFETY: the image is open, and the array as long as is said; where it is too short,
            // the length becomes the one that is needed.
            let code = unsafe { rbd_snap_list(self.as_ptr(), list.as_mut_ptr(), &raw mut room) };
            if code == -libc::ERANGE {
                continue;
            }
            let count = usize::try_from(check(code)?).unwrap_or(0);
            // SAFETY: librbd filled that many, and one that ends the list after them.
            unsafe { list.set_len(count) };
            let all = list.iter().map(|info| self.snapshot(info)).collect();
            if count > 0 {
                // SAFETY: it was filled by librbd, and its texts are freed once.
                unsafe { rbd_snap_list_end(list.as_mut_ptr()) };
            }
            return all;
        }
    }

    fn snapshot(&self, info: &rbd_snap_info_t) -> Outcome<(Kind, ImageSnapshot)> {
        let mut kind: rbd_snap_namespace_type_t = 0;
        // SAFETY: it is a plain C struct, for which all zeroes is a value.
        let mut created: libc::timespec = unsafe { zeroed() };
        // SAFETY: the image is open, and what is set outlives the call.
        check(unsafe { rbd_snap_get_namespace_type(self.as_ptr(), info.id, &raw mut kind) })?;
        let kind = match kind {
            RBD_SNAP_NAMESPACE_TYPE_USER => Kind::User,
            RBD_SNAP_NAMESPACE_TYPE_TRASH => Kind::Trash,
            _ => Kind::Other,
        };
        // SAFETY: as above.
        check(unsafe { rbd_snap_get_timestamp(self.as_ptr(), info.id, &raw mut created) })?;
        let nanoseconds = i32::try_from(created.tv_nsec).unwrap_or(0);
        let created = Timestamp::new(created.tv_sec, nanoseconds).ok();
        let snapshot = ImageSnapshot {
            id: info.id,
            // SAFETY: librbd filled it with a C string, which is not yet freed.
            name: unsafe { text(info.name) },
            size: ByteSize(info.size),
            created: created.filter(|time| time.as_second() > 0),
        };
        Ok((kind, snapshot))
    }

    /// Makes a snapshot. EROFS where somebody holds the image's lock and gives it to nobody.
    pub(super) fn make_snapshot(&self, name: &str) -> Outcome<()> {
        let name = c_string(name)?;
        // SAFETY: the image is open for writing, and the callback takes no argument.
        check(unsafe { rbd_snap_create2(self.as_ptr(), name.as_ptr(), 0, no_progress, null_mut()) })
            .map(drop)
    }

    /// Removes a snapshot. EROFS as above.
    pub(super) fn remove_snapshot(&self, name: &str) -> Outcome<()> {
        let name = c_string(name)?;
        // SAFETY: as above.
        check(unsafe { rbd_snap_remove2(self.as_ptr(), name.as_ptr(), 0, no_progress, null_mut()) })
            .map(drop)
    }

    /// Removes a snapshot by its number, whatever it is for.
    pub(super) fn remove_snapshot_by_id(&self, id: u64) -> Outcome<()> {
        // SAFETY: the image is open for writing.
        check(unsafe { rbd_snap_remove_by_id(self.as_ptr(), id) }).map(drop)
    }

    /// Gives the image the content of a snapshot.
    pub(super) fn roll_back(&self, name: &str, progress: Progress<'_>) -> Outcome<()> {
        let (name, argument) = (c_string(name)?, (&raw const progress).cast_mut().cast());
        // SAFETY: the image is open for writing, and the argument is what the callback expects,
        // which outlives the call.
        check(unsafe {
            rbd_snap_rollback_with_progress(self.as_ptr(), name.as_ptr(), report, argument)
        })
        .map(drop)
    }

    /// Is there an object map here that nobody may go by?
    pub(super) fn has_invalid_map(&self) -> Outcome<bool> {
        let mut flags = 0u64;
        // SAFETY: the image is open, and what is set outlives the call.
        check(unsafe { rbd_get_flags(self.as_ptr(), &raw mut flags) })?;
        Ok(flags & (RBD_FLAG_OBJECT_MAP_INVALID | RBD_FLAG_FAST_DIFF_INVALID) != 0)
    }

    /// Makes the object map anew, by looking at every object.
    pub(super) fn rebuild_map(&self, progress: Progress<'_>) -> Outcome<()> {
        let argument = (&raw const progress).cast_mut().cast();
        // SAFETY: the image is open for writing, and the argument as above.
        check(unsafe { rbd_rebuild_object_map(self.as_ptr(), report, argument) }).map(drop)
    }

    /// Copies what the image has from its parent, so that it needs it no more.
    pub(super) fn flatten(&self, progress: Going<'_>) -> Outcome<()> {
        let argument = (&raw const progress).cast_mut().cast();
        // SAFETY: the image is open for writing, and the argument is what the callback expects,
        // which outlives the call.
        check(unsafe { rbd_flatten_with_progress(self.as_ptr(), told, argument) }).map(drop)
    }

    /// The bytes, in whole objects, that changed since a snapshot (`None`: all that is there).
    pub(super) fn changed(&self, since: Option<&str>) -> Outcome<u64> {
        let since = since.map(c_string).transpose()?;
        let since = since.as_ref().map_or(null(), |since| since.as_ptr());
        let (size, mut changed) = (self.size()?, 0u64);
        let (whole, with_parent) = (1, 1);
        let argument = (&raw mut changed).cast();
        // SAFETY: the image is open, the snapshot a C string or null, and the argument is the
        // number that the callback expects, which outlives the call.
        check(unsafe {
            rbd_diff_iterate2(
                self.as_ptr(),
                since,
                0,
                size,
                with_parent,
                whole,
                add_changed,
                argument,
            )
        })?;
        Ok(changed)
    }

    /// The images that were made of the snapshot at which this one is open.
    pub(super) fn children(&self) -> Outcome<Vec<ImageSpec>> {
        let mut list = grown(16, |buffer: &mut Vec<rbd_linked_image_spec_t>, count| {
            // SAFETY: the image is open, and the array as long as is said.
            unsafe { rbd_list_children3(self.as_ptr(), buffer.as_mut_ptr(), count) }
        })?;
        // SAFETY: librbd filled the list with C strings, which are copied, and then freed once.
        let children = list.iter().map(|image| unsafe { linked(image) }).collect();
        // SAFETY: as above.
        unsafe { rbd_linked_image_spec_list_cleanup(list.as_mut_ptr(), list.len()) };
        Ok(children)
    }

    /// The images that were made of a snapshot. The image is open at that one from then on.
    pub(super) fn children_of(&self, id: u64) -> Outcome<Vec<ImageSpec>> {
        // SAFETY: the image is open.
        check(unsafe { rbd_snap_set_by_id(self.as_ptr(), id) })?;
        self.children()
    }

    /// What the image was made of: the image, and its snapshot. ENOENT where of nothing.
    pub(super) fn parent(&self) -> Outcome<(ImageSpec, String)> {
        // SAFETY: they are plain C structs, for which all zeroes is a value.
        let (mut image, mut snap): (rbd_linked_image_spec_t, rbd_snap_spec_t) =
            unsafe { (zeroed(), zeroed()) };
        // SAFETY: the image is open, and what is set outlives the call.
        check(unsafe { rbd_get_parent(self.as_ptr(), &raw mut image, &raw mut snap) })?;
        // SAFETY: librbd filled both with C strings, which are copied, and then freed once.
        unsafe {
            let parent = (linked(&image), text(snap.name));
            rbd_linked_image_spec_cleanup(&raw mut image);
            rbd_snap_spec_cleanup(&raw mut snap);
            Ok(parent)
        }
    }
}

/// Hands progress on; a negative number calls the work off.
extern "C" fn told(done: u64, total: u64, argument: *mut c_void) -> c_int {
    // SAFETY: whoever passes this callback passes a pointer to one of these, which outlives the call.
    let progress = unsafe { &*argument.cast::<Going<'_>>() };
    // A panic must not go through librbd.
    let on = catch_unwind(AssertUnwindSafe(|| progress(done, total))).unwrap_or(false);
    if on { 0 } else { -libc::EBUSY }
}

/// # Safety
/// Its texts are C strings or null.
unsafe fn linked(image: &rbd_linked_image_spec_t) -> ImageSpec {
    // SAFETY: as promised by the caller.
    let (pool, namespace, name) =
        unsafe { (text(image.pool_name), text(image.pool_namespace), text(image.image_name)) };
    Location::new(pool, namespace).image(name)
}
