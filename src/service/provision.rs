//! Create, and finishing what a dead daemon left half-created.
//!
//! Two daemons may ask for one name at once; the compare-and-set of the record decides. Who has
//! written `creating` or `removing` works alone until the record is `ready` or gone: its name and
//! the time stand in the record, and another daemon takes over only when no verb can last that
//! long.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::asked::differs;
use super::{Created, ErrorKind, Result, Service, Verb};
use crate::backend::{Plan, Provisioning};
use crate::catalog::{CatalogError, Entry};
use crate::deadline::Deadline;
use crate::volume::{
    FolderPath, Options, RECORD_VERSION, Record, RecordState, RemovePolicy, SnapshotSpec,
    SnapshotState, VolumeKind, VolumeName, VolumeOptions, Work, is_scheduled,
};

/// Longer than any verb lasts, its undo included: after that nobody is at it any more.
pub(super) const LEASE: SignedDuration = SignedDuration::from_mins(3);

/// How often a record that another daemon works on is looked at again.
const POLL: Duration = Duration::from_millis(100);

/// The folder that containers see of a file system that we made: `lost+found` lies beside it.
pub(super) const FOLDER: &str = "_data";

/// What containers see of a new volume.
fn folder_of(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Rbd => FOLDER,
        VolumeKind::CephFs => "",
    }
}

impl Service {
    /// Docker's Create. What is there with the same options is success.
    ///
    /// # Errors
    /// `InvalidArgument` for options that cannot be used, `AlreadyExists` where the name stands for
    /// something else, `Unavailable` where the cluster does not answer, `NoSpace` where it is full.
    pub fn create(
        &self,
        name: &VolumeName,
        given: &Options,
        deadline: &Deadline,
    ) -> Result<Created> {
        let verb = Verb::new("create", name, deadline);
        let wish = self.wish(verb, given)?;
        let created = self.create_or_find(verb, given, &wish)?;
        if created == Created::Created {
            self.flatten_new(verb);
        }
        Ok(created)
    }

    /// What is asked for, as far as that can be said without the cluster.
    fn wish(&self, verb: Verb<'_>, given: &Options) -> Result<Wish> {
        if let Some(from) = self.rules.origin_of(given).map_err(|e| self.failed(verb, e))? {
            return Ok(Wish::Clone { from });
        }
        let options = self.rules.for_new_volume(given).map_err(|e| self.failed(verb, e))?;
        let typed = VolumeOptions::from_canonical(&options).map_err(|e| self.failed(verb, e))?;
        Ok(Wish::New { options, typed: Box::new(typed) })
    }

