//! Volumes made of others: `-o from=VOLUME[@SNAPSHOT]`.
//!
//! ```text
//!  record `creating`, with its origin ─▶ snapshot, where none was named ─▶ clone or copy
//!    ─▶ (a folder: until the copy is whole) ─▶ larger, where that was asked for ─▶ describe
//!    ─▶ record `ready` ─▶ flatten, where that was asked for
//! ```
//!
//! * The record says all that is needed to go on: whoever meets it does.
//! * The snapshot of a clone that names none is made as by hand: writers stand still. It is removed
//!   when the clone shares nothing with it any more, or is gone for good; where that fails it is left
//!   for a person, and its note says which clone it was for.
//! * A copy may take longer than a create: that has succeeded when the copy has begun, and mounts wait
//!   for it. A copy that came to nothing is removed, and so is its record.
//! * A snapshot for reading only is, of an image, a clone that nobody writes, and of a folder that
//!   snapshot itself, where it lies: then nothing is the volume's own, and nothing is ever removed
//!   with it but its record.
//!
//! Refuses what only looks like a snapshot (cut off, or being made), and clones of clones of clones
//! beyond [`DEEPEST`]: each of them is another image to be looked at for what is read.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::provision::Insert;
use super::taken::is_whole;
use super::{ErrorKind, Result, Service, SnapshotOrder, Verb, VolumeError};
use crate::backend::{Cloning, Copied, Provisioning, Snapshotting};
use crate::catalog::Entry;
use crate::deadline::Deadline;
use crate::volume::{
    FolderSpec, Maker, Options, Origin, Place, RECORD_VERSION, Record, RecordState, SnapshotName,
    SnapshotNote, SnapshotSpec, SnapshotState, VolumeKind, VolumeName, VolumeOptions,
};

/// On how many others a volume may stand.
const DEEPEST: usize = 8;

/// Between two looks at a copy: the first, and all once it is known to take long.
const LOOK: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How long finishing a copy that is whole may take, and undoing one that is not.
const FINISH: Duration = Duration::from_secs(60);

impl Service {
    /// Makes a volume of another, for a name that had no record.
    pub(super) fn make_clone(
        &self,
        verb: Verb<'_>,
        from: &SnapshotSpec,
        given: &Options,
    ) -> std::result::Result<(), Insert> {
        let record = self.plan_clone(verb, from, given).map_err(Insert::Failed)?;
        let entry = self.insert(verb, &record)?;
        if record.state == RecordState::Ready {
            return Ok(());
        }
        self.finish_new(verb, &entry)
    }

    /// The first record of the volume, after all that can be checked before anything is made.
    fn plan_clone(&self, verb: Verb<'_>, from: &SnapshotSpec, given: &Options) -> Result<Record> {
        let of = self.origin_record(verb, from)?;
        let mut options = self.rules.for_clone(given, &of).map_err(|e| self.failed(verb, e))?;
        let typed = VolumeOptions::from_canonical(&options).map_err(|e| self.failed(verb, e))?;
        let snapshot = match &from.snapshot {
            Some(name) => self.whole_snapshot(verb, from, &of, name)?,
            None => SnapshotName::for_clone(verb.name, Timestamp::now()),
        };
        let view = self.view_of(verb, given, &of, &snapshot, &typed)?;
        let location = match view {
            Some(place) => {
                options.retain(|name, _| !is_of_removal(name));
                place
            }
            None => {
                self.refuse_deep(verb, from, &of)?;
                self.backend.plan(verb.name, &typed).map_err(|e| self.failed(verb, e))?.location
            }
        };
        let origin = Origin {
            volume: from.volume.clone(),
            snapshot,
            place: of.location.clone(),
            id: of.id.clone(),
            implicit: from.snapshot.is_none(),
            alone: false,
            flattening: None,
        };
        let snapshots = self.new_snapshot_state(verb, &options)?;
        let record = self.first_record(of, location, options, &typed, origin);
        Ok(Record { snapshots, ..record })
    }

    fn first_record(
        &self,
        of: Record,
        location: Place,
        options: Options,
        typed: &VolumeOptions,
        origin: Origin,
    ) -> Record {
        let record = Record {
            version: RECORD_VERSION,
            kind: of.kind,
            location,
            size: typed.size.unwrap_or(of.size),
            options,
            state: RecordState::Creating,
            work: Some(self.work()),
            created: Timestamp::now(),
            id: None,
            formatted: of.formatted,
            adopted: false,
            folder: of.folder,
            used: of.used,
            origin: Some(origin),
            renew_uuid: of.kind == VolumeKind::Rbd,
            rolling: None,
            files: None,
            claim: None,
            sharers: Vec::new(),
            snapshots: SnapshotState::default(),
            other: serde_json::Map::new(),
        };
        match record.is_view() {
            // There is nothing to make.
            true => Record { state: RecordState::Ready, work: None, adopted: true, ..record },
            false => record,
        }
    }

