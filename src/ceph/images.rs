//! [`Images`] by librbd.
//!
//! Metadata is the exception: it is set by the same method of the header object's class (`rbd`)
//! that librbd calls. librbd would open the image for writing, and so appear to other hosts as
//! its holder, and would first ask the real holder for the exclusive lock: a kernel that mapped
//! the image exclusively refuses that, and any other is held up by it.

use std::time::Duration;

use jiff::Timestamp;

use super::access::whole_seconds;
use super::cluster::RadosCluster;
use super::failure::{Failure, Outcome};
use super::image::Image;
use super::io_context::IoContext;
use super::objects::found;
use super::{
    ClusterErrorKind, ImageInfo, ImageLayout, Images, Result, TrashedImage, Watcher, directory,
    header,
};
use crate::volume::{ByteSize, ImageSpec, Location};

/// The trash's object. Images are also removed by way of it; where it cannot be made, because the
/// pool is full, librbd says that there is no such image. So it is made before the first image is,
/// and a full pool can be cleared.
const TRASH: &str = "rbd_trash";

impl Images for RadosCluster {
    fn image_create(&self, image: &ImageSpec, layout: &ImageLayout) -> Result<()> {
        self.in_context(&image.location, "create image", image, |io| {
            check_layout(layout)?;
            if let Some(pool) = &layout.data_pool {
                io.connection.pool(pool)?;
            }
            if found(|| io.head(TRASH, 1))?.is_none() {
                io.create(TRASH)?;
            }
            directory::create(io, &image.image, layout)
                .map_err(|failure| named(failure, io, &image.location, "image"))
                .map_err(|failure| {
                    failure.worded(ClusterErrorKind::Exists, || "there is one already".to_owned())
                })
        })
    }

    fn image_info(&self, image: &ImageSpec) -> Result<ImageInfo> {
        self.in_context(&image.location, "read image", image, |io| {
            if let Some(info) = header::info(io, &image.image)? {
                return Ok(info);
            }
            let named = |failure| named(failure, io, &image.location, "image");
            if header::is_missing(io, &image.image)? {
                return Err(named(Failure::of_errno(libc::ENOENT)));
            }
            Image::open_read_only(io, &image.image).map_err(named)?.info()
        })
    }

    fn image_list(&self, at: &Location) -> Result<Vec<String>> {
        self.in_context(at, "list images of", at, |io| {
            let names = directory::list(io)?;
            // Where there is no such namespace, there is just no image.
            if names.is_empty() && is_missing(io, &at.namespace) {
                return Err(no_namespace(at));
            }
            Ok(names)
        })
    }

    fn image_resize(&self, image: &ImageSpec, size: ByteSize) -> Result<()> {
        self.in_context(&image.location, "resize image", image, |io| {
            let named = |failure| named(failure, io, &image.location, "image");
            let open = Image::open_for_writing(io, &image.image).map_err(named)?;
            let now = open.size()?;
            if size.bytes() < now {
                let now = ByteSize(now);
                return Err(Failure::invalid(format!("it is {now}, and is never made smaller")));
            }
            open.grow(size)
        })
    }

    fn image_used(&self, image: &ImageSpec) -> Result<ByteSize> {
        self.read_image(image, "measure image", |image| image.used().map(ByteSize))
    }

    fn image_remove(&self, image: &ImageSpec) -> Result<()> {
        self.in_context(&image.location, "remove image", image, |io| {
            directory::remove(io, &image.image)
                .map_err(|failure| really(failure, io, image))
                .map_err(still_used)
        })
    }

    fn metadata_get(&self, image: &ImageSpec, key: &str) -> Result<Option<String>> {
        self.read_image(image, "read metadata of image", |image| found(|| image.metadata(key)))
    }

    fn metadata_set(&self, image: &ImageSpec, key: &str, value: &str) -> Result<()> {
        self.in_context(&image.location, "set metadata of image", image, |io| {
            let header = header_of(io, image)?;
            io.call(&header, "rbd", "metadata_set", &one_entry(key, value)?)
        })
    }

    fn watchers(&self, image: &ImageSpec) -> Result<Vec<Watcher>> {
        self.read_image(image, "list watchers of image", |image| image.watchers())
    }

    fn trash_move(&self, image: &ImageSpec, keep: Duration) -> Result<()> {
        self.in_context(&image.location, "move to the trash image", image, |io| {
            let named = |failure| named(failure, io, &image.location, "image");
            // Unlike the removal of an image, librbd moves one that is being written to as well.
            let open = Image::open_read_only(io, &image.image).map_err(named)?;
            if !open.watchers()?.is_empty() {
                return Err(still_used(Failure::of_errno(libc::EBUSY)));
            }
            drop(open);
            directory::trash_move(io, &image.image, whole_seconds(keep))
                .map_err(|failure| really(failure, io, image))
                .map_err(still_used)
        })
    }

    fn trash_list(&self, at: &Location) -> Result<Vec<TrashedImage>> {
        self.in_context(at, "list the trash of", at, directory::trash_list)
    }

