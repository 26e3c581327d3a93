//! `keep-files`: what nobody has written for so long is removed from a volume, once a day.
//!
//! ```text
//!  first run: listed, and nothing more ─▶ a day later, and then every day: removed
//! ```
//!
//! * A daemon that has the volume mounted for writing does it. The day's run is claimed in the record
//!   by compare-and-set, so that of the hosts that share a folder one does it; a run that is cut off
//!   is given back.
//! * The first run removes nothing, and says what it would: whoever gave the wrong age has a day.
//! * It runs on a thread of its own, without the volume's lock, and is called off where the volume is
//!   to go: no request waits for it. What one run does not reach, the next one does.
//! * A volume that nobody mounts keeps its files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::references::{Phase, Reference};
use super::{ErrorKind, Result, Service, Verb};
use crate::audit::audit;
use crate::deadline::{Deadline, Stop};
use crate::system::OldFiles;
use crate::volume::{FilesState, Record, VolumeName};

/// How often the old files of a volume are looked for.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// How long one run may take. Its folder is open for as long.
const RUN: Duration = Duration::from_secs(120);

/// How long a search may take to end that was called off.
const CALLED_OFF: Duration = Duration::from_secs(2);

/// The old files of a volume: what would go, or went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OldFilesView {
    /// They were last written before that.
    pub older_than: Timestamp,
    /// They were removed; else they were only looked at.
    pub removed: bool,
    /// What was found.
    #[serde(flatten)]
    pub files: OldFiles,
}

/// The searches of this daemon.
#[derive(Debug, Clone, Default)]
pub(super) struct Searches(Arc<(Mutex<HashMap<VolumeName, Stop>>, Condvar)>);

/// A search under way, until this is dropped.
#[derive(Debug)]
struct Search {
    searches: Searches,
    name: VolumeName,
    stop: Stop,
}

impl Searches {
    /// Begins one; `None` where the volume is being searched.
    fn begin(&self, name: &VolumeName) -> Option<Search> {
        let mut all = self.lock();
        if all.contains_key(name) {
            return None;
        }
        let stop = Stop::default();
        all.insert(name.clone(), stop.clone());
        drop(all);
        Some(Search { searches: self.clone(), name: name.clone(), stop })
    }

    /// Calls off the search of a volume, and waits until it has ended.
    pub(super) fn call_off(&self, name: &VolumeName) {
        let all = self.lock();
        let Some(stop) = all.get(name) else { return };
        stop.stop();
        let ended = |all: &mut HashMap<VolumeName, Stop>| all.contains_key(name);
        drop(self.0.1.wait_timeout_while(all, CALLED_OFF, ended));
    }

    /// Calls off all of them.
    pub(super) fn call_off_all(&self) {
        self.lock().values().for_each(Stop::stop);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VolumeName, Stop>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.searches.lock().remove(&self.name);
        self.searches.0.1.notify_all();
    }
}

impl Service {
    /// The files that the volume's `keep-files` is about, or their removal now. The volume has to be
    /// mounted here for writing.
    ///
    /// # Errors
    /// `InvalidArgument` where it is not, or has no such option; `InUse` while its daily run is under
    /// way; and as every verb.
    pub fn old_files(
        &self,
        name: &VolumeName,
        remove: bool,
        deadline: &Deadline,
    ) -> Result<OldFilesView> {
        let verb = Verb::new("old files of", name, deadline);
        let record = self.entry(verb)?.record;
        let refused = |cause: &str| verb.error(ErrorKind::InvalidArgument, cause);
        let keep = keep_of(&record).ok_or_else(|| refused("it has no option keep-files"))?;
        let mounted = self.references.get(name).as_ref().and_then(folder_of);
        let folder = mounted.ok_or_else(|| {
            refused("volume is not mounted for writing here")
                .advise("run it on the host that has it (docker ceph who), while it is in use")
        })?;
        let busy = || verb.error(ErrorKind::InUse, "its daily run is under way");
        let search = self.searches.begin(name).ok_or_else(busy)?;
        let now = now();
        let older_than = before(now, keep);
        let files = self.hooks.old_files(&folder, older_than, remove, deadline);
        let files = files.map_err(|error| self.failed(verb, error))?;
        drop(search);
        if remove {
            tracing::info!(volume = %name, count = files.count, bytes = files.bytes.bytes(),
                "old files removed by hand");
            self.note_files(verb, now, true, &files)?;
        }
        Ok(OldFilesView { older_than, removed: remove, files })
    }

