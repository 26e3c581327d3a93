//! [`Snapshots`] by librbd, and past it where a kernel holds the image (decision 0021).
//!
//! A kernel that has mapped an image exclusively gives its lock to nobody, and librbd, which wants
//! the lock before it makes or removes a snapshot, is refused (EROFS). The lock is there for the
//! object map, which says what objects there are, and which would have to be copied. So where it
//! is refused, the map is declared invalid, and the header is changed as librbd changes that of an
//! image without a lock:
//!
//! ```text
//!  object map invalid ─▶ number from the data pool ─▶ map of the snapshot ─▶ header: snapshot
//!    ─▶ all who have it open: read the header ─▶ did all of them answer?
//! ```
//!
//! The removal of a snapshot changes what the next one's map has to say, so that it is declared
//! invalid as well. An invalid map is used by nobody; `rbd object-map rebuild` makes it anew, once
//! the image is not mapped. The snapshot's own map says that all objects are there, which is true
//! enough to read by, and without one librbd opens no image that was made of the snapshot. Whoever
//! writes without knowing of a snapshot writes into it, so one of which not all
//! writers know is removed again. Therefore a client that is silent is looked for first; it would
//! also have librbd break its lock, which is nothing that a snapshot may do.

use std::time::Duration;

use jiff::Timestamp;

use super::cluster::RadosCluster;
use super::encoding::encoded;
use super::failure::{Failure, Outcome};
use super::ffi::rbd::{RBD_FLAG_FAST_DIFF_INVALID, RBD_FLAG_OBJECT_MAP_INVALID};
use super::image::Image;
use super::image_snapshots::Kind;
use super::images::{header_of, named};
use super::io_context::IoContext;
use super::objects::found;
use super::{ClusterErrorKind, ImageInfo, ImageLayout, Result, directory, header, messages};
use crate::progress::Progress;
use crate::volume::{ByteSize, ImageSpec, Location};

/// How long all who have an image open may take to read its header again.
const HEARD: Duration = Duration::from_secs(5);

/// What stands for "no snapshot" in the header's flags.
const HEAD: u64 = u64::MAX - 1;

/// What the keys of metadata begin with in a header.
const METADATA: &str = "metadata_";

/// How often a snapshot gets a new number because somebody else's came between.
const NUMBERS: u32 = 3;

/// What an object map says of an object that may be there.
const OBJECT_EXISTS: u8 = 1;

/// How many metadata keys are read at once.
const PAGE: u64 = 256;

/// Hears how far a long call is, as [`Progress`], and says whether it is to go on.
pub type Going<'a> = &'a (dyn Fn(u64, u64) -> bool + Sync);

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSnapshot {
    /// Its number, which no other snapshot of the pool has or had.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The size that the image had.
    pub size: ByteSize,
    /// When it was made.
    pub created: Option<Timestamp>,
}

/// Snapshots of images, and what is made of them.
pub trait Snapshots: Send + Sync {
    /// Makes a snapshot, also of an image that is in use, and of one that a kernel holds. All who
    /// have it open know of it when this returns; else it is gone. `Exists`; `Busy` where a client
    /// that has it open does not answer.
    fn snapshot_create(&self, image: &ImageSpec, name: &str) -> Result<()>;

    /// The snapshots that somebody made, the oldest first. Never a watcher.
    fn snapshot_list(&self, image: &ImageSpec) -> Result<Vec<ImageSnapshot>>;

    /// Removes a snapshot. `NotFound`; `Busy` where something was made of it.
    fn snapshot_remove(&self, image: &ImageSpec, name: &str) -> Result<()>;

    /// The images that were made of a snapshot, and need it.
    fn snapshot_children(&self, image: &ImageSpec, name: &str) -> Result<Vec<ImageSpec>>;

