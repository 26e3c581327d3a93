//! Remove, and finishing what a dead daemon left half-removed.
//!
//! What is removed is what has the record's ID, never another of the same name: the record says
//! `removing` first, and goes last, so that whoever meets it goes on. A remove that the cluster refuses
//! has changed nothing.

use super::{ErrorKind, Result, Service, Verb};
use crate::backend::{BackendError, Provisioning, StoredInfo};
use crate::catalog::{CatalogError, Entry};
use crate::ceph::ClusterErrorKind;
use crate::deadline::Deadline;
use crate::volume::{Place, Record, RecordState, RemovePolicy, VolumeKind, VolumeName};

impl Service {
    /// Docker's Remove, by the volume's own policy or the given one.
    ///
    /// # Errors
    /// `NotFound`, `InUse` with the users named, `InvalidArgument` for a protected volume,
    /// `Unavailable` where the cluster does not answer.
    pub fn remove(
        &self,
        name: &VolumeName,
        policy: Option<RemovePolicy>,
        deadline: &Deadline,
    ) -> Result<()> {
        let verb = Verb::new("remove", name, deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        if self.known.disown(name) && self.is_gone(verb)? {
            return Ok(());
        }
        let entry = self.entry(verb)?;
        match entry.record.state {
            RecordState::Creating => return self.take_over_undo(verb, &entry),
            RecordState::Removing => return self.take_over_remove(verb, &entry),
            RecordState::Ready => {}
        }
        self.refuse_protected(verb, &entry.record)?;
        self.refuse_rolling(verb, &entry.record)?;
        self.refuse_with_folders(verb, &entry.record)?;
        self.let_go(verb)?;
        self.call_off_flatten_of(verb, &entry.record)?;
        // Both have changed the record.
        let entry = self.without_gone_sharers(verb, self.entry(verb)?)?;
        let policy = policy.unwrap_or_else(|| policy_of(&entry.record));
        self.refuse_claimed(verb, &entry.record, policy)?;
        if policy != RemovePolicy::Keep {
            self.refuse_with_clones(verb, &entry.record, policy == RemovePolicy::Delete)?;
        }
        let mut removing = Record {
            state: RecordState::Removing,
            work: Some(self.work()),
            ..entry.record.clone()
        };
        if policy == RemovePolicy::Keep {
            self.describe_forgotten(verb, &entry.record)?;
            // It is nobody's any more.
            removing.adopted = true;
            removing.options.remove("on-remove");
        } else {
            removing.options.insert("on-remove".to_owned(), policy.to_string());
        }
        self.remove_marked(verb, &entry, &removing)
    }

    /// To forget a reader of an image is nothing to the image's writer. Where nobody claims the
    /// volume, the cluster refuses by itself to take an image from somebody who has it open.
    fn refuse_claimed(&self, verb: Verb<'_>, record: &Record, policy: RemovePolicy) -> Result<()> {
        let claimed = record.claim.is_some() || !record.sharers.is_empty();
        let forget = policy == RemovePolicy::Keep;
        if claimed || (forget && !record.is_read_only()) {
            return self.refuse_used(verb, record);
        }
        Ok(())
    }

    fn remove_marked(&self, verb: Verb<'_>, entry: &Entry, removing: &Record) -> Result<()> {
        let marked = self.catalog.replace(verb.name, entry, removing);
        let marked = marked.map_err(|error| self.failed(verb, error))?;
        self.known.note(verb.name, Some(&marked));
        self.finish_remove(verb, &marked).map_err(|error| {
            self.revert_remove(verb, &marked, &entry.record);
            match self.refuse_used(verb, &entry.record) {
                // It names who it is.
                Err(used) if error.kind == ErrorKind::InUse => used,
                _ => error,
            }
        })
    }

    /// Finishes a remove that an earlier daemon began.
    pub(super) fn take_over_remove(&self, verb: Verb<'_>, entry: &Entry) -> Result<()> {
        let entry = self.take_over(verb, entry)?;
        self.finish_remove(verb, &entry)
    }

    /// Is there no record of that name?
    pub(super) fn is_gone(&self, verb: Verb<'_>) -> Result<bool> {
        let entry = self.catalog.get(verb.name).map_err(|error| self.failed(verb, error))?;
        Ok(entry.is_none())
    }

    /// Takes a `removing` record of ours to its end; every step may have been done already.
    pub(super) fn finish_remove(&self, verb: Verb<'_>, entry: &Entry) -> Result<()> {
        let record = &entry.record;
        if record.is_view() {
            // Nothing is its own.
        } else if !record.adopted || record.options.contains_key("on-remove") {
            let keep = match record.typed_options() {
                Ok(options) if options.on_remove == RemovePolicy::Delete => None,
                Ok(options) => Some(options.trash_expiry),
                Err(error) => return Err(self.failed(verb, error)),
            };
            if self.is_its_image(verb, record)? {
                let gone = self.backend.deprovision(&record.location, keep);
                gone.map_err(|error| self.failed(verb, error))?;
            }
            if let Some(origin) = record.origin.as_ref().filter(|_| keep.is_none()) {
                self.drop_implicit(verb, origin);
            }
        } else if !self.is_anothers_too(verb, &record.location)? {
            self.backend.close(&record.location).map_err(|error| self.failed(verb, error))?;
        }
        match self.catalog.remove(verb.name, entry) {
            // Somebody else has finished it.
            Ok(()) | Err(CatalogError::Changed) => {
                self.known.note(verb.name, None);
                self.forget_observations(verb.name);
                Ok(())
            }
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    /// Is what lies there the record's image, and not another that has its name by now?
    fn is_its_image(&self, verb: Verb<'_>, record: &Record) -> Result<bool> {
        let Some(found) = self.image_info(verb, &record.location)? else { return Ok(false) };
        match &record.id {
            Some(id) => Ok(*id == found.id),
            None => Ok(!self.is_anothers_too(verb, &record.location)?),
        }
    }

    /// What the image says of itself; `None` where there is none.
    pub(super) fn image_info(
        &self,
        verb: Verb<'_>,
        location: &Place,
    ) -> Result<Option<StoredInfo>> {
        match self.backend.info(location) {
            Ok(info) => Ok(Some(info)),
            Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    /// Did the image never hold a byte? What a failed create leaves would only clutter the trash.
    pub(super) fn is_untouched(&self, record: &Record) -> bool {
        (record.kind == VolumeKind::CephFs || !record.formatted)
            && !record.adopted
            && self.backend.stored(&record.location).is_ok_and(|stored| stored.bytes() == 0)
    }

    /// A remove that was refused by the cluster has changed nothing.
    fn revert_remove(&self, verb: Verb<'_>, marked: &Entry, before: &Record) {
        // Where the image is gone, or in doubt, the record stays `removing`, and is finished later.
        if self.backend.info(&before.location).is_ok()
            && let Ok(entry) = self.catalog.replace(verb.name, marked, before)
        {
            self.known.note(verb.name, Some(&entry));
        }
    }

    /// What is left where it is says that it was let go on purpose.
    fn describe_forgotten(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        if record.is_read_only() {
            return Ok(());
        }
        let mut description = record.description(verb.name);
        description.forgotten = true;
        let text = serde_json::to_string(&description)
            .map_err(|error| verb.error(ErrorKind::Internal, error.to_string()))?;
        match self.backend.describe(&record.location, &text) {
            Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| self.failed(verb, error)),
        }
    }

    fn refuse_protected(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        if !record.is_protected() {
            return Ok(());
        }
        Err(verb
            .error(ErrorKind::InvalidArgument, "volume is protected")
            .advise(format!("lift that with: docker ceph unprotect {}", verb.name)))
    }

    /// Refuses while another host, or a client that nobody knows of, has the image open.
    fn refuse_used(&self, verb: Verb<'_>, record: &Record) -> Result<()> {
        let watchers = match self.backend.watchers(&record.location) {
            Ok(watchers) => watchers,
            Err(BackendError::Cluster(error)) if error.kind == ClusterErrorKind::NotFound => {
                Vec::new()
            }
            Err(error) => return Err(self.failed(verb, error)),
        };
        if let Some(reader) = record.sharers.first() {
            let cause = format!("volume is in use on host {}", reader.host);
            return Err(verb.error(ErrorKind::InUse, cause).advise("stop its containers first"));
        }
        if watchers.is_empty() {
            return Ok(());
        }
        let held = super::claim::Held {
            claim: record.claim.clone(),
            watchers: watchers.into_iter().map(|watcher| watcher.address).collect(),
        };
        Err(verb.error(ErrorKind::InUse, held.to_string()).advise("stop its containers first"))
    }
}

/// What happens to the data where nobody says so: ours goes to the trash, another's is kept.
fn policy_of(record: &Record) -> RemovePolicy {
    let asked = record.options.get("on-remove").and_then(|policy| policy.parse().ok());
    let shown = record.origin.is_some() && record.is_read_only();
    asked.unwrap_or(match record.adopted {
        true => RemovePolicy::Keep,
        // Nobody has written anything that is not in the snapshot.
        false if shown => RemovePolicy::Delete,
        false => RemovePolicy::Trash,
    })
}
