//! `-o from=VOLUME[@SNAPSHOT]`: the options of a volume that is made of another's data.
//!
//! A clone takes its kind, its file system and its layout from its origin, and the settings'
//! defaults for these are passed over. What was asked of the origin's use (mount options,
//! protection, a schedule) is not taken: it is given anew, or comes from the defaults.

use super::super::{Record, SnapshotSpec};
use super::table::{OPTIONS, OptionDef};
use super::{OptionError, OptionRules, Options, VolumeOptions};
use super::{refuse_of_other_kinds, snapshots};

/// What a clone takes from the options of its origin.
const TAKEN: [&str; 15] = [
    "fs-type",
    "pool",
    "namespace",
    "data-pool",
    "features",
    "object-size",
    "stripe-unit",
    "stripe-count",
    "fs",
    "group",
    "isolated",
    // Of what may never have been mounted.
    "mkfs-options",
    "uid",
    "gid",
    "mode",
];

impl OptionRules {
    /// What the volume is to be made of, where it is asked for: the options are then those of
    /// [`OptionRules::for_clone`].
    ///
    /// # Errors
    /// The value cannot be read.
    pub fn origin_of(&self, given: &Options) -> Result<Option<SnapshotSpec>, OptionError> {
        let Some(text) = given.get("from") else { return Ok(None) };
        let given = Options::from([("from".to_owned(), text.clone())]);
        Ok(VolumeOptions::from_canonical(&self.canonical(&given)?)?.from)
    }

    /// The canonical options of a volume that is made of another or of a snapshot of it, which is
    /// `origin`. Checked as a whole.
    ///
    /// # Errors
    /// As [`OptionRules::for_new_volume`], and where something is asked for that the origin decides.
    pub fn for_clone(&self, given: &Options, origin: &Record) -> Result<Options, OptionError> {
        let given = self.canonical(given)?;
        self.refuse_defaults()?;
        let mut options = given.clone();
        refuse_of_another_kind(&options, origin)?;
        refuse_of_origin(&options)?;
        snapshots::check_given(&options)?;
        options.insert("type".to_owned(), origin.kind.as_str().to_owned());
        for name in TAKEN {
            if let Some(value) = origin.options.get(name) {
                options.insert(name.to_owned(), value.clone());
            }
        }
        // "The only one" may not be the only one any more.
        if let Some(fs) = origin.location.fs() {
            options.insert("fs".to_owned(), fs.to_owned());
        }
        let decided = |def: &OptionDef| is_origins(def) || def.name == "size";
        self.fill(&mut options, origin.kind, decided);
        snapshots::settle(&mut options, &given)?;
        let typed = VolumeOptions::from_canonical(&options)?;
        self.check_clone(&typed, origin)?;
        snapshots::SnapshotOptions::from_canonical(&options)?;
        Ok(options)
    }

    fn check_clone(&self, options: &VolumeOptions, origin: &Record) -> Result<(), OptionError> {
        let Some(from) = &options.from else {
            return Err(OptionError::Conflict("from= is missing".to_owned()));
        };
        if options.read_only && from.snapshot.is_none() {
            return Err(OptionError::Conflict(format!(
                "from={from} with read-only would show what {from} is at some moment: make a \
                 snapshot (docker ceph snapshot create {from} NAME), and give from={from}@NAME"
            )));
        }
        let Some(size) = options.size else { return Ok(()) };
        let refused =
            |reason| Err(OptionError::Value { name: "size", value: size.to_string(), reason });
        match self.max_size {
            Some(max) if size > max => {
                refused(format!("at most {max} is allowed by the setting max-size"))
            }
            _ if size < origin.size => {
                refused(format!("{from} has {}, and a clone only grows", origin.size))
            }
            _ => Ok(()),
        }
    }
}

/// Does the origin decide it?
fn is_origins(def: &OptionDef) -> bool {
    let asked = matches!(def.name, "size" | "from" | "flatten");
    (def.only_new && !asked) || matches!(def.name, "type" | "fs" | "image" | "path")
}

fn refuse_of_another_kind(options: &Options, origin: &Record) -> Result<(), OptionError> {
    let kind = origin.kind;
    match options.get("type") {
        Some(asked) if asked != kind.as_str() => Err(OptionError::Conflict(format!(
            "type={asked} does not go together with from=: the origin is of type={kind}, and so is \
             a clone of it"
        ))),
        _ => refuse_of_other_kinds(options, kind),
    }
}

fn refuse_of_origin(options: &Options) -> Result<(), OptionError> {
    let given = |def: &&OptionDef| options.contains_key(def.name);
    let refused: Vec<&str> = OPTIONS
        .iter()
        .filter(given)
        .filter(|def| is_origins(def) && def.name != "type")
        .map(|def| def.name)
        .collect();
    if !refused.is_empty() {
        return Err(OptionError::Conflict(format!(
            "from= takes kind, file system, owner and layout from its origin, and does not go \
             together with {}: leave that out",
            refused.join(", ")
        )));
    }
    let read_only = options.get("read-only").is_some_and(|value| value == "true");
    match ["size", "flatten"].into_iter().find(|name| read_only && options.contains_key(*name)) {
        Some(name) => Err(OptionError::Conflict(format!(
            "{name} does not go together with read-only: a snapshot is shown as it is"
        ))),
        None => Ok(()),
    }
}
