//! All records at once, in little memory: of ten thousand volumes each is kept as the bytes that
//! stand in the catalog and the little that is asked of all of them, and parsed where more is
//! wanted: a parsed record takes several times its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{Entry, Result};
use crate::volume::{Origin, Record, RecordState, VolumeName};

/// All records at one time. Those that did not change are shared with the records before.
pub type Records = BTreeMap<VolumeName, Arc<Stored>>;

/// A readable record, unparsed. Equal where the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    bytes: Box<[u8]>,
    /// Where the volume is in its life.
    pub state: RecordState,
    /// A snapshot of it is being made, or was cut off.
    pub taking: bool,
    /// A schedule makes snapshots of it.
    pub scheduled: bool,
    /// It is being rolled back, or that was cut off.
    pub rolling: bool,
    /// It was made of another volume.
    pub is_clone: bool,
    /// What it shares with that is to be copied, or to be given up.
    pub flatten: bool,
    /// The folder of the file system that containers see; "" is all of it.
    pub folder: Box<str>,
    /// The pool that its data goes to; "" where the record does not say it.
    pub pool: Box<str>,
}

impl Stored {
    /// Keeps a record as it stands in the catalog.
    ///
    /// # Errors
    /// [`CatalogError::Unreadable`](super::CatalogError::Unreadable) where it is none.
    pub(super) fn read(bytes: Vec<u8>) -> Result<Self> {
        Entry::read(bytes).map(Self::from)
    }

    /// Are these the bytes of it?
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        *self.bytes == *bytes
    }

    /// Is it what that entry says?
    #[must_use]
    pub fn is_of(&self, entry: &Entry) -> bool {
        self.is(&entry.bytes)
    }

    /// What it says, parsed, with what the next compare-and-set expects.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "the same bytes were read before")]
    pub fn entry(&self) -> Entry {
        Entry::read(self.bytes.to_vec()).expect("it was readable when it was stored")
    }
}

impl From<Entry> for Stored {
    fn from(entry: Entry) -> Self {
        let scheduled = entry.record.is_scheduled();
        let flatten = is_to_be_settled(&entry.record);
        let Record { state, folder, mut options, location, snapshots, origin, rolling, .. } =
            entry.record;
        let own = location.pool().map(str::to_owned);
        let pool = options.remove("data-pool").or(own).unwrap_or_default();
        Self {
            bytes: entry.bytes.into(),
            state,
            taking: snapshots.taking.is_some(),
            scheduled,
            rolling: rolling.is_some(),
            is_clone: origin.is_some(),
            flatten,
            folder: folder.into(),
            pool: pool.into(),
        }
    }
}

/// Is there something left to do between it and its origin?
fn is_to_be_settled(record: &Record) -> bool {
    let left = |of: &Origin| of.flattening.is_some() || (of.alone && of.implicit);
    record.is_to_be_flattened() || record.origin.as_ref().is_some_and(left)
}

impl Serialize for Stored {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let record: Record = serde_json::from_slice(&self.bytes).map_err(ser::Error::custom)?;
        record.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Stored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let record = Record::deserialize(deserializer)?;
        Ok(Self::from(Entry::of(record).map_err(de::Error::custom)?))
    }
}
