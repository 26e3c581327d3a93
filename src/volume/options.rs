//! `-o key=value`: what a volume can be asked to be, read once and kept as plain words.
//!
//! Options travel in three forms. *Given*: as a user wrote them, other plugins' names included.
//! *Canonical*: our names, values checked and written one way; this is what a record keeps, so that
//! a newer daemon's options survive an older one. *[`VolumeOptions`]*: typed, for use.
//!
//! An option that is not known is an error that lists the known ones, never ignored: a mistyped
//! `szie=100G` must not become a volume of the default size.

mod table;
mod typed;

use std::collections::BTreeMap;

use super::{ByteSize, SizeError, VolumeKind};
use table::{OPTIONS, OptionDef, find};

pub use typed::VolumeOptions;

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
    use std::time::Duration;

    use super::super::{FsType, RemovePolicy};
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
