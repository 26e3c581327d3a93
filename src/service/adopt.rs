//! Volumes made of what is there: adopted images, removed volumes brought back, a lost catalog
//! rebuilt.
//!
//! None of these makes or formats an image, so each writes its record in one step, straight to
//! `ready`: a crash leaves an image without a record, which the same call, repeated, finds again.

use jiff::Timestamp;

use super::provision::Insert;
use super::{Created, ErrorKind, Rebuilt, Result, Service, Trashed, Verb, VolumeError};
use crate::backend::{BackendError, Plan, Provisioning, Trash, TrashedItem};
use crate::ceph::ClusterErrorKind;
use crate::deadline::Deadline;
use crate::volume::{
    Description, ImageSpec, Options, Place, RECORD_VERSION, Record, RecordState, SnapshotState,
    VolumeName,
};

impl Service {
    /// Makes a volume of an image that is there, without changing its data.
    ///
    /// # Errors
    /// As [`Service::create`]; `AlreadyExists` where another volume has the image.
    pub fn adopt(
        &self,
        name: &VolumeName,
        image: &ImageSpec,
        options: &Options,
        deadline: &Deadline,
    ) -> Result<Created> {
        let mut options = options.clone();
        options.insert("image".to_owned(), image.to_string());
        self.create(name, &options, deadline).map_err(|error| VolumeError { op: "adopt", ..error })
    }

    /// Writes the record of an adopted image: as it describes itself, where it was a volume before.
    pub(super) fn insert_adopted(
        &self,
        verb: Verb<'_>,
        plan: &Plan,
        options: Options,
    ) -> std::result::Result<(), Insert> {
        let fail = Insert::Failed;
        let description = self
            .backend
            .description(&plan.location)
            .map_err(|error| fail(self.failed(verb, error)))?;
        let before = description.and_then(|text| Description::read(&text));
        let mut record = before.map_or_else(|| foreign(plan), |before| before.record);
        record.location = plan.location.clone();
        record.size = plan.size;
        record.id = None;
        record.options.extend(options);
        record.snapshots = self.new_snapshot_state(verb, &record.options).map_err(fail)?;
        if !record.is_shared() {
            self.refuse_second_volume(verb, &plan.location).map_err(fail)?;
        }
        if !record.is_read_only() {
            self.describe(verb, &record).map_err(fail)?;
        }
        self.insert(verb, &record).map(drop)
    }

    /// Two volumes over one image would be two writers that know nothing of each other.
    fn refuse_second_volume(&self, verb: Verb<'_>, place: &Place) -> Result<()> {
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        let other = records.iter().filter(|(name, _)| *name != verb.name).find(|(_, stored)| {
            let record = stored.entry().record;
            record.location == *place && !record.is_shared()
        });
        match other {
            None => Ok(()),
            Some((name, _)) => Err(verb
                .error(ErrorKind::AlreadyExists, format!("{place} is volume {name} already"))
                .advise("use that volume, or adopt the image with read-only")),
        }
    }

