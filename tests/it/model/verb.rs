//! The verbs as data, so that one can be made, made again, and made on another host.

use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::service::{ErrorKind, Service, VolumeError};
use docker_volume_ceph::volume::{ByteSize, FolderSpec, Options, Place, VolumeName};

use crate::sim::Record;

/// A call of the service.
#[derive(Debug, Clone)]
pub(super) enum Verb {
    Create {
        name: String,
        size: ByteSize,
    },
    Remove {
        name: String,
    },
    Mount {
        name: String,
        id: String,
    },
    Unmount {
        name: String,
        id: String,
    },
    Resize {
        name: String,
        size: ByteSize,
    },
    Undelete {
        name: String,
    },
    Protect {
        name: String,
        on: bool,
    },
    /// What is adopted holds one record.
    Adopt {
        name: String,
        place: Place,
        record: Record,
    },
}

/// What a verb answers: where the volume is, after a mount.
pub(super) type Answer = Result<Option<std::path::PathBuf>, VolumeError>;

impl Verb {
    /// The volume that it is about.
    pub(super) fn volume(&self) -> &str {
        match self {
            Self::Create { name, .. }
            | Self::Remove { name }
            | Self::Mount { name, .. }
            | Self::Unmount { name, .. }
            | Self::Resize { name, .. }
            | Self::Undelete { name }
            | Self::Protect { name, .. }
            | Self::Adopt { name, .. } => name,
        }
    }

    /// Makes the call.
    pub(super) fn call(&self, service: &Service, deadline: &Deadline) -> Answer {
        let name: VolumeName = self.volume().parse().expect("the tests' names are allowed");
        let id = |id: &str| id.parse().expect("the tests' IDs are allowed");
        match self {
            Self::Create { size, .. } => {
                let size = format!("{}B", size.bytes());
                let options = [("size".to_owned(), size)].into();
                service.create(&name, &options, deadline).map(|_| None)
            }
            Self::Remove { .. } => service.remove(&name, None, deadline).map(|()| None),
            Self::Mount { id: text, .. } => {
                let mounted = service.mount(&name, &id(text), deadline)?;
                Ok(Some(mounted.mountpoint))
            }
            Self::Unmount { id: text, .. } => {
                service.unmount(&name, &id(text), deadline).map(|()| None)
            }
            Self::Resize { size, .. } => service.resize(&name, *size, deadline).map(|_| None),
            Self::Undelete { .. } => service.undelete(&name, None, deadline).map(|_| None),
            Self::Protect { on, .. } => service.protect(&name, *on, deadline).map(|()| None),
            Self::Adopt { place: Place::Image(image), .. } => {
                service.adopt(&name, image, &Options::new(), deadline).map(|_| None)
            }
            Self::Adopt { place: Place::Folder(FolderSpec::Path(path)), .. } => {
                let options = [("path".to_owned(), path.path.clone())].into();
                service.create(&name, &options, deadline).map(|_| None)
            }
            Self::Adopt { place, .. } => panic!("{place} cannot be adopted"),
        }
    }

    /// Is this error to a repeat the same as success, because the first attempt did the work and
    /// its answer was lost?
    pub(super) fn was_done(&self, error: &VolumeError) -> bool {
        match self {
            Self::Remove { .. } => error.kind == ErrorKind::NotFound,
            Self::Undelete { .. } => {
                matches!(error.kind, ErrorKind::AlreadyExists | ErrorKind::NotFound)
            }
            _ => false,
        }
    }
}
