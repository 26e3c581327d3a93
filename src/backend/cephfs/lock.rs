//! A volume with one writing host is held like an image: by holding an image.
//!
//! CephFS tells nobody which hosts have a folder mounted, nor whether they still live. An image
//! does: who has it mapped watches it, answers when it is asked, and can be fenced. So beside a
//! folder of `access=single` a small image is mapped on the host that writes it, and everything that
//! is judged about an image's holder is judged about this one.
//!
//! ```text
//!  attach   image made if it is missing ─▶ mapped ─▶ folder mounted ─▶ the clients of both claimed
//!  detach   folder unmounted ─▶ image unmapped
//!  fence    the clients of both ─▶ a write to the image's header
//! ```
//!
//! The kernel or a process holds it, as any image, and so does a daemon's end not let it go. Nothing
//! is ever written in it.

use super::super::{AttachRequest, Attaching, Attachment, Result};
use super::CephFsBackend;
use super::key::client_id;
use crate::ceph::{ClusterErrorKind, ImageLayout};
use crate::deadline::Deadline;
use crate::system::MappedDevice;
use crate::volume::{ByteSize, FolderSpec, ImageSpec};

/// What the images' names begin with: no volume is called so.
pub(in super::super) const PREFIX: &str = ".lock.";

impl CephFsBackend {
    /// The image that is held for a folder.
    pub(super) fn lock_of(&self, place: &FolderSpec) -> ImageSpec {
        self.home.image(format!("{PREFIX}{}", client_id(place, false)))
    }

    /// Holds the image for this host. Where another one holds it, that is an error that may pass.
    pub(super) fn hold(
        &self,
        request: &AttachRequest<FolderSpec>,
        deadline: &Deadline,
    ) -> Result<Attachment<MappedDevice>> {
        let AttachRequest { location, target, options, .. } = request.clone();
        let location = self.lock_of(&location);
        let layout = ImageLayout {
            size: ByteSize::mib(1),
            features: vec!["layering".to_owned(), "exclusive-lock".to_owned()],
            ..ImageLayout::default()
        };
        match self.cluster.image_create(&location, &layout) {
            Err(error) if error.kind != ClusterErrorKind::Exists => return Err(error.into()),
            _ => {}
        }
        let image = AttachRequest { location, read_only: false, target, options };
        self.images.attach(&image, deadline)
    }

    /// The images that are held here for a folder: one, or none.
    pub(super) fn held(&self, place: &FolderSpec) -> Result<Vec<MappedDevice>> {
        if is_snapshot(place) {
            return Ok(Vec::new());
        }
        let lock = self.lock_of(place);
        Ok(self.system.mapped()?.into_iter().filter(|device| device.image == lock).collect())
    }

    /// Lets go of the image. Success where it is not held.
    pub(super) fn let_go(&self, place: &FolderSpec, deadline: &Deadline) -> Result<()> {
        self.held(place)?.iter().try_for_each(|device| self.images.detach(device, deadline))
    }

    /// Removes the image with its volume.
    pub(super) fn drop_lock(&self, place: &FolderSpec) -> Result<()> {
        match self.cluster.image_remove(&self.lock_of(place)) {
            Err(error) if error.kind != ClusterErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// A snapshot is written by nobody, and held by none: the image of that name is its volume's.
pub(super) fn is_snapshot(place: &FolderSpec) -> bool {
    matches!(place, FolderSpec::Snapshot { .. })
}
