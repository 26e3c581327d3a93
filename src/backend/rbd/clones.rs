//! Clones of images: of format 2, which need no protection of the snapshot.

use super::super::{BackendError, Cloning, Copied, Result};
use super::{NOTE_PREFIX, RbdBackend};
use crate::ceph::{ClusterErrorKind, Going, ImageLayout};
use crate::volume::{ImageSpec, SnapshotName, VolumeOptions};

/// More than anybody makes on purpose: each is another place to look at for what is read.
const DEEPEST: usize = 64;

impl Cloning<ImageSpec> for RbdBackend {
    fn clone_of(
        &self,
        origin: &ImageSpec,
        snapshot: &SnapshotName,
        to: &ImageSpec,
        options: &VolumeOptions,
    ) -> Result<()> {
        let info = self.cluster.image_info(origin)?;
        if !info.features.iter().any(|feature| feature == "layering") {
            return Err(BackendError::Invalid(format!(
                "image {origin} lacks the feature layering, without which nothing is made of it"
            )));
        }
        // Features and the size of objects are its parent's where nothing is said of them.
        let (stripes, data_pool) = (options.stripes, options.data_pool.clone());
        let layout = ImageLayout { stripes, data_pool, ..ImageLayout::default() };
        match self.cluster.image_clone(origin, snapshot.as_str(), to, &layout) {
            Err(error) if error.kind == ClusterErrorKind::Exists => {
                self.refuse_anothers(origin, snapshot, to)?;
            }
            other => other?,
        }
        // It has its parent's metadata, notes of the parent's snapshots included.
        for (key, _) in self.cluster.metadata_list(to, NOTE_PREFIX)? {
            self.cluster.metadata_remove(to, &key)?;
        }
        Ok(())
    }

    fn copied(&self, _: &ImageSpec) -> Result<Copied> {
        Ok(Copied::Whole)
    }

    fn abandon(&self, _: &ImageSpec) -> Result<()> {
        Ok(())
    }

    fn depth(&self, location: &ImageSpec) -> Result<usize> {
        let mut at = location.clone();
        for depth in 0..DEEPEST {
            match self.cluster.image_parent(&at) {
                Ok(Some((parent, _))) => at = parent,
                Ok(None) => return Ok(depth),
                // What is in the trash is not asked by its name.
                Err(error) if error.kind == ClusterErrorKind::NotFound && depth > 0 => {
                    return Ok(depth);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(DEEPEST)
    }

    fn flatten(&self, location: &ImageSpec, progress: Going<'_>) -> Result<()> {
        Ok(self.cluster.image_flatten(location, progress)?)
    }
}

impl RbdBackend {
    /// Refuses an image that was not made of that snapshot.
    fn refuse_anothers(
        &self,
        origin: &ImageSpec,
        snapshot: &SnapshotName,
        there: &ImageSpec,
    ) -> Result<()> {
        match self.cluster.image_parent(there)? {
            Some((parent, of)) if parent == *origin && of == snapshot.as_str() => Ok(()),
            _ => Err(BackendError::Conflict(format!(
                "there is an image {there} already, which was not made of {origin}@{snapshot}, so \
                 it is none of ours"
            ))),
        }
    }
}