    /// What can be brought back.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn trash(&self, deadline: &Deadline) -> Result<Vec<Trashed>> {
        let found = self.trashed("list trash", deadline)?;
        let view = |item: TrashedItem| Trashed {
            name: item.name,
            id: item.id,
            deleted: item.deleted,
            kept_until: item.kept_until,
            place: item.location,
        };
        Ok(found.into_iter().map(view).collect())
    }

    /// Brings a removed volume back, the one removed last, under its own name or another.
    ///
    /// # Errors
    /// `NotFound` where the trash has none of that name, `AlreadyExists` where the new name is
    /// taken, `Unavailable` where the cluster does not answer.
    pub fn undelete(
        &self,
        name: &VolumeName,
        rename: Option<&VolumeName>,
        deadline: &Deadline,
    ) -> Result<VolumeName> {
        let target = rename.unwrap_or(name);
        let verb = Verb::new("undelete", target, deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        if self.catalog.get(target).map_err(|error| self.failed(verb, error))?.is_some() {
            return Err(verb
                .error(ErrorKind::AlreadyExists, "there is a volume of that name")
                .advise(format!("bring it back under another: undelete {name} --as NEW")));
        }
        // Restored by an attempt that died before it wrote the record?
        let (location, description) = match self.unrecorded(verb, name)? {
            Some(found) => found,
            None => self.restore_newest(verb, name, target)?,
        };
        let info = self.backend.info(&location).map_err(|error| self.failed(verb, error))?;
        let record = Record {
            location,
            size: info.size,
            id: Some(info.id),
            state: RecordState::Ready,
            ..description.record
        };
        self.describe(verb, &record)?;
        match self.insert(verb, &record) {
            Ok(_) => Ok(target.clone()),
            Err(Insert::Failed(error)) => Err(error),
            Err(Insert::Taken) => {
                self.give_back(verb, &record)?;
                Err(verb.error(ErrorKind::AlreadyExists, "the name was taken at the same time"))
            }
        }
    }

    /// What was taken out of the trash and has no name goes back, unless the name was taken for it.
    fn give_back(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        if self.is_recorded(verb, &record.location)? {
            return Ok(());
        }
        let options = record.typed_options().map_err(|error| self.failed(verb, error))?;
        let gone = self.backend.deprovision(&record.location, Some(options.trash_expiry));
        gone.map_err(|error| self.failed(verb, error))
    }

    fn restore_newest(
        &self,
        verb: Verb<'_>,
        name: &VolumeName,
        target: &VolumeName,
    ) -> Result<(Place, Description)> {
        let (item, description) = self.newest_trashed(verb, name)?.ok_or_else(|| {
            verb.error(ErrorKind::NotFound, format!("the trash holds no volume {name}"))
                .advise("see what it holds with: docker ceph ls --trash")
        })?;
        let restored = self.backend.restore(&item, target);
        Ok((restored.map_err(|error| self.failed(verb, error))?, description))
    }

    fn newest_trashed(
        &self,
        verb: Verb<'_>,
        name: &VolumeName,
    ) -> Result<Option<(TrashedItem, Description)>> {
        let mut trashed = self.trashed(verb.op, verb.deadline)?;
        trashed.sort_by_key(|item| std::cmp::Reverse(item.deleted));
        let mut newest: Option<(TrashedItem, Description)> = None;
        for item in trashed {
            if newest.as_ref().is_some_and(|(newest, _)| newest.deleted > item.deleted) {
                break;
            }
            let text =
                self.backend.trash_description(&item).map_err(|error| self.failed(verb, error))?;
            let read = text.and_then(|text| Description::read(&text));
            let Some(description) = read.filter(|read| read.name == *name) else { continue };
            // The cluster counts whole seconds. Of two that went within one, the younger volume
            // went last: it could not be made before the name was free.
            let created = description.record.created;
            if newest.as_ref().is_none_or(|(_, newest)| newest.record.created < created) {
                newest = Some((item, description));
            }
        }
        Ok(newest)
    }

    /// What says that it is the volume `name`, or the one that it becomes, and is no volume's.
    fn unrecorded(
        &self,
        verb: Verb<'_>,
        name: &VolumeName,
    ) -> Result<Option<(Place, Description)>> {
        let found = self.backend.restored(verb.name).map_err(|e| self.failed(verb, e))?;
        let described = found.into_iter().filter_map(|found| {
            let description = Description::read(&found.description?)?;
            let is_it = description.name == *name || description.name == *verb.name;
            (is_it && !description.forgotten).then_some((found.location, description))
        });
        for (location, description) in described {
            if !self.is_recorded(verb, &location)? {
                return Ok(Some((location, description)));
            }
        }
        Ok(None)
    }

    /// Does any volume lie there?
    pub(super) fn is_recorded(&self, verb: Verb<'_>, place: &Place) -> Result<bool> {
        let records = self.catalog.list().map_err(|error| self.failed(verb, error))?;
        Ok(records.values().any(|stored| stored.entry().record.location == *place))
    }

    /// Every image of ours in any trash that this client can see.
    pub(super) fn trashed(
        &self,
        op: &'static str,
        deadline: &Deadline,
    ) -> Result<Vec<TrashedItem>> {
        in_time(op, deadline)?;
        self.backend.trash().map_err(|error| of_all(op, &error))
    }

    /// Writes records for the volumes whose records are missing, from what they say of themselves.
    ///
    /// # Errors
    /// Where the cluster does not answer.
    pub fn rebuild(&self, deadline: &Deadline) -> Result<Rebuilt> {
        let op = "rebuild catalog";
        in_time(op, deadline)?;
        let fail = |error: String| VolumeError::new(op, "", ErrorKind::Unavailable, error);
        let records = self.catalog.list().map_err(|error| fail(error.to_string()))?;
        let mut rebuilt = Rebuilt::default();
        for found in self.backend.survey().map_err(|error| of_all(op, &error))? {
            self.rebuild_one(&found.location, found.description.as_deref(), &mut rebuilt)?;
        }
        for (name, stored) in records.iter() {
            if matches!(self.backend.info(&stored.entry().record.location), Err(BackendError::Cluster(error))
                if error.kind == ClusterErrorKind::NotFound)
            {
                rebuilt.without_image.push(name.to_string());
            }
        }
        Ok(rebuilt)
    }

    fn rebuild_one(
        &self,
        location: &Place,
        description: Option<&str>,
        rebuilt: &mut Rebuilt,
    ) -> Result<()> {
        let read = description.and_then(Description::read);
        let Some(description) = read.filter(|description| !description.forgotten) else {
            rebuilt.foreign.push(location.to_string());
            return Ok(());
        };
        let name = &description.name;
        let deadline = Deadline::after(std::time::Duration::from_secs(10));
        let verb = Verb::new("rebuild catalog", name, &deadline);
        let _guard = self.lock(verb)?;
        // Removed since it was listed.
        let Some(info) = self.image_info(verb, location)? else { return Ok(()) };
        let record = Record {
            location: location.clone(),
            size: info.size,
            id: Some(info.id),
            ..description.record.clone()
        };
        match self.insert(verb, &record) {
            // Removed between the scan and the record.
            Ok(entry) if self.image_info(verb, location)?.is_none() => {
                let dropped = self.catalog.remove(name, &entry);
                dropped.map_err(|error| self.failed(verb, error))?;
                self.known.note(name, None);
            }
            Ok(_) => rebuilt.added.push(name.to_string()),
            Err(Insert::Failed(error)) => return Err(error),
            Err(Insert::Taken) if self.entry(verb)?.record.location == *location => {
                rebuilt.kept.push(name.to_string());
            }
            // A copy of a volume's image says that it is that volume.
            Err(Insert::Taken) => rebuilt.foreign.push(location.to_string()),
        }
        Ok(())
    }
}

fn in_time(op: &'static str, deadline: &Deadline) -> Result<()> {
    if deadline.is_over() {
        return Err(VolumeError::new(op, "", ErrorKind::Unavailable, "no time was left"));
    }
    Ok(())
}

/// An error of something that is about no volume in particular.
fn of_all(op: &'static str, error: &BackendError) -> VolumeError {
    let kind = if error.may_pass() { ErrorKind::Unavailable } else { ErrorKind::Internal };
    VolumeError::new(op, "", kind, error.to_string())
}

/// The record of an image that nobody described: all of its file system, never formatted.
fn foreign(plan: &Plan) -> Record {
    Record {
        version: RECORD_VERSION,
        kind: plan.location.kind(),
        location: plan.location.clone(),
        size: plan.size,
        options: Options::new(),
        state: RecordState::Ready,
        work: None,
        created: Timestamp::now(),
        id: None,
        formatted: true,
        adopted: true,
        folder: String::new(),
        used: None,
        claim: None,
        sharers: Vec::new(),
        origin: None,
        renew_uuid: false,
        snapshots: SnapshotState::default(),
        rolling: None,
        files: None,
        other: serde_json::Map::new(),
    }
}
