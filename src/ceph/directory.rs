//! The images of a pool and namespace: what is made, listed, moved and removed by name or ID.

use std::ffi::{CStr, c_int};
use std::mem::zeroed;
use std::ptr::null_mut;

use jiff::Timestamp;

use super::connection::c_string;
use super::failure::{Outcome, check};
use super::ffi::rbd::*;
use super::image::{grown, no_progress, text};
use super::io_context::IoContext;
use super::{ImageLayout, TrashedImage, features};

/// Makes an image. The layout's features are known, its object size is a power of two.
pub(super) fn create(io: &IoContext, name: &str, layout: &ImageLayout) -> Outcome<()> {
    let name = c_string(name)?;
    let options = ImageOptions::of(layout)?;
    // SAFETY: context and options are alive, the name is a C string.
    check(unsafe { rbd_create4(io.as_ptr(), name.as_ptr(), layout.size.bytes(), options.0) })
        .map(drop)
}

/// Removes an image for good.
pub(super) fn remove(io: &IoContext, name: &str) -> Outcome<()> {
    let name = c_string(name)?;
    // SAFETY: the context is alive, the name a C string, the callback takes no argument.
    check(unsafe { rbd_remove_with_progress(io.as_ptr(), name.as_ptr(), no_progress, null_mut()) })
        .map(drop)
}

/// The images' names.
pub(super) fn list(io: &IoContext) -> Outcome<Vec<String>> {
    let mut list = grown(256, |buffer: &mut Vec<rbd_image_spec_t>, count| {
        // SAFETY: the context is alive, and the array as long as is said.
        unsafe { rbd_list2(io.as_ptr(), buffer.as_mut_ptr(), count) }
    })?;
    // SAFETY: the list was filled by librbd; its texts are copied, and then freed once.
    let names = list.iter().map(|image| unsafe { text(image.name) }).collect();
    // SAFETY: as above.
    unsafe { rbd_image_spec_list_cleanup(list.as_mut_ptr(), list.len()) };
    Ok(names)
}

/// Moves an image to the trash, where it is kept for `seconds`.
pub(super) fn trash_move(io: &IoContext, name: &str, seconds: u64) -> Outcome<()> {
    let name = c_string(name)?;
    // SAFETY: the context is alive, the name a C string.
    check(unsafe { rbd_trash_move(io.as_ptr(), name.as_ptr(), seconds) }).map(drop)
}

/// The images that somebody moved to the trash. Those that are there while they are being removed
/// or migrated cannot be had back, and are left out.
pub(super) fn trash_list(io: &IoContext) -> Outcome<Vec<TrashedImage>> {
    let mut list = grown(64, |buffer: &mut Vec<rbd_trash_image_info_t>, count| {
        // SAFETY: the context is alive, and the array as long as is said.
        unsafe { rbd_trash_list(io.as_ptr(), buffer.as_mut_ptr(), count) }
    })?;
    let wanted = [RBD_TRASH_IMAGE_SOURCE_USER, RBD_TRASH_IMAGE_SOURCE_USER_PARENT];
    let images = list.iter().filter(|image| wanted.contains(&image.source)).map(trashed).collect();
    // SAFETY: the list was filled by librbd, and its texts are freed once.
    unsafe { rbd_trash_list_cleanup(list.as_mut_ptr(), list.len()) };
    Ok(images)
}

/// An image in the trash.
pub(super) fn trash_get(io: &IoContext, id: &str) -> Outcome<TrashedImage> {
    let id = c_string(id)?;
    // SAFETY: it is a plain C struct, for which all zeroes is a value.
    let mut info: rbd_trash_image_info_t = unsafe { zeroed() };
    // SAFETY: the context is alive, the ID a C string.
    check(unsafe { rbd_trash_get(io.as_ptr(), id.as_ptr(), &raw mut info) })?;
    let image = trashed(&info);
    // SAFETY: it was filled by librbd, and its texts are freed once.
    unsafe { rbd_trash_get_cleanup(&raw mut info) };
    Ok(image)
}

/// Removes an image in the trash for good; EPERM before its time is over.
pub(super) fn trash_remove(io: &IoContext, id: &str) -> Outcome<()> {
    let (id, force) = (c_string(id)?, false);
    // SAFETY: the context is alive, the ID a C string, the callback takes no argument.
    check(unsafe {
        rbd_trash_remove_with_progress(io.as_ptr(), id.as_ptr(), force, no_progress, null_mut())
    })
    .map(drop)
}

