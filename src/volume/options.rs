//! `-o key=value`: what a volume can be asked to be, read once and kept as plain words.
//!
//! Options travel in three forms. *Given*: as a user wrote them, other plugins' names included.
//! *Canonical*: our names, values checked and written one way; this is what a record keeps, so that
//! a newer daemon's options survive an older one. *[`VolumeOptions`]*: typed, for use.
//!
//! An option that is not known is an error that lists the known ones, never ignored: a mistyped
//! `szie=100G` must not become a volume of the default size.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

use super::options_table::{OPTIONS, OptionDef, find};
use super::{
    ByteSize, CephFsClient, FolderPath, FsType, ImageSpec, MapperKind, RemovePolicy, SharedBy,
    SizeError, VolumeKind,
};

/// Options by their names.
pub type Options = BTreeMap<String, String>;

/// The smallest volume: XFS needs 300 MiB for itself, ext4 a few; 16 MiB is Ceph's and ours.
const SMALLEST: ByteSize = ByteSize::mib(16);

/// An option that cannot be used; the text says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("option {name:?} is not known; the options are {}", known_names())]
    Unknown {
        /// What was given.
        name: String,
    },
    /// A value that cannot be used.
    #[error("option {name}={value:?}: {reason}")]
    Value {
        /// Our name of the option.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// `-o help`: the table of options is the answer.
    #[error("options of a volume:\n{}", help())]
    Help,
}

/// How given options are read: what the settings say about them.
#[derive(Debug, Clone, Default)]
pub struct OptionRules {
    /// Canonical options for those that a new volume does not give.
    pub defaults: Options,
    /// The largest size that may be asked for.
    pub max_size: Option<ByteSize>,
    /// The unit of a size without one; `None`: refused.
    pub bare_size_unit: Option<char>,
}

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
}

impl OptionRules {
    /// Reads given options into canonical ones, without defaults.
    ///
    /// # Errors
    /// The first option that is unknown or whose value cannot be used.
    pub fn canonical(&self, given: &Options) -> Result<Options, OptionError> {
        let mut canonical = Options::new();
        for (name, value) in given {
            let (def, value) = self.read_one(name, value)?;
            let other = canonical.insert(def.name.to_owned(), value.clone());
            if let Some(other) = other.filter(|other| *other != value) {
                return Err(OptionError::Conflict(format!(
                    "option {} is given twice, as {other:?} and as {value:?}",
                    def.name
                )));
            }
        }
        Ok(canonical)
    }

