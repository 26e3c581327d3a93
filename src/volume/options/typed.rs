//! Canonical options, typed for use.

use std::time::Duration;

use super::super::{
    ByteSize, CephFsClient, Flatten, FolderPath, FsType, ImageSpec, MapperKind, RemovePolicy,
    SharedBy, SizeError, SnapshotSpec, VolumeKind, duration,
};
use super::{OptionError, Options};

/// How long the trash keeps a volume that does not say.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a volume was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeOptions {
    /// Of which kind it is.
    pub kind: VolumeKind,
    /// The size of the image, or the quota of the folder.
    pub size: Option<ByteSize>,
    /// The pool, where it is not the home pool.
    pub pool: Option<String>,
    /// The RADOS namespace, where it is not the home namespace.
    pub namespace: Option<String>,
    /// The pool for the data, where it is not the image's own.
    pub data_pool: Option<String>,
    /// The image that the volume is to be made of, instead of a new one.
    pub image: Option<ImageSpec>,
    /// The file system, where there are several.
    pub fs: Option<String>,
    /// The subvolume group.
    pub group: Option<String>,
    /// The folder's data has a RADOS namespace of its own.
    pub isolated: bool,
    /// The folder that the volume is to be made of, instead of a new one.
    pub path: Option<FolderPath>,
    /// How many hosts may write the folder at once.
    pub access: SharedBy,
    /// The client of CephFS; `None`: the best that the host has.
    pub client: Option<CephFsClient>,
    /// Image features; empty: the cluster's default.
    pub features: Vec<String>,
    /// The size of the image's objects.
    pub object_size: Option<ByteSize>,
    /// Stripe unit and count.
    pub stripes: Option<(ByteSize, u64)>,
    /// The file system to make.
    pub fs_type: FsType,
    /// More arguments for mkfs.
    pub mkfs_options: Vec<String>,
    /// Mount options.
    pub mount_options: Vec<String>,
    /// Map options.
    pub map_options: Vec<String>,
    /// The owner of the volume's root folder.
    pub uid: Option<u32>,
    /// The group of the volume's root folder.
    pub gid: Option<u32>,
    /// The permission bits of the volume's root folder.
    pub mode: Option<u32>,
    /// Never written, and so attached by any number of hosts.
    pub read_only: bool,
    /// Cannot be removed.
    pub protected: bool,
    /// Mounted with `discard`: freed blocks go back to the cluster at once.
    pub discard: bool,
    /// What removing does.
    pub on_remove: RemovePolicy,
    /// How long the trash keeps it.
    pub trash_expiry: Duration,
    /// The mapper for this volume; `None`: the daemon's.
    pub mapper: Option<MapperKind>,
    /// What the volume is made of; `None`: it was empty, or is adopted.
    pub from: Option<SnapshotSpec>,
    /// When a clone stops sharing data with its origin.
    pub flatten: Flatten,
    /// How long files stay that nobody changes; `None`: for ever.
    pub keep_files: Option<Duration>,
}

impl VolumeOptions {
    /// The size that a new volume gets; `None`: no quota, or that of the origin.
    #[must_use]
    pub fn new_size(&self) -> Option<ByteSize> {
        match self.kind {
            _ if self.from.is_some() => self.size,
            VolumeKind::Rbd => Some(self.size.unwrap_or(ByteSize::gib(10))),
            VolumeKind::CephFs => self.size,
        }
    }

    /// Types canonical options. Options of a newer version are passed over.
    ///
    /// # Errors
    /// A value that is not canonical, or half of a pair.
    pub fn from_canonical(options: &Options) -> Result<Self, OptionError> {
        let words = Words(options);
        let stripes = match (words.typed::<Bytes>("stripe-unit")?, words.typed("stripe-count")?) {
            (Some(unit), Some(count)) => Some((unit.0, count)),
            (None, None) => None,
            _ => {
                return Err(OptionError::Conflict(
                    "stripe-unit and stripe-count go together: give both or neither".to_owned(),
                ));
            }
        };
        Ok(Self {
            kind: words.typed("type")?.unwrap_or(VolumeKind::Rbd),
            size: words.typed::<Bytes>("size")?.map(|bytes| bytes.0),
            pool: words.text("pool"),
            namespace: words.text("namespace"),
            data_pool: words.text("data-pool"),
            image: words.typed("image")?,
            fs: words.text("fs"),
            group: words.text("group"),
            isolated: words.0.get("isolated").is_none_or(|value| value != "false"),
            path: words.typed("path")?,
            access: words.typed("access")?.unwrap_or(SharedBy::Many),
            client: words.typed("client")?,
            features: words.list("features", ','),
            object_size: words.typed::<Bytes>("object-size")?.map(|bytes| bytes.0),
            stripes,
            fs_type: words.typed("fs-type")?.unwrap_or(FsType::Ext4),
            mkfs_options: words.list("mkfs-options", ' '),
            mount_options: words.list("mount-options", ','),
            map_options: words.list("map-options", ','),
            uid: words.typed("uid")?,
            gid: words.typed("gid")?,
            mode: words.text("mode").and_then(|mode| u32::from_str_radix(&mode, 8).ok()),
            read_only: words.flag("read-only"),
            protected: words.flag("protected"),
            discard: words.flag("discard"),
            on_remove: words.typed("on-remove")?.unwrap_or(RemovePolicy::Trash),
            trash_expiry: words.duration("trash-expiry").unwrap_or(WEEK),
            mapper: words.typed("mapper")?,
            from: words.typed("from")?,
            flatten: words.typed("flatten")?.unwrap_or_default(),
            keep_files: words.duration("keep-files"),
        })
    }
}

/// A size in its canonical form, a number of bytes.
struct Bytes(ByteSize);

impl std::str::FromStr for Bytes {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        text.parse().map(Self)
    }
}

struct Words<'a>(&'a Options);

impl Words<'_> {
    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "true")
    }

    fn list(&self, name: &str, separator: char) -> Vec<String> {
        let text = self.0.get(name).map(String::as_str).unwrap_or_default();
        text.split(separator).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.0.get(name).and_then(|text| duration::read(text))
    }

    fn typed<T: std::str::FromStr<Err: ToString>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, OptionError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|error: T::Err| OptionError::Value {
            name,
            value: value.clone(),
            reason: error.to_string(),
        })
    }
}