    fn trash_metadata_get(&self, at: &Location, id: &str, key: &str) -> Result<Option<String>> {
        self.in_context(at, "read metadata of trashed image", at.image(id), |io| {
            let image = Image::open_by_id_read_only(io, id);
            let image = image.map_err(|failure| named(failure, io, at, "trashed image"))?;
            found(|| image.metadata(key))
        })
    }

    fn trash_restore(&self, at: &Location, id: &str, name: &str) -> Result<()> {
        self.in_context(at, "restore from the trash image", at.image(id), |io| {
            directory::trash_restore(io, id, name)
                .map_err(|failure| named(failure, io, at, "trashed image"))
                .map_err(|failure| {
                    failure
                        .worded(ClusterErrorKind::Exists, || format!("there is an image {name:?}"))
                })
        })
    }

    fn trash_remove(&self, at: &Location, id: &str) -> Result<()> {
        self.in_context(at, "remove from the trash image", at.image(id), |io| {
            let named = |failure| named(failure, io, at, "trashed image");
            let image = directory::trash_get(io, id).map_err(named)?;
            // librbd says EPERM for this, which is also what it says where the key may not.
            if image.kept_until > Timestamp::now() {
                let message = format!("it is kept until {}", image.kept_until);
                return Err(Failure { kind: ClusterErrorKind::Busy, errno: 0, message });
            }
            directory::trash_remove(io, id).map_err(named).map_err(still_used)
        })
    }
}

impl RadosCluster {
    /// Does `work` on an image that is open for reading.
    fn read_image<T>(
        &self,
        image: &ImageSpec,
        call: &'static str,
        work: impl FnOnce(&Image<'_>) -> Outcome<T>,
    ) -> Result<T> {
        self.in_context(&image.location, call, image, |io| {
            let open = Image::open_read_only(io, &image.image);
            work(&open.map_err(|failure| named(failure, io, &image.location, "image"))?)
        })
    }
}

/// The header object of an image that has to be there.
pub(super) fn header_of(io: &IoContext, image: &ImageSpec) -> Outcome<String> {
    header::object_of(io, &image.image)
        .map_err(|failure| named(failure, io, &image.location, "image"))
}

/// A map of one entry in Ceph's encoding.
fn one_entry(key: &str, value: &str) -> Outcome<Vec<u8>> {
    let mut bytes = 1u32.to_le_bytes().to_vec();
    for text in [key, value] {
        let length = u32::try_from(text.len()).map_err(|_| Failure::invalid("it is too long"))?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    Ok(bytes)
}

fn check_layout(layout: &ImageLayout) -> Outcome<()> {
    match layout.object_size {
        Some(size) if !size.bytes().is_power_of_two() => {
            Err(Failure::invalid(format!("the object size {size} is not a power of two")))
        }
        _ => Ok(()),
    }
}

/// Says what it is that was not found: the image, or already its namespace.
pub(super) fn named(failure: Failure, io: &IoContext, at: &Location, what: &str) -> Failure {
    if failure.kind != ClusterErrorKind::NotFound {
        return failure;
    }
    if is_missing(io, &at.namespace) {
        return no_namespace(at);
    }
    failure.worded(ClusterErrorKind::NotFound, || format!("there is no such {what}"))
}

/// What an image's removal failed for, if librbd says that there is none: that is also what it
/// says where it could not put the image into the trash.
fn really(failure: Failure, io: &IoContext, image: &ImageSpec) -> Failure {
    if failure.kind != ClusterErrorKind::NotFound {
        return failure;
    }
    match header_of(io, image).and_then(|_| io.create(TRASH)) {
        Ok(()) => Failure::unreadable("librbd does not find it, but it is there; try again"),
        Err(failure) => failure,
    }
}

/// Is it certain that there is no such namespace? Many keys may not look.
fn is_missing(io: &IoContext, namespace: &str) -> bool {
    !namespace.is_empty() && matches!(directory::has_namespace(io, namespace), Ok(false))
}

fn no_namespace(at: &Location) -> Failure {
    let Location { pool, namespace } = at;
    let message = format!(
        "there is no namespace {namespace:?} in pool {pool:?}; `rbd namespace create \
         {pool}/{namespace}` makes it"
    );
    Failure { message, ..Failure::of_errno(libc::ENOENT) }
}

fn still_used(failure: Failure) -> Failure {
    failure
        .worded(ClusterErrorKind::Busy, || "somebody has it open; see `rbd status`".to_owned())
        .worded(ClusterErrorKind::NotEmpty, || {
            "it has snapshots, clones or a group; see `rbd snap ls`, `rbd children`".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metadata_entry_is_encoded_as_a_map_of_one() {
        let bytes = one_entry("k", "value").expect("short enough");
        assert_eq!(bytes, b"\x01\0\0\0\x01\0\0\0k\x05\0\0\0value");
    }

    #[test]
    fn an_object_size_is_a_power_of_two() {
        let with = |size| ImageLayout { object_size: Some(size), ..ImageLayout::default() };
        check_layout(&with(ByteSize::mib(4))).expect("a power of two");
        check_layout(&ImageLayout::default()).expect("the cluster's choice");
        for bytes in [0, 3 << 20] {
            let failure = check_layout(&with(ByteSize(bytes))).expect_err("not a power of two");
            assert_eq!(failure.kind, ClusterErrorKind::Invalid);
        }
    }
}