    /// The canonical options of a new volume: the given ones, then the defaults. Checked as a whole.
    ///
    /// # Errors
    /// As [`OptionRules::canonical`], and where options do not go together.
    pub fn for_new_volume(&self, given: &Options) -> Result<Options, OptionError> {
        let mut options = self.canonical(given)?;
        let kind = self.kind_of(&options)?;
        refuse_of_other_kinds(&options, kind)?;
        let adopted = ["image", "path"].into_iter().find(|name| options.contains_key(*name));
        if let Some(adopted) = adopted {
            refuse_with_adopted(&options, adopted)?;
        } else if options.get("read-only").is_some_and(|value| value == "true") {
            return Err(OptionError::Conflict(
                "a new volume cannot be read-only: nothing could ever be written to it; name \
                 what has data with image=pool/namespace/image or path=, or leave read-only out"
                    .to_owned(),
            ));
        }
        let adopting = adopted.is_some();
        for (name, value) in &self.defaults {
            let def = find(name);
            // What is to become of another's data is never a matter of defaults.
            let for_adopted = name != "on-remove" && !def.is_some_and(|def| def.only_new);
            let of_kind = def.is_none_or(|def| def.kind.is_none_or(|of| of == kind));
            if of_kind && (!adopting || for_adopted) {
                options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        let typed = VolumeOptions::from_canonical(&options)?;
        self.check(&typed, adopting)?;
        Ok(options)
    }

    fn read_one(
        &self,
        name: &str,
        value: &str,
    ) -> Result<(&'static OptionDef, String), OptionError> {
        if name == "help" {
            return Err(OptionError::Help);
        }
        let Some(def) = find(name) else {
            return Err(OptionError::Unknown { name: name.to_owned() });
        };
        let refused =
            |reason: String| OptionError::Value { name: def.name, value: value.to_owned(), reason };
        if value.chars().any(char::is_control) {
            return Err(refused("control characters are not allowed".to_owned()));
        }
        let value = match (name, def.name) {
            ("order", _) => object_size_of_order(value).map_err(refused)?,
            (_, "size") => self.size(value).map_err(|error| refused(error.to_string()))?,
            _ => (def.read)(value).map_err(refused)?,
        };
        Ok((def, value))
    }

    fn size(&self, text: &str) -> Result<String, SizeError> {
        let size = match self.bare_size_unit {
            Some(unit) => ByteSize::parse_with_bare_unit(text, unit)?,
            None => text.parse()?,
        };
        Ok(format!("{}B", size.bytes()))
    }

    fn check(&self, options: &VolumeOptions, adopting: bool) -> Result<(), OptionError> {
        let refused = |size: ByteSize, reason: String| OptionError::Value {
            name: "size",
            value: size.to_string(),
            reason,
        };
        match (options.new_size(), self.max_size) {
            _ if adopting => {}
            (Some(size), _) if size < SMALLEST => {
                return Err(refused(size, format!("the smallest volume has {SMALLEST}")));
            }
            (Some(size), Some(max)) if size > max => {
                let reason = format!("at most {max} is allowed by the setting max-size");
                return Err(refused(size, reason));
            }
            (None, Some(max)) => {
                return Err(OptionError::Conflict(format!(
                    "a volume without a quota is refused by the setting max-size: give size= of at \
                     most {max}"
                )));
            }
            _ => {}
        }
        check_layout(options)
    }

    /// The kind that is asked for, by the options or the defaults.
    fn kind_of(&self, options: &Options) -> Result<VolumeKind, OptionError> {
        let asked = options.get("type").or_else(|| self.defaults.get("type"));
        let refused = |reason| OptionError::Conflict(reason);
        asked.map_or(Ok(VolumeKind::Rbd), |kind| kind.parse().map_err(refused))
    }
}

/// An option that would mean nothing is a misunderstanding.
fn refuse_of_other_kinds(options: &Options, kind: VolumeKind) -> Result<(), OptionError> {
    let of_other =
        |def: &&OptionDef| def.kind.is_some_and(|of| of != kind) && options.contains_key(def.name);
    match OPTIONS.iter().find(of_other) {
        Some(OptionDef { name, kind: Some(of), .. }) => Err(OptionError::Conflict(format!(
            "option {name} is for volumes of type={of}, and this one is of type={kind}"
        ))),
        _ => Ok(()),
    }
}

/// What is adopted is as it is: what would shape a new one is a misunderstanding.
fn refuse_with_adopted(options: &Options, adopted: &str) -> Result<(), OptionError> {
    // A folder of another volume is made if it is missing, and then belongs to somebody.
    let made = options.get("path").is_some_and(|path| !path.starts_with('/'));
    let owns = |name: &str| made && matches!(name, "uid" | "gid" | "mode");
    let shaping: Vec<&str> = OPTIONS
        .iter()
        .filter(|def| def.only_new && options.contains_key(def.name) && !owns(def.name))
        .map(|def| def.name)
        .collect();
    if shaping.is_empty() {
        return Ok(());
    }
    Err(OptionError::Conflict(format!(
        "{adopted}= makes a volume of what is there as it is, and does not go together with {}",
        shaping.join(", ")
    )))
}

fn check_layout(options: &VolumeOptions) -> Result<(), OptionError> {
    let object_size = options.object_size.unwrap_or(ByteSize::mib(4));
    let fits =
        |unit: ByteSize| unit.bytes() > 0 && object_size.bytes().is_multiple_of(unit.bytes());
    match options.stripes {
        Some((unit, _)) if !fits(unit) => Err(OptionError::Conflict(format!(
            "stripe-unit ({unit}) has to divide object-size ({object_size})"
        ))),
        _ => Ok(()),
    }
}

fn object_size_of_order(text: &str) -> Result<String, String> {
    match text.parse::<u32>() {
        Ok(order @ 12..=25) => Ok(format!("{}B", 1_u64 << order)),
        _ => Err("an order is a number from 12 (4 KiB objects) to 25 (32 MiB)".to_owned()),
    }
}

impl VolumeOptions {
    /// The size that a new volume gets; `None`: no quota.
    #[must_use]
    pub fn new_size(&self) -> Option<ByteSize> {
        match self.kind {
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
            trash_expiry: words.duration("trash-expiry"),
            mapper: words.typed("mapper")?,
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

    fn duration(&self, name: &str) -> Duration {
        let week = Duration::from_secs(7 * 24 * 3600);
        let read = |text: &String| text.parse::<SignedDuration>().ok()?.try_into().ok();
        self.0.get(name).and_then(read).unwrap_or(week)
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

fn known_names() -> String {
    OPTIONS.iter().map(|def| def.name).collect::<Vec<_>>().join(", ")
}

/// The table of options, for `-o help` and the documentation.
#[must_use]
pub fn help() -> String {
    let line = |def: &OptionDef| {
        let aliases = match def.aliases {
            [] => String::new(),
            aliases => format!(" (also: {})", aliases.join(", ")),
        };
        format!("  {:<14} {:<22} {}{aliases}", def.name, def.value, def.help)
    };
    OPTIONS.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn new_volume(pairs: &[(&str, &str)]) -> Result<VolumeOptions, OptionError> {
        let rules = OptionRules { max_size: Some(ByteSize::gib(100)), ..OptionRules::default() };
        VolumeOptions::from_canonical(&rules.for_new_volume(&given(pairs))?)
    }

    #[test]
    fn a_volume_without_options_is_ext4_of_10_gib_that_goes_to_the_trash() {
        let options = new_volume(&[]).expect("defaults");
        assert_eq!(options.new_size(), Some(ByteSize::gib(10)));
        assert_eq!(options.fs_type, FsType::Ext4);
        assert_eq!(options.on_remove, RemovePolicy::Trash);
        assert_eq!(options.trash_expiry, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn other_plugins_names_mean_the_same() {
        let options = new_volume(&[
            ("fstype", "xfs"),
            ("order", "23"),
            ("mkfsOptions", "-m reflink=0"),
            ("dataPool", "ec"),
            ("imageFeatures", "layering,exclusive-lock"),
        ])
        .expect("aliases");
        assert_eq!(options.fs_type, FsType::Xfs);
        assert_eq!(options.object_size, Some(ByteSize::mib(8)));
        assert_eq!(options.mkfs_options, ["-m", "reflink=0"]);
        assert_eq!(options.data_pool.as_deref(), Some("ec"));
        assert_eq!(options.features, ["layering", "exclusive-lock"]);
    }

    #[test]
    fn bad_options_say_what_is_wrong_and_what_is_allowed() {
        for (pairs, words) in [
            (&[("szie", "1G")][..], &["szie", "size", "fs-type"][..]),
            (&[("size", "0G")], &["smallest"]),
            (&[("size", "0")], &["0M", "0G"]),
            (&[("size", "-1")], &["-1", "10G"]),
            (&[("size", "10XB")], &["10XB", "10G"]),
            (&[("size", "200G")], &["100 GiB", "max-size"]),
            (&[("fs-type", "btrfs")], &["btrfs", "ext4, xfs"]),
            (&[("mode", "999")], &["octal"]),
            (&[("uid", "bob")], &["bob"]),
            (&[("stripe-unit", "64K")], &["stripe-count"]),
            (&[("stripe-unit", "3M"), ("stripe-count", "2")], &["divide"]),
            (&[("object-size", "3M")], &["power of two"]),
            (&[("image", "rbd/x"), ("size", "1G")], &["image=", "size"]),
            (&[("read-only", "true")], &["read-only", "image="]),
            (&[("read-only", "maybe")], &["true", "false"]),
            (&[("fstype", "xfs"), ("fs-type", "ext4")], &["twice"]),
            (&[("pool", "a/b")], &["a/b"]),
            (&[("mkfs-options", "/dev/sda")], &["/dev/sda"]),
            (&[("features", "layerng")], &["layerng", "layering"]),
            (&[("map-options", "queue_depth=8,share")], &["share", "driver"]),
            (&[("map-options", "secret=AQ==")], &["secret is the driver's"]),
            (&[("trash-expiry", "soon")], &["soon", "7d"]),
            (&[("type", "nfs")], &["nfs", "rbd, cephfs"]),
            (&[("path", "/a")], &["path", "type=cephfs"]),
            (&[("type", "cephfs"), ("fs-type", "xfs")], &["fs-type", "type=rbd"]),
            (&[("type", "cephfs")], &["quota", "100 GiB"]),
            (&[("type", "cephfs"), ("path", "/a/../b")], &["..", "VOLUME/folder"]),
            (&[("type", "cephfs"), ("path", "/a"), ("size", "1G")], &["path=", "size"]),
            (&[("type", "cephfs"), ("size", "1G"), ("access", "all")], &["shared, single"]),
            (&[("help", "")], &["size", "mkfs-options", "also:"]),
        ] {
            let error = new_volume(pairs).expect_err(&format!("{pairs:?} is refused")).to_string();
            for word in words {
                assert!(error.contains(word), "{pairs:?}: {error:?} lacks {word:?}");
            }
        }
    }

    #[test]
    fn a_given_option_stands_before_a_default() {
        let defaults = given(&[("fs-type", "xfs"), ("size", "1073741824B")]);
        let rules = OptionRules { defaults, ..OptionRules::default() };
        let options = rules.for_new_volume(&given(&[("size", "2G")])).expect("good options");
        assert_eq!(options, given(&[("fs-type", "xfs"), ("size", "2147483648B")]));
    }

    #[test]
    fn defaults_that_shape_a_new_image_are_not_for_an_adopted_one() {
        let defaults = given(&[("fs-type", "xfs"), ("discard", "true")]);
        let rules = OptionRules { defaults, ..OptionRules::default() };
        let options = rules.for_new_volume(&given(&[("image", "rbd/x")])).expect("good options");
        assert_eq!(options, given(&[("discard", "true"), ("image", "rbd/x")]));
    }
}
