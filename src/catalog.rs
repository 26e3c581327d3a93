//! The catalog: which volumes there are, and where. One omap in the home namespace, volume name →
//! JSON record.
//!
//! Every change is a compare-and-set of one key, so a name is unique across hosts and kinds, and
//! whoever changes a record has seen what it replaces. The catalog promises nothing beyond that:
//! order and recovery are the verbs' business (`service`).
//!
//! A write whose answer was lost may have taken effect. So a compare-and-set that finds another
//! value than expected looks once more: where the value is the one that was to be written, it was
//! this write that did it.

mod fences;
mod records;

pub use fences::{Fence, Fences};
pub use records::{Records, Stored};

use std::sync::{Arc, Mutex, PoisonError};

use crate::ceph::{Cluster, ClusterError, Swap};
use crate::volume::{Location, Record, VolumeName};

/// The catalog's object in the home namespace.
pub const CATALOG_OBJECT: &str = "docker-volume-ceph.catalog";

/// As many keys as an OSD returns at once by default (`osd_max_omap_entries_per_request`).
const PAGE: u64 = 1024;

/// A record as it stands in the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it says.
    pub record: Record,
    /// The bytes that the next compare-and-set expects.
    bytes: Vec<u8>,
}

/// Why the catalog could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CatalogError {
    /// The cluster refused or did not answer.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Somebody else changed the record at the same time.
    #[error("its record in the catalog was changed by another host at the same time")]
    Changed,
    /// What stands there is no record.
    #[error("its record in the catalog cannot be read: {0}")]
    Unreadable(String),
    /// A newer daemon wrote the record.
    #[error(
        "its record was written by a newer version of this driver (record version {0}), and is not \
         changed by this one; upgrade this host"
    )]
    Newer(u32),
}

/// A result of the catalog.
pub type Result<T> = std::result::Result<T, CatalogError>;

/// The catalog of one home namespace.
pub struct Catalog {
    cluster: Arc<dyn Cluster>,
    home: Location,
    /// All records, and the object's version before they were read.
    seen: Mutex<(u64, Arc<Records>)>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("home", &self.home).finish_non_exhaustive()
    }
}

impl Catalog {
    /// The catalog in `home`. Asks nothing of the cluster yet.
    #[must_use]
    pub fn new(cluster: Arc<dyn Cluster>, home: Location) -> Self {
        Self { cluster, home, seen: Mutex::default() }
    }

    /// The record of a name: one read.
    ///
    /// # Errors
    /// Where the cluster does not answer or the record cannot be read.
    pub fn get(&self, name: &VolumeName) -> Result<Option<Entry>> {
        let bytes = self.cluster.omap_get(&self.home, CATALOG_OBJECT, name.as_str())?;
        bytes.map(Entry::read).transpose()
    }

