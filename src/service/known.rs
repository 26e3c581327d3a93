//! The last known catalog: what `Get` and `List` answer from while the cluster is away.
//!
//! The engine takes any error from `Get` as "no such volume" and then starts the container on a
//! fresh, empty, *local* volume. So a known name is always answered, in time, from what was last
//! known of it, and says so. It is kept on disk across restarts and boots.
//!
//! A name that was never seen cannot be denied either while the cluster is away: the engine starts
//! the container on a local volume as soon as nobody has the name, and a closed connection does not
//! keep it from that. So such a name is *vouched for*: `Get` answers that it may exist, and the
//! mount then waits for the cluster, and fails if there is no such volume. The engine may have
//! taken that answer for a successful create, so the name is vouched for until the volume is really
//! created or the name is removed.
//!
//! A read of the catalog is given a moment. One that misses it shows that the cluster is away: from
//! then on answers come from memory at once, while a single thread asks the cluster until it
//! answers again, so that an outage costs one thread however many calls come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;
use std::{fs, io, thread};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, CatalogError, Entry, Records};
use crate::durable;
use crate::volume::{Record, VolumeName};

/// How long a read may take before the answer comes from memory: `Get` answers within 2 s.
const PATIENCE: Duration = Duration::from_millis(1500);

/// How often a cluster that refuses at once is asked again.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// What was last known, and whether the cluster answers.
#[derive(Debug)]
pub(super) struct Known {
    catalog: Arc<Catalog>,
    /// Held while the file is written, so that the newest content is written last.
    path: Mutex<PathBuf>,
    seen: Mutex<Seen>,
    away: Arc<AtomicBool>,
}

/// The cluster did not answer in time, or not with what was asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Away;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    as_of: Option<Timestamp>,
    /// The catalog's own list where nothing was noted since; else a copy that shares its records.
    #[serde(with = "shared")]
    records: Arc<Records>,
    /// Names of which `Get` has said, while the cluster was away, that they may exist.
    #[serde(default)]
    vouched: BTreeSet<VolumeName>,
    /// There is something that is not on disk yet.
    #[serde(skip)]
    dirty: bool,
}