    /// The record of the volume that is to be cloned.
    fn origin_record(&self, verb: Verb<'_>, from: &SnapshotSpec) -> Result<Record> {
        let volume = &from.volume;
        let entry = self.catalog.get(volume).map_err(|error| self.failed(verb, error))?;
        let missing = |why: &str| {
            let cause = format!("from={from}: {why}");
            verb.error(ErrorKind::NotFound, cause).advise("docker ceph ls lists the volumes")
        };
        let Some(Entry { record, .. }) = entry else {
            return Err(missing(&format!("there is no volume {volume}")));
        };
        match record.state {
            RecordState::Ready => Ok(record),
            RecordState::Removing => Err(missing(&format!("volume {volume} is being removed"))),
            RecordState::Creating => Err(verb
                .error(ErrorKind::Unavailable, format!("from={from}: {volume} is still being made"))
                .advise("try again in a moment")),
        }
    }

    /// The snapshot that is named, which has to be there and made to its end.
    fn whole_snapshot(
        &self,
        verb: Verb<'_>,
        from: &SnapshotSpec,
        of: &Record,
        name: &SnapshotName,
    ) -> Result<SnapshotName> {
        let there = self.stored_snapshots(verb, of)?;
        let Some(stored) = there.iter().find(|stored| stored.name == name.as_str()) else {
            let cause = format!("from={from}: there is no snapshot {name}");
            let advice = format!("docker ceph snapshot ls {} lists them", from.volume);
            return Err(verb.error(ErrorKind::NotFound, cause).advise(advice));
        };
        let being_made = of.snapshots.taking.as_ref().is_some_and(|it| it.snapshot == *name);
        if being_made || !is_whole(stored) {
            let cause = format!("from={from}: the snapshot is still being made, or was cut off");
            return Err(verb.error(ErrorKind::InUse, cause).advise("take another one"));
        }
        Ok(name.clone())
    }

    /// Where a snapshot of a folder is seen for reading only.
    fn view_of(
        &self,
        verb: Verb<'_>,
        given: &Options,
        of: &Record,
        snapshot: &SnapshotName,
        typed: &VolumeOptions,
    ) -> Result<Option<Place>> {
        let Place::Folder(FolderSpec::Subvolume(subvolume)) = &of.location else { return Ok(None) };
        if !typed.read_only {
            return Ok(None);
        }
        let given = self.rules.canonical(given).map_err(|error| self.failed(verb, error))?;
        if let Some(name) = given.keys().find(|name| is_of_removal(name)) {
            let cause = format!(
                "{name} does not go together with read-only: a snapshot of a folder is shown where \
                 it lies, and nothing but the name goes with the volume"
            );
            return Err(verb.error(ErrorKind::InvalidArgument, cause));
        }
        let (subvolume, snapshot) = (subvolume.clone(), snapshot.clone());
        Ok(Some(Place::Folder(FolderSpec::Snapshot { subvolume, snapshot })))
    }

    fn refuse_deep(&self, verb: Verb<'_>, from: &SnapshotSpec, of: &Record) -> Result<()> {
        let depth = self.backend.depth(&of.location).map_err(|error| self.failed(verb, error))?;
        if depth < DEEPEST {
            return Ok(());
        }
        let volume = &from.volume;
        let cause = format!("from={from}: {volume} stands on {depth} others already");
        let advice = format!("make it stand alone first: docker ceph flatten {volume}");
        Err(verb.error(ErrorKind::InvalidArgument, cause).advise(advice))
    }

    /// Makes the stored thing of a record with an origin, and waits until it is whole; every step may
    /// have been done already.
    pub(super) fn make_of_origin(
        &self,
        verb: Verb<'_>,
        record: &Record,
        origin: &Origin,
    ) -> Result<()> {
        let options = record.typed_options().map_err(|error| self.failed(verb, error))?;
        let place = &record.location;
        let copied = self.backend.copied(place).map_err(|error| self.failed(verb, error))?;
        // What is made of an image keeps its snapshot; a copy that was begun needs it no more.
        if copied == Copied::Absent || record.kind == VolumeKind::Rbd {
            self.ensure_snapshot(verb, origin)?;
            let made = self.backend.clone_of(&origin.place, &origin.snapshot, place, &options);
            made.map_err(|error| self.failed(verb, error))?;
        }
        self.await_copy(verb, record, origin)?;
        let size = self.backend.info(place).map_err(|error| self.failed(verb, error))?.size;
        match options.size.filter(|asked| *asked > size) {
            Some(asked) => {
                self.backend.resize(place, asked).map_err(|error| self.failed(verb, error))
            }
            None => Ok(()),
        }
    }