/// Takes an image out of the trash.
pub(super) fn trash_restore(io: &IoContext, id: &str, name: &str) -> Outcome<()> {
    let (id, name) = (c_string(id)?, c_string(name)?);
    // SAFETY: the context is alive, both are C strings.
    check(unsafe { rbd_trash_restore(io.as_ptr(), id.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Makes an image of a snapshot of another, by format 2: it needs no protection of the snapshot.
pub(super) fn clone(
    (parent_io, parent, snapshot): (&IoContext, &str, &str),
    io: &IoContext,
    name: &str,
    layout: &ImageLayout,
) -> Outcome<()> {
    let (parent, snapshot, name) = (c_string(parent)?, c_string(snapshot)?, c_string(name)?);
    let options = ImageOptions::of(layout)?;
    options.set(RBD_IMAGE_OPTION_CLONE_FORMAT, 2)?;
    let (from, to) = (parent_io.as_ptr(), io.as_ptr());
    // SAFETY: contexts and options are alive, the names are C strings.
    check(unsafe {
        rbd_clone3(from, parent.as_ptr(), snapshot.as_ptr(), to, name.as_ptr(), options.0)
    })
    .map(drop)
}

/// The namespaces of the context's pool.
pub(super) fn namespaces(io: &IoContext) -> Outcome<Vec<String>> {
    let list = grown(4096, |buffer: &mut Vec<u8>, length| {
        // SAFETY: the context is alive, and the buffer as long as is said.
        unsafe { rbd_namespace_list(io.as_ptr(), buffer.as_mut_ptr().cast(), length) }
    })?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// Is there a namespace of that name in the context's pool?
pub(super) fn has_namespace(io: &IoContext, name: &str) -> Outcome<bool> {
    let (name, mut exists) = (c_string(name)?, false);
    // SAFETY: the context is alive, the name a C string.
    check(unsafe { rbd_namespace_exists(io.as_ptr(), name.as_ptr(), &raw mut exists) })?;
    Ok(exists)
}

fn trashed(info: &rbd_trash_image_info_t) -> TrashedImage {
    let time = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    TrashedImage {
        // SAFETY: librbd filled the struct with C strings, which are not yet freed.
        id: unsafe { text(info.id) },
        // SAFETY: as above.
        name: unsafe { text(info.name) },
        deleted: time(info.deletion_time),
        kept_until: time(info.deferment_end_time),
    }
}

/// What librbd is told of a new image.
struct ImageOptions(rbd_image_options_t);

impl ImageOptions {
    fn of(layout: &ImageLayout) -> Outcome<Self> {
        let options = Self::new();
        if !layout.features.is_empty() {
            options.set(RBD_IMAGE_OPTION_FEATURES, features::bits(&layout.features)?)?;
        }
        if let Some(size) = layout.object_size {
            options.set(RBD_IMAGE_OPTION_ORDER, size.bytes().trailing_zeros().into())?;
        }
        if let Some((unit, count)) = layout.stripes {
            options.set(RBD_IMAGE_OPTION_STRIPE_UNIT, unit.bytes())?;
            options.set(RBD_IMAGE_OPTION_STRIPE_COUNT, count)?;
        }
        if let Some(pool) = &layout.data_pool {
            options.set_text(RBD_IMAGE_OPTION_DATA_POOL, &c_string(pool)?)?;
        }
        Ok(options)
    }

    fn new() -> Self {
        let mut options: rbd_image_options_t = null_mut();
        // SAFETY: it sets the pointer to options that are ours, and cannot fail.
        unsafe { rbd_image_options_create(&raw mut options) };
        Self(options)
    }

    fn set(&self, option: c_int, value: u64) -> Outcome<()> {
        // SAFETY: the options are alive.
        check(unsafe { rbd_image_options_set_uint64(self.0, option, value) }).map(drop)
    }

    fn set_text(&self, option: c_int, value: &CStr) -> Outcome<()> {
        // SAFETY: the options are alive, the value is a C string that is copied.
        check(unsafe { rbd_image_options_set_string(self.0, option, value.as_ptr()) }).map(drop)
    }
}

impl Drop for ImageOptions {
    fn drop(&mut self) {
        // SAFETY: the options are ours, and freed once.
        unsafe { rbd_image_options_destroy(self.0) }
    }
}