    /// All records. One read where nothing has changed, else one more for each thousand; parsed
    /// are only those that changed.
    ///
    /// A record that cannot be read is left out, and logged: it must not hide the others.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn list(&self) -> Result<Arc<Records>> {
        let version = self.cluster.object_version(&self.home, CATALOG_OBJECT)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if version == seen.0 {
            return Ok(seen.1);
        }
        let records = Arc::new(self.read_all(&seen.1)?);
        // Read before the pages: a change in between only means one read too many next time.
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = (version, records.clone());
        Ok(records)
    }

    fn read_all(&self, before: &Records) -> Result<Records> {
        let mut records = Vec::with_capacity(before.len());
        // Both are in the order of their keys.
        let mut old = before.iter().peekable();
        let mut after = String::new();
        loop {
            let page = self.cluster.omap_page(&self.home, CATALOG_OBJECT, &after, PAGE)?;
            let Some((last, _)) = page.entries.last() else { break };
            after.clone_from(last);
            for (key, bytes) in page.entries {
                while old.next_if(|(name, _)| name.as_str() < key.as_str()).is_some() {}
                let same = old.next_if(|(name, stored)| name.as_str() == key && stored.is(&bytes));
                if let Some((name, stored)) = same {
                    records.push((name.clone(), Arc::clone(stored)));
                    continue;
                }
                match (key.parse(), Stored::read(bytes)) {
                    (Ok(name), Ok(stored)) => records.push((name, Arc::new(stored))),
                    (Err(error), _) => tracing::warn!(key, %error, "catalog key passed over"),
                    (_, Err(error)) => tracing::warn!(key, %error, "catalog record passed over"),
                }
            }
            if !page.more {
                break;
            }
        }
        Ok(records.into_iter().collect())
    }

    /// Writes the first record of a name.
    ///
    /// # Errors
    /// [`CatalogError::Changed`] where the name has one.
    pub fn insert(&self, name: &VolumeName, record: &Record) -> Result<Entry> {
        self.swap(name, None, record)
    }

    /// Replaces a record that was read before.
    ///
    /// # Errors
    /// [`CatalogError::Changed`] where it is not what was read, [`CatalogError::Newer`] where this
    /// daemon must not rewrite it.
    pub fn replace(&self, name: &VolumeName, old: &Entry, record: &Record) -> Result<Entry> {
        self.swap(name, Some(old), record)
    }

    /// Drops a record that was read before.
    ///
    /// # Errors
    /// As [`Catalog::replace`].
    pub fn remove(&self, name: &VolumeName, old: &Entry) -> Result<()> {
        let key = name.as_str();
        self.refuse_newer(old)?;
        match self.compare_and_set(key, Some(&old.bytes), None)? {
            Swap::Swapped => Ok(()),
            Swap::Changed => match self.cluster.omap_get(&self.home, CATALOG_OBJECT, key)? {
                None => Ok(()),
                Some(_) => Err(CatalogError::Changed),
            },
        }
    }

    /// Changes a record by `change`, reading it again for as long as others change it too. `None`
    /// from `change` leaves it as it is. Returns the record as it stands then.
    ///
    /// # Errors
    /// As [`Catalog::replace`]; [`CatalogError::Changed`] after ten tries.
    pub fn update(
        &self,
        name: &VolumeName,
        change: impl Fn(&Record) -> Option<Record>,
    ) -> Result<Option<Entry>> {
        for _ in 0..10 {
            let Some(old) = self.get(name)? else { return Ok(None) };
            let Some(record) = change(&old.record) else { return Ok(Some(old)) };
            match self.replace(name, &old, &record) {
                Err(CatalogError::Changed) => {}
                other => return other.map(Some),
            }
        }
        Err(CatalogError::Changed)
    }

    fn swap(&self, name: &VolumeName, old: Option<&Entry>, record: &Record) -> Result<Entry> {
        if let Some(old) = old {
            self.refuse_newer(old)?;
        }
        let key = name.as_str();
        let new = Entry::of(record.clone())?;
        match self.compare_and_set(key, old.map(|old| &old.bytes[..]), Some(&new.bytes))? {
            Swap::Swapped => Ok(new),
            Swap::Changed => match self.cluster.omap_get(&self.home, CATALOG_OBJECT, key)? {
                Some(now) if now == new.bytes => Ok(new),
                _ => Err(CatalogError::Changed),
            },
        }
    }

    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        let swap = |cluster: &dyn Cluster| {
            cluster.omap_compare_and_set(&self.home, CATALOG_OBJECT, key, expected, new)
        };
        Ok(swap(&*self.cluster)?)
    }

    fn refuse_newer(&self, old: &Entry) -> Result<()> {
        if old.record.is_newer() { Err(CatalogError::Newer(old.record.version)) } else { Ok(()) }
    }
}

impl Entry {
    fn read(bytes: Vec<u8>) -> Result<Self> {
        let record = serde_json::from_slice(&bytes)
            .map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        Ok(Self { record, bytes })
    }

    /// The entry that a record makes.
    fn of(record: Record) -> Result<Self> {
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| CatalogError::Unreadable(error.to_string()))?;
        Ok(Self { record, bytes })
    }
}

impl CatalogError {
    /// Did the cluster not answer, so that it may pass?
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.may_pass())
    }
}