    /// Gives the image the content and the size that it had; its other snapshots stay, and its object
    /// map is valid then. `Busy` while it is watched. Takes as long as copying what differs, and
    /// can be repeated where it was cut off.
    fn snapshot_rollback(
        &self,
        image: &ImageSpec,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<()>;

    /// The bytes that changed from a snapshot (`None`: from nothing) to another (`None`: until now),
    /// in whole objects.
    fn snapshot_changed(
        &self,
        image: &ImageSpec,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<ByteSize>;

    /// Makes an image of a snapshot, of the same size. It has its parent's metadata too. `Exists`.
    fn image_clone(
        &self,
        parent: &ImageSpec,
        snapshot: &str,
        child: &ImageSpec,
        layout: &ImageLayout,
    ) -> Result<()>;

    /// What an image was made of, and still needs: an image and its snapshot.
    fn image_parent(&self, image: &ImageSpec) -> Result<Option<(ImageSpec, String)>>;

    /// Copies what an image still needs of its parent, also while another client writes it. Takes as
    /// long as that; `Busy` where it was called off, and what is copied stays so.
    fn image_flatten(&self, image: &ImageSpec, progress: Going<'_>) -> Result<()>;

    /// The metadata whose keys begin with `prefix`.
    fn metadata_list(&self, image: &ImageSpec, prefix: &str) -> Result<Vec<(String, String)>>;

    /// Removes a metadata key, also while another host has the image open or locked. Success where
    /// it is gone.
    fn metadata_remove(&self, image: &ImageSpec, key: &str) -> Result<()>;

    /// Removes all snapshots of an image in the trash. `Busy` where something was made of one.
    fn trash_snapshots_remove(&self, at: &Location, id: &str) -> Result<()>;
}

impl Snapshots for RadosCluster {
    fn snapshot_create(&self, image: &ImageSpec, name: &str) -> Result<()> {
        self.on_image("make a snapshot of image", image, |io| {
            let header = header_of(io, image)?;
            all_hear(io, &header)?;
            let by_librbd = Image::open_for_writing(io, &image.image)?.make_snapshot(name);
            match by_librbd {
                Err(failure) if failure.errno == libc::EROFS => {
                    make_by_header(io, image, &header, name)
                }
                other => other,
            }
            .map_err(|failure| {
                let exists = || format!("there is a snapshot {name} already");
                failure.worded(ClusterErrorKind::Exists, exists)
            })
        })
    }

    fn snapshot_list(&self, image: &ImageSpec) -> Result<Vec<ImageSnapshot>> {
        self.on_image("list the snapshots of image", image, |io| {
            Image::open_read_only(io, &image.image)?.snapshots()
        })
    }

    fn snapshot_remove(&self, image: &ImageSpec, name: &str) -> Result<()> {
        self.on_image("remove a snapshot of image", image, |io| {
            let header = header_of(io, image)?;
            // librbd would only take its name away, and say that it is gone.
            no_children(name, &at_snapshot(io, image, name)?.children()?)?;
            all_hear(io, &header)?;
            let by_librbd = Image::open_for_writing(io, &image.image)?.remove_snapshot(name);
            match by_librbd {
                Err(failure) if failure.errno == libc::EROFS => {
                    remove_by_header(io, image, &header, name)
                }
                other => other,
            }
            .map_err(|failure| {
                let missing = || format!("there is no snapshot {name}");
                failure.worded(ClusterErrorKind::NotFound, missing)
            })
        })
    }

    fn snapshot_children(&self, image: &ImageSpec, name: &str) -> Result<Vec<ImageSpec>> {
        self.on_image("list what was made of a snapshot of image", image, |io| {
            at_snapshot(io, image, name)?.children()
        })
    }

    fn snapshot_rollback(
        &self,
        image: &ImageSpec,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<()> {
        self.on_image("roll back image", image, |io| {
            if !Image::open_read_only(io, &image.image)?.watchers()?.is_empty() {
                let failure = Failure::of_errno(libc::EBUSY);
                return Err(failure.worded(ClusterErrorKind::Busy, || "it is in use".to_owned()));
            }
            let invalid = at_snapshot(io, image, name)?.has_invalid_map()?;
            let open = Image::open_for_writing(io, &image.image)?;
            open.roll_back(name, progress).map_err(|failure| {
                let missing = || format!("there is no snapshot {name}");
                failure.worded(ClusterErrorKind::NotFound, missing)
            })?;
            // The image has the snapshot's map now, and its own flags.
            if invalid || open.has_invalid_map()? { open.rebuild_map(progress) } else { Ok(()) }
        })
    }

    fn snapshot_changed(
        &self,
        image: &ImageSpec,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<ByteSize> {
        self.on_image("compare snapshots of image", image, |io| {
            let open = match to {
                Some(to) => at_snapshot(io, image, to)?,
                None => Image::open_read_only(io, &image.image)?,
            };
            open.changed(from).map(ByteSize).map_err(|failure| {
                let missing = || format!("there is no snapshot {}", from.unwrap_or_default());
                failure.worded(ClusterErrorKind::NotFound, missing)
            })
        })
    }

    fn image_clone(
        &self,
        parent: &ImageSpec,
        snapshot: &str,
        child: &ImageSpec,
        layout: &ImageLayout,
    ) -> Result<()> {
        self.on_image("clone image", parent, |from| {
            let io = IoContext::open(&from.connection, &child.location)?;
            directory::clone((from, &parent.image, snapshot), &io, &child.image, layout).map_err(
                |failure| {
                    failure
                        .worded(ClusterErrorKind::Exists, || format!("there is an image {child}"))
                        .worded(ClusterErrorKind::NotFound, || {
                            format!(
                                "there is no snapshot {snapshot}, or no place {}",
                                child.location
                            )
                        })
                },
            )
        })
    }

    fn image_parent(&self, image: &ImageSpec) -> Result<Option<(ImageSpec, String)>> {
        self.on_image("find the parent of image", image, |io| {
            let open = Image::open_read_only(io, &image.image)?;
            found(|| open.parent())
        })
    }

    fn image_flatten(&self, image: &ImageSpec, progress: Going<'_>) -> Result<()> {
        self.on_image("flatten image", image, |io| {
            let open = Image::open_for_writing(io, &image.image)?;
            // librbd says EINVAL where there is nothing to do.
            match found(|| open.parent())? {
                Some(_) => open.flatten(progress),
                None => Ok(()),
            }
        })
    }

    fn metadata_list(&self, image: &ImageSpec, prefix: &str) -> Result<Vec<(String, String)>> {
        self.on_image("list metadata of image", image, |io| {
            let (header, prefix) = (header_of(io, image)?, format!("{METADATA}{prefix}"));
            // A page begins after a key, and the prefix can be a key itself.
            let whole = io.omap_get(&header, &prefix)?;
            let mut found: Vec<_> =
                whole.map(|value| (prefix.clone(), value)).into_iter().collect();
            let mut after = prefix.clone();
            loop {
                let page = io.omap_page(&header, &after, PAGE)?;
                let more = page.more;
                let fits = page.entries.len();
                found.extend(
                    page.entries.into_iter().take_while(|(key, _)| key.starts_with(&prefix)),
                );
                match found.last() {
                    Some((last, _)) if more && fits > 0 && *last > after => after.clone_from(last),
                    _ => break,
                }
            }
            let entry = |(key, value): (String, Vec<u8>)| {
                let value = String::from_utf8_lossy(&value).into_owned();
                (key[METADATA.len()..].to_owned(), value)
            };
            Ok(found.into_iter().map(entry).collect())
        })
    }

    fn metadata_remove(&self, image: &ImageSpec, key: &str) -> Result<()> {
        self.on_image("remove metadata of image", image, |io| {
            let header = header_of(io, image)?;
            found(|| io.call(&header, "rbd", "metadata_remove", &encoded(key))).map(drop)
        })
    }

    fn trash_snapshots_remove(&self, at: &Location, id: &str) -> Result<()> {
        self.in_context(at, "remove the snapshots of trashed image", at.image(id), |io| {
            directory::trash_get(io, id)
                .map_err(|failure| named(failure, io, at, "trashed image"))?;
            let reader = Image::open_by_id_read_only(io, id)?;
            let mut all = reader.all_snapshots()?;
            // One whose name somebody took away, because it has clones, needs them gone as well.
            all.retain(|(kind, _)| matches!(kind, Kind::User | Kind::Trash));
            for (_, snapshot) in &all {
                no_children(&snapshot.name, &reader.children_of(snapshot.id)?)?;
            }
            drop(reader);
            if all.is_empty() {
                return Ok(());
            }
            let open = Image::open_by_id_for_writing(io, id)?;
            all.iter().try_for_each(|(_, snapshot)| open.remove_snapshot_by_id(snapshot.id))
        })
    }
}

impl RadosCluster {
    /// Works on an image, and says what is missing where it is not there.
    fn on_image<T>(
        &self,
        call: &'static str,
        image: &ImageSpec,
        work: impl FnOnce(&IoContext) -> Outcome<T>,
    ) -> Result<T> {
        self.in_context(&image.location, call, image, |io| {
            work(io).map_err(|failure| match header::is_missing(io, &image.image) {
                Ok(true) => named(failure, io, &image.location, "image"),
                _ => failure,
            })
        })
    }
}

fn at_snapshot<'io>(io: &'io IoContext, image: &ImageSpec, name: &str) -> Outcome<Image<'io>> {
    Image::open_snapshot(io, &image.image, name).map_err(|failure| {
        failure.worded(ClusterErrorKind::NotFound, || format!("there is no snapshot {name}"))
    })
}

/// Refuses where something was made of the snapshot, and says what.
fn no_children(snapshot: &str, children: &[ImageSpec]) -> Outcome<()> {
    if children.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = children.iter().map(ToString::to_string).collect();
    let message = format!("snapshot {snapshot} has clones: {}", names.join(", "));
    Err(Failure { kind: ClusterErrorKind::Busy, errno: libc::EBUSY, message })
}

/// Has all who have the image open read its header again, and makes sure that they did.
fn all_hear(io: &IoContext, header: &str) -> Outcome<()> {
    let notified = messages::notify(io, header, b"", HEARD)?;
    match notified.silent.first() {
        None => Ok(()),
        Some((client, _)) => {
            let message = format!("client.{client} has it open and does not answer");
            Err(Failure { kind: ClusterErrorKind::Busy, errno: libc::EBUSY, message })
        }
    }
}

/// What librbd says EROFS for, other than a lock that is not given: an image that is written to
/// elsewhere, or whose changes somebody reads from a journal.
const NOT_BY_HEADER: [&str; 3] = ["non-primary", "journaling", "migrating"];

/// The image, if its header may be changed past librbd.
fn changeable(io: &IoContext, image: &ImageSpec) -> Outcome<ImageInfo> {
    let info = header::info(io, &image.image)?;
    let info = info.ok_or_else(|| Failure::unreadable("its header cannot be read"))?;
    match info.features.iter().find(|feature| NOT_BY_HEADER.contains(&feature.as_str())) {
        None => Ok(info),
        Some(feature) => {
            let message = format!("its lock is held, and it has the feature {feature}");
            Err(Failure { message, ..Failure::of_errno(libc::EROFS) })
        }
    }
}

/// An image whose header is changed without its lock.
struct Unlocked<'io> {
    io: &'io IoContext,
    header: &'io str,
    info: ImageInfo,
    /// Where the numbers of its snapshots come from: the pool of its data.
    data: IoContext,
}

impl<'io> Unlocked<'io> {
    fn open(io: &'io IoContext, image: &ImageSpec, header: &'io str) -> Outcome<Self> {
        let info = changeable(io, image)?;
        let pool = info.data_pool.clone().unwrap_or_else(|| image.location.pool.clone());
        let at = Location::new(pool, &image.location.namespace);
        let data = IoContext::open(&io.connection, &at)?;
        Ok(Self { io, header, info, data })
    }

    fn has_object_map(&self) -> bool {
        self.info.features.iter().any(|feature| feature == "object-map")
    }

    fn object_map(&self, id: u64) -> String {
        format!("rbd_object_map.{}.{id:016x}", self.info.id)
    }

    /// Declares the object map invalid of a snapshot, or of the image as it is now.
    fn forget_map(&self, of: u64) -> Outcome<()> {
        if !self.has_object_map() {
            return Ok(());
        }
        let invalid = RBD_FLAG_OBJECT_MAP_INVALID | RBD_FLAG_FAST_DIFF_INVALID;
        let flags = [invalid, invalid, of].map(u64::to_le_bytes).concat();
        self.io.call(self.header, "rbd", "set_flags", &flags)
    }

    fn make(&self, name: &str) -> Outcome<()> {
        self.forget_map(HEAD)?;
        let mut tries = 1;
        loop {
            let id = self.data.new_snapshot_id()?;
            // What is left of it is found by its name, and removed by whoever looks after it.
            match self.add(name, id).inspect_err(|_| drop(self.remove(id))) {
                // Somebody's later number came first.
                Err(failure) if failure.errno == libc::ESTALE && tries < NUMBERS => tries += 1,
                other => return other,
            }
        }
    }

    fn add(&self, name: &str, id: u64) -> Outcome<()> {
        if self.has_object_map() {
            let objects = self.info.size.bytes().div_ceil(self.info.object_size.bytes());
            let all = [&objects.to_le_bytes()[..], &[OBJECT_EXISTS]].concat();
            self.io.create(&self.object_map(id))?;
            self.io.call(&self.object_map(id), "rbd", "object_map_resize", &all)?;
        }
        let snapshot = [encoded(name), id.to_le_bytes().to_vec()].concat();
        self.io.call(self.header, "rbd", "snapshot_add", &snapshot)?;
        all_hear(self.io, self.header)
    }

    /// The number is given back only where the header certainly does not name it: else it would
    /// look like a snapshot, and have nothing in it.
    fn remove(&self, id: u64) -> Outcome<()> {
        found(|| self.io.call(self.header, "rbd", "snapshot_remove", &id.to_le_bytes()))?;
        if self.has_object_map() {
            self.io.remove(&self.object_map(id))?;
        }
        self.data.drop_snapshot_id(id)?;
        // It is gone, and whoever does not know it yet does no harm.
        let _ = messages::notify(self.io, self.header, b"", HEARD);
        Ok(())
    }
}

fn make_by_header(io: &IoContext, image: &ImageSpec, header: &str, name: &str) -> Outcome<()> {
    Unlocked::open(io, image, header)?.make(name)
}

fn remove_by_header(io: &IoContext, image: &ImageSpec, header: &str, name: &str) -> Outcome<()> {
    let all = Image::open_read_only(io, &image.image)?.all_snapshots()?;
    let named = all.iter().position(|(kind, of)| *kind == Kind::User && of.name == name);
    let at = named.ok_or_else(|| Failure::of_errno(libc::ENOENT))?;
    let (id, next) = (all[at].1.id, all.get(at + 1).map_or(HEAD, |(_, next)| next.id));
    let image = Unlocked::open(io, image, header)?;
    image.forget_map(next)?;
    image.remove(id)
}