    /// The snapshot that it is made of, taken now where none was named.
    fn ensure_snapshot(&self, verb: Verb<'_>, origin: &Origin) -> Result<()> {
        let there = self.backend.snapshots(&origin.place);
        let there = there.map_err(|error| self.failed(verb, error))?;
        let is_it = |stored: &&crate::backend::StoredSnapshot| {
            stored.name == origin.snapshot.as_str() && is_whole(stored)
        };
        if there.iter().any(|stored| is_it(&stored)) {
            return Ok(());
        }
        let now = self.catalog.get(&origin.volume).map_err(|error| self.failed(verb, error))?;
        let same = |of: &Record| of.location == origin.place && of.id == origin.id;
        let Some(of) = now.map(|entry| entry.record).filter(|of| origin.implicit && same(of))
        else {
            let cause = format!("{} went away meanwhile", origin.spec());
            return Err(verb.error(ErrorKind::NotFound, cause));
        };
        let consistency = of.snapshot_options().map_err(|e| self.failed(verb, e))?.consistency;
        let order = SnapshotOrder {
            name: origin.snapshot.clone(),
            consistency: Some(consistency),
            labels: Default::default(),
            by: Maker::Clone { volume: verb.name.clone() },
            group: None,
        };
        let taken = self.snapshot(std::slice::from_ref(&origin.volume), &order, verb.deadline);
        taken.map(drop).map_err(|error| {
            let cause = format!("snapshot of {}: {}", origin.volume, error.cause);
            VolumeError { advice: error.advice, ..verb.error(error.kind, cause) }
        })
    }

    /// Waits until the copy is whole.
    fn await_copy(&self, verb: Verb<'_>, record: &Record, origin: &Origin) -> Result<()> {
        let mut pause = LOOK[0];
        loop {
            let copied = self.backend.copied(&record.location);
            match copied.map_err(|error| self.failed(verb, error))? {
                Copied::Whole => {
                    self.observed().copies.remove(verb.name);
                    return Ok(());
                }
                Copied::Failed(why) => {
                    let cause = format!("the copy of {} came to nothing: {why}", origin.spec());
                    return Err(verb.error(ErrorKind::Internal, cause));
                }
                Copied::Absent => {
                    let cause = format!("the copy of {} is gone", origin.spec());
                    return Err(verb.error(ErrorKind::Internal, cause));
                }
                Copied::UnderWay(percent) => {
                    self.observed().copies.insert(verb.name.clone(), percent);
                    if !verb.deadline.wait(pause) {
                        let cause = format!("it is still being copied from {}", origin.spec());
                        return Err(verb.error(ErrorKind::Unavailable, cause).advise(
                            "that goes on by itself; docker volume inspect says when it is ready",
                        ));
                    }
                    pause = (pause * 2).min(LOOK[1]);
                }
            }
        }
    }

    /// Is it being copied, so that there is nothing to do but wait?
    pub(super) fn is_copying(&self, name: &VolumeName, record: &Record) -> bool {
        if record.state != RecordState::Creating || record.origin.is_none() {
            return false;
        }
        match self.backend.copied(&record.location) {
            Ok(Copied::UnderWay(percent)) => {
                self.observed().copies.insert(name.clone(), percent);
                true
            }
            _ => false,
        }
    }

    /// Lets a copy go on by itself: nobody works on its record until it is whole.
    pub(super) fn leave_copying(&self, verb: Verb<'_>) {
        let ours = self.work().by;
        let left = self.catalog.update(verb.name, |record| {
            let is_ours = record.work.as_ref().is_some_and(|work| work.by == ours);
            let copying = record.state == RecordState::Creating && is_ours;
            copying.then(|| Record { work: None, ..record.clone() })
        });
        match left {
            Ok(entry) => self.known.note(verb.name, entry.as_ref()),
            Err(error) => tracing::info!(volume = %verb.name, %error, "its record stays ours"),
        }
    }

    /// Has the record of a copy finished as soon as that is whole.
    pub(super) fn follow_copy(&self, name: &VolumeName) {
        let (service, name) = (self.me.clone(), name.clone());
        thread::spawn(move || {
            loop {
                thread::sleep(LOOK[1]);
                // Held only for a look, so that it ends with the service.
                let Some(service) = service.upgrade() else { return };
                if service.has_settled(&name) {
                    return;
                }
            }
        });
    }