impl Known {
    /// What was kept on disk; nothing where it cannot be read.
    pub(super) fn open(cache_folder: &Path, catalog: Arc<Catalog>) -> io::Result<Self> {
        fs::create_dir_all(cache_folder).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", cache_folder.display()))
        })?;
        let path = cache_folder.join("catalog.json");
        let seen = match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "last known catalog is unreadable");
                Seen::default()
            }
            Err(_) => Seen::default(),
        };
        Ok(Self { catalog, path: Mutex::new(path), seen: Mutex::new(seen), away: Arc::default() })
    }

    /// Is the cluster away, as far as is known?
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Acquire)
    }

    /// The record of a name, from the cluster.
    pub(super) fn get(&self, name: &VolumeName) -> Result<Option<Record>, Away> {
        let asked = name.clone();
        let entry = self.ask(move |catalog| catalog.get(&asked))?;
        self.note(name, entry.as_ref());
        Ok(entry.map(|entry| entry.record))
    }

    /// All records, from the cluster.
    pub(super) fn list(&self) -> Result<Arc<Records>, Away> {
        let records = self.ask(Catalog::list)?;
        let mut seen = self.lock();
        // What is shared is not compared, and so this is quick.
        seen.dirty |= seen.records != records;
        seen.records = Arc::clone(&records);
        seen.as_of = Some(Timestamp::now());
        Ok(records)
    }

    /// Takes note of a record as the cluster was just seen to have it.
    pub(super) fn note(&self, name: &VolumeName, entry: Option<&Entry>) {
        let mut seen = self.lock();
        let same = match (seen.records.get(name), entry) {
            (Some(stored), Some(entry)) => stored.is_of(entry),
            (stored, entry) => stored.is_none() && entry.is_none(),
        };
        if !same {
            let records = Arc::make_mut(&mut seen.records);
            match entry {
                Some(entry) => drop(records.insert(name.clone(), Arc::new(entry.clone().into()))),
                None => drop(records.remove(name)),
            }
            seen.dirty = true;
        }
        if entry.is_some() && seen.vouched.remove(name) {
            seen.dirty = true;
        }
        seen.as_of = Some(Timestamp::now());
    }

    /// The last known record of a name, and when it was known.
    pub(super) fn last(&self, name: &VolumeName) -> Option<(Record, Timestamp)> {
        let seen = self.lock();
        let record = seen.records.get(name)?.entry().record;
        Some((record, seen.as_of.unwrap_or(Timestamp::UNIX_EPOCH)))
    }

    /// All last known records, and when they were known.
    pub(super) fn last_all(&self) -> (Arc<Records>, Timestamp) {
        let seen = self.lock();
        (Arc::clone(&seen.records), seen.as_of.unwrap_or(Timestamp::UNIX_EPOCH))
    }

    /// Vouches for a name, on disk before the engine hears of it.
    pub(super) fn vouch(&self, name: &VolumeName) -> io::Result<()> {
        let mut seen = self.lock();
        if !seen.vouched.insert(name.clone()) {
            return Ok(());
        }
        seen.dirty = true;
        drop(seen);
        self.flush()
    }

    /// Is the name vouched for?
    pub(super) fn is_vouched_for(&self, name: &VolumeName) -> bool {
        self.lock().vouched.contains(name)
    }

    /// Ends that; says whether there was anything to end.
    pub(super) fn disown(&self, name: &VolumeName) -> bool {
        let mut seen = self.lock();
        let vouched = seen.vouched.remove(name);
        seen.dirty |= vouched;
        vouched
    }

    /// Writes to disk what is not there yet.
    pub(super) fn flush(&self) -> io::Result<()> {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = self.lock();
        if !seen.dirty {
            return Ok(());
        }
        seen.dirty = false;
        // A copy, so that no answer waits for the disk.
        let copy = seen.clone();
        drop(seen);
        let written = serde_json::to_vec(&copy).map_err(io::Error::from);
        let written = written.and_then(|bytes| durable::replace(&path, &bytes));
        written.inspect_err(|_| self.lock().dirty = true)
    }

    fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Catalog) -> Result<T, CatalogError> + Send + 'static,
    ) -> Result<T, Away> {
        if self.is_away() {
            return Err(Away);
        }
        let (answer, answered) = mpsc::channel();
        let catalog = Arc::clone(&self.catalog);
        thread::spawn(move || drop(answer.send(read(&catalog))));
        match answered.recv_timeout(PATIENCE) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(CatalogError::Unreadable(error))) => {
                tracing::warn!(error, "catalog record cannot be read");
                Err(Away)
            }
            Ok(Err(error)) => {
                self.probe_until_back(&error.to_string());
                Err(Away)
            }
            Err(_) => {
                self.probe_until_back("no answer in time");
                Err(Away)
            }
        }
    }

    /// Marks the cluster as away, and asks it until it answers.
    pub(super) fn probe_until_back(&self, why: &str) {
        if self.away.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(why, "cluster is away: answering from what is known");
        let (catalog, away) = (Arc::downgrade(&self.catalog), Arc::clone(&self.away));
        // Holds the catalog only while it asks, and so ends with the service.
        thread::spawn(move || {
            while let Some(catalog) = catalog.upgrade() {
                if !away.load(Ordering::Acquire) || catalog.list().is_ok() {
                    break;
                }
                drop(catalog);
                thread::sleep(PROBE_PAUSE);
            }
            if away.swap(false, Ordering::AcqRel) {
                tracing::info!("cluster is back");
            }
        });
    }

    /// Asks the cluster now, on this thread, whether it is back.
    pub(super) fn probe(&self) {
        if self.is_away() && self.catalog.list().is_ok() && self.away.swap(false, Ordering::AcqRel)
        {
            tracing::info!("cluster is back");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared records on disk: a map from names to records, as in the catalog.
mod shared {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::catalog::{Records, Stored};
    use crate::volume::VolumeName;

    pub(super) fn serialize<S: Serializer>(
        records: &Records,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(records.iter().map(|(name, stored)| (name, &**stored)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Records>, D::Error> {
        let records = BTreeMap::<VolumeName, Stored>::deserialize(deserializer)?;
        Ok(Arc::new(records.into_iter().map(|(name, stored)| (name, Arc::new(stored))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const ON_DISK: &str = r#"{
        "as_of": "2026-11-21T12:00:00Z",
        "records": {"a": {
            "version": 7, "kind": "rbd", "size": 1073741824, "state": "removing", "colour": "blue",
            "location": {"pool": "rbd", "namespace": "docker", "image": "a"},
            "options": {"size": "1073741824B"}, "created": "2026-11-21T12:00:00Z",
            "formatted": true, "adopted": false, "folder": "_data"
        }},
        "vouched": ["b"]
    }"#;

    #[test]
    fn what_is_on_disk_is_read_and_written_back_as_it_was() {
        let seen: Seen = serde_json::from_str(ON_DISK).expect("readable");
        let stored = seen.records.values().next().expect("one");
        assert_eq!(stored.state, crate::volume::RecordState::Removing);
        assert_eq!(stored.entry().record.version, 7);
        let again = serde_json::to_value(&seen).expect("writable");
        assert_eq!(again, serde_json::from_str::<Value>(ON_DISK).expect("JSON"));
    }
}
