//! `-o key=value`: what a volume can be asked to be, read once and kept as plain words.
//!
//! Options travel in three forms. *Given*: as a user wrote them, other plugins' names included.
//! *Canonical*: our names, values checked and written one way; this is what a record keeps, so that
//! a newer daemon's options survive an older one. *[`VolumeOptions`]*: typed, for use.
//!
//! An option that is not known is an error that lists the known ones, never ignored: a mistyped
//! `szie=100G` must not become a volume of the default size.

mod clone;
mod snapshots;
mod table;
mod typed;

use std::collections::BTreeMap;

use super::{ByteSize, SizeError, VolumeKind};
use table::{OPTIONS, OptionDef, find};

pub use snapshots::{SnapshotOptions, is_scheduled};
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
        let given = self.canonical(given)?;
        self.refuse_defaults()?;
        refuse_of_clones(&given)?;
        let kind = self.kind_of(&given)?;
        refuse_of_other_kinds(&given, kind)?;
        let adopted = ["image", "path"].into_iter().find(|name| given.contains_key(*name));
        let read_only = given.get("read-only").is_some_and(|value| value == "true");
        if let Some(adopted) = adopted {
            refuse_with_adopted(&given, adopted)?;
        } else if read_only {
            return Err(OptionError::Conflict(
                "a new volume cannot be read-only: nothing could ever be written to it; name \
                 what has data with image=pool/namespace/image, path= or from=VOLUME@SNAPSHOT, or \
                 leave read-only out"
                    .to_owned(),
            ));
        }
        snapshots::check_given(&given)?;
        let mut options = given.clone();
        // What is to become of another's data is never a matter of defaults.
        let decided = |def: &OptionDef| {
            let of_others = matches!(def.name, "on-remove" | "snapshot-schedule");
            def.name == "flatten" || (adopted.is_some() && (def.only_new || of_others))
        };
        self.fill(&mut options, kind, decided);
        snapshots::settle(&mut options, &given)?;
        let typed = VolumeOptions::from_canonical(&options)?;
        self.check(&typed, adopted.is_some())?;
        SnapshotOptions::from_canonical(&options)?;
        Ok(options)
    }

    /// Fills in the defaults for a volume of that kind, except those of options that are decided.
    fn fill(&self, options: &mut Options, kind: VolumeKind, decided: impl Fn(&OptionDef) -> bool) {
        let read_only = options.get("read-only").is_some_and(|value| value == "true");
        for (name, value) in &self.defaults {
            let def = find(name);
            let of_kind = def.is_none_or(|def| def.kind.is_none_or(|of| of == kind));
            let for_writers = matches!(name.as_str(), "snapshot-schedule" | "flatten");
            if of_kind && !def.is_some_and(&decided) && !(read_only && for_writers) {
                options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }

    /// Defaults would make every volume a clone of one, or remove files from all.
    fn refuse_defaults(&self) -> Result<(), OptionError> {
        match ["from", "keep-files"].into_iter().find(|name| self.defaults.contains_key(*name)) {
            Some(name) => Err(OptionError::Conflict(format!(
                "{name} is said of one volume, and cannot be a default for all new ones"
            ))),
            None => Ok(()),
        }
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

/// A volume that is to be made of another is never made empty.
fn refuse_of_clones(options: &Options) -> Result<(), OptionError> {
    if options.contains_key("from") {
        return Err(OptionError::Conflict(
            "from= makes a volume of another one, which is not possible here: use docker volume \
             create or docker ceph create"
                .to_owned(),
        ));
    }
    if options.contains_key("flatten") {
        return Err(OptionError::Conflict(
            "flatten is about a volume that is made of another one: give from= as well".to_owned(),
        ));
    }
    Ok(())
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
        format!("  {:<20} {:<28} {}{aliases}", def.name, def.value, def.help)
    };
    OPTIONS.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