    /// Begins the day's run of a volume that is mounted here, where it is due.
    pub(super) fn look_for_old_files(&self, reference: &Reference) {
        let Some(folder) = folder_of(reference) else { return };
        let Some((record, _)) = self.known.last(&reference.name) else { return };
        let Some(keep) = keep_of(&record).filter(|_| is_due(&record, now())) else { return };
        let begun = self.searches.begin(&reference.name);
        if let (Some(search), Some(service)) = (begun, self.me.upgrade()) {
            thread::spawn(move || {
                let name = search.name.clone();
                if let Err(error) = service.daily_run(search, folder, keep) {
                    tracing::warn!(volume = %name, %error, "old files not looked for");
                }
            });
        }
    }

    fn daily_run(&self, search: Search, folder: PathBuf, keep: Duration) -> Result<()> {
        let name = search.name.clone();
        let deadline = Deadline::with_stop(RUN, search.stop.clone());
        let verb = Verb::new("old files of", &name, &deadline);
        let now = now();
        let Some(before_it) = self.claim_run(verb, now)? else { return Ok(()) };
        let remove = before_it.listed.is_some();
        let found = self.hooks.old_files(&folder, before(now, keep), remove, &deadline);
        let called_off = search.stop.is_stopped();
        drop(search);
        let late = deadline.for_undo(RUN);
        let verb = Verb { deadline: &late, ..verb };
        match found {
            Ok(found) => {
                let (count, bytes) = (found.count, found.bytes.bytes());
                match remove {
                    true => audit!(volume = %name, count, bytes, kept = found.kept,
                        whole = found.whole, "old files removed"),
                    false => tracing::info!(volume = %name, count, bytes, names = ?found.names,
                        "old files only listed: the next run, in a day, removes them"),
                }
                self.note_files(verb, now, remove, &found)
            }
            Err(error) => {
                self.change_files(verb, |files| {
                    if files.looked == Some(now) {
                        files.looked = before_it.looked;
                    }
                })?;
                match called_off {
                    true => Ok(()),
                    false => Err(self.failed(verb, error)),
                }
            }
        }
    }

    /// Makes the day's run ours: what was known before; `None` where another host has it.
    fn claim_run(&self, verb: Verb<'_>, now: Timestamp) -> Result<Option<FilesState>> {
        let seen = self.entry(verb)?.record.files;
        let record = self.change(verb, |record| {
            let unchanged = record.files == seen && is_due(record, now);
            unchanged.then(|| {
                let files = FilesState { looked: Some(now), ..record.files.unwrap_or_default() };
                Record { files: Some(files), ..record.clone() }
            })
        })?;
        let ours = record.files.is_some_and(|files| files.looked == Some(now));
        Ok(ours.then(|| seen.unwrap_or_default()))
    }

    fn note_files(
        &self,
        verb: Verb<'_>,
        now: Timestamp,
        removed: bool,
        found: &OldFiles,
    ) -> Result<()> {
        let (count, bytes) = (found.count, found.bytes);
        self.change_files(verb, |files| {
            files.looked = Some(now);
            match removed {
                true => files.removed = Some(now),
                false => files.listed = Some(now),
            }
            (files.count, files.bytes) = (count, bytes);
            // Who removes them by hand has seen them.
            files.listed = files.listed.or(Some(now));
        })
    }

    fn change_files(&self, verb: Verb<'_>, change: impl Fn(&mut FilesState)) -> Result<()> {
        self.change(verb, |record| {
            let mut files = record.files.unwrap_or_default();
            change(&mut files);
            Some(Record { files: Some(files), ..record.clone() })
        })
        .map(drop)
    }
}

/// The time by which files are judged.
fn now() -> Timestamp {
    Timestamp::now()
}

fn before(now: Timestamp, keep: Duration) -> Timestamp {
    let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
    now.saturating_sub(keep).unwrap_or(Timestamp::MIN)
}

fn keep_of(record: &Record) -> Option<Duration> {
    record.options.get("keep-files")?;
    record.typed_options().ok()?.keep_files
}

/// Where containers write the volume here.
fn folder_of(reference: &Reference) -> Option<PathBuf> {
    let writes = reference.phase == Phase::Mounted && !reference.read_only;
    writes.then(|| reference.mountpoint())
}

fn is_due(record: &Record, now: Timestamp) -> bool {
    let looked = record.files.and_then(|files| files.looked);
    looked.is_none_or(|looked| now.duration_since(looked) >= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_searched_once_at_a_time_and_calling_off_waits_for_the_end() {
        let (searches, name) = (Searches::default(), "a".parse().expect("a name"));
        let search = searches.begin(&name).expect("nobody is at it");
        assert!(searches.begin(&name).is_none());
        let searching = thread::spawn(move || {
            let deadline = Deadline::with_stop(RUN, search.stop.clone());
            let _ = deadline.wait(RUN);
            thread::sleep(Duration::from_millis(50));
        });
        searches.call_off(&name);
        assert!(searches.begin(&name).is_some(), "it was not waited for");
        searching.join().expect("it ended");
        searches.call_off(&"b".parse().expect("a name"));
    }
}