    fn has_settled(&self, name: &VolumeName) -> bool {
        let deadline = Deadline::after(FINISH);
        let verb = Verb::new("recover", name, &deadline);
        let Some(_guard) = self.locks.try_lock(name) else { return false };
        let entry = match self.catalog.get(name) {
            Ok(Some(entry)) if entry.record.state == RecordState::Creating => entry,
            Ok(_) => return true,
            Err(_) => return false,
        };
        if self.is_copying(name, &entry.record) {
            return false;
        }
        match self.settle_create(verb, &entry) {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(volume = %name, %error, "its copy is not finished yet");
                error.kind != ErrorKind::Unavailable
            }
        }
    }

    /// Ends and removes what is not whole of a create with an origin.
    pub(super) fn abandon_copy(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        if record.origin.is_none() || record.is_view() {
            return Ok(());
        }
        self.backend.abandon(&record.location).map_err(|error| self.failed(verb, error))
    }

    /// Removes the snapshot that was made for this volume alone, once nothing needs it. What fails is
    /// left for a person.
    pub(super) fn drop_implicit(&self, verb: Verb<'_>, origin: &Origin) -> bool {
        if !origin.implicit {
            return true;
        }
        let dropped = self.remove_implicit(verb, origin);
        if let Err(error) = &dropped {
            tracing::warn!(snapshot = %origin.spec(), %error, "left: made for a clone, and not needed");
        }
        dropped.is_ok()
    }

    fn remove_implicit(&self, verb: Verb<'_>, origin: &Origin) -> Result<()> {
        let of = Verb { name: &origin.volume, ..verb };
        let entry = self.catalog.get(of.name).map_err(|error| self.failed(of, error))?;
        let Some(record) = entry.map(|it| it.record).filter(|of| of.location == origin.place)
        else {
            return Ok(());
        };
        let there = self.stored_snapshots(of, &record)?;
        let made_for_us = there.iter().any(|stored| {
            let note = stored.note.as_deref().and_then(SnapshotNote::read);
            let by = Maker::Clone { volume: verb.name.clone() };
            stored.name == origin.snapshot.as_str() && note.is_some_and(|note| note.by == by)
        });
        if !made_for_us {
            return Ok(());
        }
        self.remove_stored(of, &record, &origin.snapshot)?;
        self.note_those_left(of, &record)
    }

    /// Who was made of what lies there, and still needs it: its name, and its origin.
    pub(super) fn clones_of(
        &self,
        verb: Verb<'_>,
        place: &Place,
    ) -> Result<Vec<(VolumeName, Record)>> {
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        let clones = records.iter().filter(|(_, stored)| stored.is_clone);
        let parsed = clones.map(|(name, stored)| (name.clone(), stored.entry().record));
        let needs = |record: &Record| {
            record.origin.as_ref().is_some_and(|origin| !origin.alone && origin.place == *place)
        };
        Ok(parsed.filter(|(_, record)| needs(record)).collect())
    }

    /// What was made of a snapshot and needs it: volumes by their names, and whatever else there is.
    pub(super) fn clones_of_snapshot(
        &self,
        verb: Verb<'_>,
        record: &Record,
        snapshot: &SnapshotName,
        known: &[(VolumeName, Record)],
    ) -> Result<Vec<String>> {
        let children = self.backend.children(&record.location, snapshot);
        let children = children.map_err(|error| self.failed(verb, error))?;
        let needs = |clone: &&(VolumeName, Record)| {
            let origin = clone.1.origin.as_ref();
            origin.is_some_and(|origin| origin.needs(&record.location, snapshot))
        };
        let ours: Vec<_> = known.iter().filter(needs).collect();
        let is_ours =
            |child: &String| ours.iter().any(|(_, it)| it.location.to_string() == **child);
        let others = children.into_iter().filter(|child| !is_ours(child));
        Ok(ours.iter().map(|(name, _)| name.to_string()).chain(others).collect())
    }

    /// Refuses to take from volumes what they were made of and still need. An image in the trash
    /// still serves its clones; of a folder in the trash nobody sees anything.
    pub(super) fn refuse_with_clones(
        &self,
        verb: Verb<'_>,
        record: &Record,
        for_good: bool,
    ) -> Result<()> {
        let known = self.clones_of(verb, &record.location)?;
        let mut needing: Vec<String> = known
            .iter()
            .filter(|(_, clone)| for_good || clone.is_view())
            .map(|(name, _)| name.to_string())
            .collect();
        if for_good && record.kind == VolumeKind::Rbd {
            for stored in self.stored_snapshots(verb, record)? {
                let Ok(name) = stored.name.parse() else { continue };
                needing.extend(self.clones_of_snapshot(verb, record, &name, &known)?);
            }
        }
        needing.sort();
        needing.dedup();
        if needing.is_empty() {
            return Ok(());
        }
        let cause = format!("others were made of it and need it: {}", needing.join(", "));
        let advice = match for_good {
            true => "flatten or remove those first, or move it to the trash (--policy trash)",
            false => "remove those first",
        };
        Err(verb.error(ErrorKind::InUse, cause).advise(advice))
    }
}

/// Is it an option of what removing does with the data?
fn is_of_removal(option: &str) -> bool {
    matches!(option, "on-remove" | "trash-expiry")
}