    fn create_or_find(&self, verb: Verb<'_>, given: &Options, wish: &Wish) -> Result<Created> {
        let (name, deadline) = (verb.name, verb.deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        while !deadline.is_over() {
            let entry = self.catalog.get(name).map_err(|error| self.failed(verb, error))?;
            let Some(entry) = entry else {
                match self.make(verb, given, wish) {
                    Ok(()) => return Ok(Created::Created),
                    // Somebody else was faster: look again at what it made.
                    Err(Insert::Taken) => continue,
                    Err(Insert::Failed(error)) => return Err(error),
                }
            };
            match entry.record.state {
                RecordState::Removing => match self.take_over_remove(verb, &entry) {
                    Err(error) if !may_wait(&error, deadline) => return Err(error),
                    _ => continue,
                },
                _ if !self.is_same(&entry.record, given) => return Err(differs(verb, &entry)),
                RecordState::Ready => return Ok(Created::AlreadyThere),
                RecordState::Creating => match self.take_over_create(verb, &entry) {
                    Ok(_) => return Ok(Created::Created),
                    Err(error) if !may_wait(&error, deadline) => {
                        return match self.is_copying(name, &entry.record) {
                            true => Ok(Created::AlreadyThere),
                            false => Err(error),
                        };
                    }
                    Err(_) => continue,
                },
            }
        }
        Err(verb.error(ErrorKind::Unavailable, "other hosts work on this name all the time"))
    }

    /// Makes a volume of a name that had no record.
    fn make(
        &self,
        verb: Verb<'_>,
        given: &Options,
        wish: &Wish,
    ) -> std::result::Result<(), Insert> {
        let (typed, options) = match wish {
            Wish::New { typed, options } => (typed, options.clone()),
            Wish::Clone { from } => {
                return self
                    .make_clone(verb, from, given)
                    .map_err(|error| self.unless_taken(verb, error));
            }
        };
        let plan = match &typed.path {
            Some(FolderPath::Within { volume, folder }) => {
                return match self.plan_within(verb, volume, folder) {
                    Ok(plan) => self.insert_adopted(verb, &plan, options),
                    Err(error) => Err(Insert::Failed(error)),
                };
            }
            _ => self.backend.plan(verb.name, typed),
        };
        match plan {
            Ok(plan) if plan.adopted => self.insert_adopted(verb, &plan, options),
            Ok(plan) => self.insert_new(verb, plan, options),
            Err(error) => Err(self.unless_taken(verb, Insert::Failed(self.failed(verb, error)))),
        }
    }

    /// What is in the way may be what another host has just made of this very name.
    fn unless_taken(&self, verb: Verb<'_>, error: Insert) -> Insert {
        match self.is_gone(verb) {
            Ok(false) => Insert::Taken,
            _ => error,
        }
    }

    fn insert_new(
        &self,
        verb: Verb<'_>,
        plan: Plan,
        options: Options,
    ) -> std::result::Result<(), Insert> {
        let kind = plan.location.kind();
        let snapshots = self.new_snapshot_state(verb, &options).map_err(Insert::Failed)?;
        let record = Record {
            version: RECORD_VERSION,
            kind,
            location: plan.location,
            size: plan.size,
            options,
            state: RecordState::Creating,
            work: Some(self.work()),
            created: Timestamp::now(),
            id: None,
            formatted: kind == VolumeKind::CephFs,
            adopted: false,
            folder: folder_of(kind).to_owned(),
            used: None,
            claim: None,
            sharers: Vec::new(),
            snapshots,
            rolling: None,
            files: None,
            origin: None,
            renew_uuid: false,
            other: serde_json::Map::new(),
        };
        let entry = self.insert(verb, &record)?;
        self.finish_new(verb, &entry)
    }

    /// Finishes a create of ours. A copy that only takes long goes on by itself, and the create has
    /// succeeded: to undo it would lose what is copied.
    pub(super) fn finish_new(
        &self,
        verb: Verb<'_>,
        entry: &Entry,
    ) -> std::result::Result<(), Insert> {
        let Err(error) = self.finish_create(verb, entry.clone()) else { return Ok(()) };
        if self.is_copying(verb.name, &entry.record) {
            self.leave_copying(verb);
            self.follow_copy(verb.name);
            return Ok(());
        }
        // The attempt is over: nothing of it is to be left, where the cluster lets us.
        if let Err(undo) = self.undo_create(verb, entry) {
            tracing::warn!(%undo, "a failed create is left to be undone later");
        }
        Err(Insert::Failed(error))
    }

    /// What a new volume's record says of its snapshots: its schedule begins now.
    pub(super) fn new_snapshot_state(
        &self,
        verb: Verb<'_>,
        options: &Options,
    ) -> Result<SnapshotState> {
        let since = is_scheduled(options).then(|| self.cluster_time(verb)).transpose()?;
        Ok(SnapshotState { since, ..SnapshotState::default() })
    }

    /// Writes the first record of a name.
    pub(super) fn insert(
        &self,
        verb: Verb<'_>,
        record: &Record,
    ) -> std::result::Result<Entry, Insert> {
        match self.catalog.insert(verb.name, record) {
            Err(CatalogError::Changed) => Err(Insert::Taken),
            Err(error) => Err(Insert::Failed(self.failed(verb, error))),
            Ok(entry) => {
                self.known.note(verb.name, Some(&entry));
                Ok(entry)
            }
        }
    }

    /// Finishes a create that an earlier daemon began.
    pub(super) fn take_over_create(&self, verb: Verb<'_>, entry: &Entry) -> Result<Entry> {
        let entry = self.take_over(verb, entry)?;
        self.finish_create(verb, entry.clone()).inspect_err(|_| {
            if self.is_copying(verb.name, &entry.record) {
                self.leave_copying(verb);
            }
        })
    }

    /// Takes a `creating` record of ours to `ready`; every step may have been done already.
    fn finish_create(&self, verb: Verb<'_>, entry: Entry) -> Result<Entry> {
        let mut record = Record { state: RecordState::Ready, work: None, ..entry.record.clone() };
        if let Some(origin) = &record.origin {
            self.make_of_origin(verb, &record, origin)?;
        } else if !record.adopted {
            let options = record.typed_options().map_err(|error| self.failed(verb, error))?;
            let made = self.backend.provision(&record.location, &options);
            made.map_err(|error| self.failed(verb, error))?;
        }
        let info = self.backend.info(&record.location).map_err(|e| self.failed(verb, e))?;
        record.id = Some(info.id);
        if let Some(origin) = &mut record.origin {
            record.size = info.size;
            origin.alone = record.kind == VolumeKind::CephFs;
        }
        self.describe(verb, &record)?;
        let ready = self.catalog.replace(verb.name, &entry, &record);
        let entry = ready.map_err(|error| self.failed(verb, error))?;
        self.known.note(verb.name, Some(&entry));
        self.forget_origin(verb, &record);
        Ok(entry)
    }

    /// Makes the work on a record that is not `ready` ours: at once where it was ours before a
    /// restart, and else only when whoever began it cannot be at it any more. Two daemons that took
    /// one record to its end at once could make or remove each other's image.
    pub(super) fn take_over(&self, verb: Verb<'_>, entry: &Entry) -> Result<Entry> {
        let ours = self.work();
        let at_it =
            |work: &&Work| work.by != ours.by && ours.since.duration_since(work.since) < LEASE;
        if let Some(work) = entry.record.work.as_ref().filter(at_it) {
            let state = entry.record.state.as_str();
            let cause = format!("host {} is {state} it since {:.0}", work.host, work.since);
            return Err(verb.error(ErrorKind::Unavailable, cause).advise(
                "try again in a moment; what a dead host began is taken over after 3 minutes",
            ));
        }
        let record = Record { work: Some(ours), ..entry.record.clone() };
        self.catalog.replace(verb.name, entry, &record).map_err(|error| self.failed(verb, error))
    }

    /// This daemon at work now. It is known by its boot and its state folder, so that one that is
    /// started again goes on with what it began.
    pub(super) fn work(&self) -> Work {
        let folder = self.settings.state_folder.display();
        Work {
            by: format!("{}:{folder}", self.host.boot_id),
            host: self.host.name.clone(),
            since: Timestamp::now(),
        }
    }

    /// Writes on the volume itself what it is.
    pub(super) fn describe(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let text = serde_json::to_string(&record.description(verb.name))
            .map_err(|error| verb.error(ErrorKind::Internal, error.to_string()))?;
        self.backend.describe(&record.location, &text).map_err(|error| self.failed(verb, error))
    }

    /// Undoes a create that an earlier daemon began.
    pub(super) fn take_over_undo(&self, verb: Verb<'_>, entry: &Entry) -> Result<()> {
        let entry = self.take_over(verb, entry)?;
        self.undo_create(verb, &entry)
    }

    /// Undoes a create of ours that did not become `ready`. Its image is deleted only while it is
    /// empty.
    fn undo_create(&self, verb: Verb<'_>, entry: &Entry) -> Result<()> {
        let mut removing = Record { state: RecordState::Removing, ..entry.record.clone() };
        self.abandon_copy(verb, &removing)?;
        // What a clone has is its origin's still.
        if removing.origin.is_some() || self.is_untouched(&removing) {
            removing.options.insert("on-remove".to_owned(), RemovePolicy::Delete.to_string());
        }
        let entry = self
            .catalog
            .replace(verb.name, entry, &removing)
            .map_err(|error| self.failed(verb, error))?;
        self.finish_remove(verb, &entry)
    }
}

/// Another daemon at work on the same name is done in a moment: is there time to look again?
fn may_wait(error: &super::VolumeError, deadline: &Deadline) -> bool {
    error.kind == ErrorKind::Unavailable && deadline.wait(POLL)
}

/// What a new volume is to be.
enum Wish {
    /// Empty, or of what is there.
    New {
        /// Canonical options, checked as a whole.
        options: Options,
        /// The same, typed.
        typed: Box<VolumeOptions>,
    },
    /// Of another volume, which decides what can be asked for.
    Clone {
        /// The volume, or a snapshot of it.
        from: SnapshotSpec,
    },
}

/// Why a record was not inserted.
#[derive(Debug)]
pub(super) enum Insert {
    /// The name has a record by now.
    Taken,
    /// It did not work.
    Failed(super::VolumeError),
}
