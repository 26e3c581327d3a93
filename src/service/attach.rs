//! Mount and unmount: references, claims, and the way of an image to a mountpoint and back.
//!
//! What a mount did is undone by one function, [`Service::take_down`], from wherever it stopped:
//! a failed mount, the last unmount, a daemon that died in between, the reconciler.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::references::{Phase, Reference};
use super::{ErrorKind, Mounted, Result, Service, Verb, VolumeError};
use crate::backend::{
    AttachRequest, Attached, Attaching, Attachment, BackendError, MountPlan, Provisioning,
};
use crate::catalog::Entry;
use crate::deadline::Deadline;
use crate::system::Ownership;
use crate::volume::{ByteSize, MountId, Record, RecordState, VolumeName, VolumeOptions};

/// How long an undo may take after its cause used up the deadline.
const UNDO: Duration = Duration::from_secs(15);

/// Between two attempts of a mount that may still succeed.
const POLL: Duration = Duration::from_millis(500);

/// A container that has just ended may hold its mounts for a moment longer.
const LINGER: [u64; 4] = [20, 50, 100, 200];

impl Service {
    /// Docker's Mount. Waits and tries again, inside its deadline, for what may pass: one error
    /// leaves a `restart: always` container down for good.
    ///
    /// # Errors
    /// `NotFound`, `InUse` with the holder named, `Unavailable` by the deadline, `Internal` where
    /// a person has to look at the data.
    pub fn mount(&self, name: &VolumeName, id: &MountId, deadline: &Deadline) -> Result<Mounted> {
        let verb = Verb::new("mount", name, deadline);
        let _guard = self.lock(verb)?;
        loop {
            let error = match self.mount_once(verb, id) {
                Ok(mounted) => {
                    let mut observed = self.observed();
                    observed.errors.remove(name);
                    observed.broken.remove(name);
                    observed.backed.insert(name.clone(), Instant::now());
                    return Ok(mounted);
                }
                Err(error) => error,
            };
            self.observed().errors.insert(name.clone(), error.to_string());
            let again = error.kind == ErrorKind::Unavailable && deadline.wait(POLL);
            if !again {
                return Err(error);
            }
            tracing::debug!(volume = %name, %error, "mount is tried again");
        }
    }

    fn mount_once(&self, verb: Verb<'_>, id: &MountId) -> Result<Mounted> {
        if let Some(reference) = self.references.get(verb.name) {
            if self.is_whole(verb, &reference)? && self.serves(verb, &reference, &self.fenced()) {
                // Also one that was on its way down, and was held back by a user.
                let reference = Reference { phase: Phase::Mounted, ..reference };
                return self.add_id(verb, reference, id);
            }
            self.take_down(verb, reference)?;
        }
        self.await_cluster(verb)?;
        let record = self.ready(verb)?;
        if record.is_newer() && !record.is_read_only() {
            let newer = crate::catalog::CatalogError::Newer(record.version);
            return Err(self.failed(verb, newer));
        }
        self.refuse_rolling_below(verb, &record)?;
        let options = record.typed_options().map_err(|error| self.failed(verb, error))?;
        let reference = self.begin(verb, &record)?;
        match self.bring_up(verb, &reference, &options) {
            Ok(up) => self.add_id(verb, up, id),
            Err(error) => {
                let late = verb.deadline.for_undo(UNDO);
                let undo = Verb { deadline: &late, ..verb };
                let left = self.references.get(verb.name).unwrap_or(reference);
                match self.take_down(undo, left) {
                    Ok(()) => Err(error),
                    Err(undo) => {
                        let cause =
                            format!("{}; undoing it failed as well: {}", error.cause, undo.cause);
                        Err(VolumeError { cause, ..error })
                    }
                }
            }
        }
    }

    /// Is what the reference stands for mounted and alive?
    fn is_whole(&self, verb: Verb<'_>, reference: &Reference) -> Result<bool> {
        let evidence = self.backend.evidence().map_err(|error| self.failed(verb, error))?;
        Ok(reference.phase != Phase::Attaching
            && reference
                .attachment
                .as_ref()
                .is_some_and(|of| evidence.is_mounted(&of.attached, &reference.target)))
    }

    /// Does what is mounted still serve, as far as can be told? Where the cluster is away, nothing
    /// can be, and what is there is as good as anything new. An idle client does not know that it
    /// was fenced; the kernel's begins anew by itself, with another address.
    pub(super) fn serves(&self, verb: Verb<'_>, reference: &Reference, fenced: &[String]) -> bool {
        let Some(attachment) = &reference.attachment else { return false };
        let of_it = |address: &String| fenced.contains(address);
        if let Some(address) = attachment.address.as_ref().filter(|address| of_it(address))
            && !self.backend.is_client_gone(address).unwrap_or(false)
        {
            return false;
        }
        let brief = verb.deadline.at_most(Duration::from_secs(5));
        match self.backend.is_alive(&attachment.attached, &brief) {
            Ok(alive) => alive,
            Err(error) => {
                tracing::debug!(volume = %verb.name, %error, "whether it serves is not known");
                true
            }
        }
    }

    fn add_id(&self, verb: Verb<'_>, mut reference: Reference, id: &MountId) -> Result<Mounted> {
        let added = reference.ids.insert(id.clone());
        if added {
            self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        }
        self.observed().backed.insert(verb.name.clone(), Instant::now());
        Ok(Mounted { mountpoint: reference.mountpoint(), added })
    }

    /// Writes down what is about to be done.
    fn begin(&self, verb: Verb<'_>, record: &Record) -> Result<Reference> {
        let reference = Reference {
            name: verb.name.clone(),
            boot_id: self.host.boot_id.clone(),
            location: record.location.clone(),
            read_only: record.is_read_only(),
            shared: record.is_shared(),
            phase: Phase::Attaching,
            attachment: None,
            target: self.target(verb.name),
            folder: record.folder.clone(),
            since: Timestamp::now(),
            ids: BTreeSet::new(),
        };
        self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        Ok(reference)
    }

    /// Claim → map → claim with address → probe, format, check, mount → record.
    fn bring_up(
        &self,
        verb: Verb<'_>,
        begun: &Reference,
        options: &VolumeOptions,
    ) -> Result<Reference> {
        self.call_off_flatten(verb)?;
        let record = self.claim(verb, begun)?;
        // A rollback that began meanwhile has not seen the claim.
        self.refuse_rolling_below(verb, &record)?;
        let request = AttachRequest {
            location: begun.location.clone(),
            read_only: begun.read_only,
            target: begun.target.clone(),
            options: options.clone(),
        };
        let attachment = self
            .backend
            .attach(&request, verb.deadline)
            .map_err(|error| self.failed(verb, error))?;
        let folder = attachment.part.clone().unwrap_or_else(|| begun.folder.clone());
        let attached = Some(attachment.clone());
        let mut reference = Reference { attachment: attached, folder, ..begun.clone() };
        self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        self.confirm_claim(verb, &reference, &attachment)?;
        let plan = mount_plan(&reference, &record, options);
        let mounted = self.backend.mount(&attachment.attached, &plan, verb.deadline);
        mounted.map_err(|error| self.failed(verb, error))?;
        self.record_mount(verb, &record, &attachment)?;
        reference.phase = Phase::Mounted;
        self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        Ok(reference)
    }

    /// Records what the mount found or made.
    fn record_mount(&self, verb: Verb<'_>, record: &Record, attachment: &Attachment) -> Result<()> {
        let size = attachment.size;
        if let Some(folder) = attachment.part.clone().filter(|folder| *folder != record.folder) {
            let found = |record: &Record| Some(Record { folder: folder.clone(), ..record.clone() });
            return self.change(verb, found).map(drop);
        }
        if record.formatted && record.size == size && !record.renew_uuid {
            return Ok(());
        }
        if record.is_read_only() {
            return Ok(());
        }
        let found =
            |record: &Record| Record { formatted: true, renew_uuid: false, size, ..record.clone() };
        // The description first: a crash in between is met by the next mount, which comes here
        // again for as long as the record does not say it.
        self.describe(verb, &found(record))?;
        self.change(verb, |record| Some(found(record))).map(drop)
    }

    /// Docker's Unmount. An unknown ID is success; the volume is torn down when no ID and no other
    /// user is left.
    ///
    /// # Errors
    /// Where it should have been torn down and was not; it is tried again in the background.
    pub fn unmount(&self, name: &VolumeName, id: &MountId, deadline: &Deadline) -> Result<()> {
        let verb = Verb::new("unmount", name, deadline);
        let _guard = self.lock(verb)?;
        let Some(mut reference) = self.references.get(name) else { return Ok(()) };
        if reference.ids.remove(id) {
            self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        }
        if reference.ids.is_empty() && !self.lingers(verb, &reference)? {
            let down = self.take_down(verb, reference);
            return down.inspect_err(|error| {
                drop(self.observed().errors.insert(name.clone(), error.to_string()))
            });
        }
        Ok(())
    }

    /// Does a container still hold the file system, also after a moment?
    fn lingers(&self, verb: Verb<'_>, reference: &Reference) -> Result<bool> {
        for pause in LINGER {
            if !self.is_held(verb, reference)? {
                return Ok(false);
            }
            if !verb.deadline.wait(Duration::from_millis(pause)) {
                break;
            }
        }
        self.is_held(verb, reference)
    }

    /// Does a container hold the file system now?
    pub(super) fn is_held(&self, verb: Verb<'_>, reference: &Reference) -> Result<bool> {
        let Some(attachment) = &reference.attachment else { return Ok(false) };
        let holders = self.backend.holders(&attachment.attached, &reference.target);
        Ok(!holders.map_err(|error| self.failed(verb, error))?.is_empty())
    }

    /// Gives up a volume that is attached here and that nobody uses; refuses where somebody does.
    pub(super) fn let_go(&self, verb: Verb<'_>) -> Result<()> {
        match self.references.get(verb.name).map(|reference| reference.ids.len()) {
            None | Some(0) => self.let_go_of_unheld(verb),
            Some(1) => Err(in_use(verb, "1 mount")),
            Some(mounts) => Err(in_use(verb, &format!("{mounts} mounts"))),
        }
    }

    /// The same by what the kernel says alone, whatever mounts the engine has asked for.
    pub(super) fn let_go_of_unheld(&self, verb: Verb<'_>) -> Result<()> {
        let Some(reference) = self.references.get(verb.name) else { return Ok(()) };
        if self.is_held(verb, &reference)? {
            return Err(in_use(verb, "a container"));
        }
        self.take_down(verb, reference)
    }

    /// Undoes whatever of a mount is there, from wherever it stopped: unmount, unmap, drop the
    /// claim, drop the reference. A repeat goes on where the last one failed.
    pub(super) fn take_down(&self, verb: Verb<'_>, mut reference: Reference) -> Result<()> {
        self.searches.call_off(verb.name);
        if reference.phase != Phase::Detaching || !reference.ids.is_empty() {
            reference.phase = Phase::Detaching;
            reference.ids.clear();
            self.references.put(&reference).map_err(|error| self.failed(verb, error))?;
        }
        let step = |result: std::result::Result<(), BackendError>| {
            result.map_err(|error| self.failed(verb, error))
        };
        let used = self.last_use(verb, &reference);
        step(self.backend.unmount(&reference.location, &reference.target, verb.deadline))?;
        let evidence = self.backend.evidence().map_err(|error| self.failed(verb, error))?;
        for attached in evidence.of(&reference.location) {
            if !self.is_anothers(&reference, attached) {
                step(self.backend.detach(attached, verb.deadline))?;
            }
        }
        let entry = self.drop_claim(verb, &reference, used)?;
        self.close_removed(verb, &reference, entry.as_ref())?;
        self.references.remove(verb.name).map_err(|error| self.failed(verb, error))?;
        self.forget_observations(verb.name);
        Ok(())
    }

    /// Where it was removed while it was brought here, that may have made anew what the remove took.
    fn close_removed(
        &self,
        verb: Verb<'_>,
        reference: &Reference,
        entry: Option<&Entry>,
    ) -> Result<()> {
        let place = &reference.location;
        let removed = match entry.filter(|entry| entry.record.location == *place) {
            Some(entry) => entry.record.state == RecordState::Removing,
            None => !self.is_recorded(verb, place)?,
        };
        if removed {
            self.backend.close(place).map_err(|error| self.failed(verb, error))?;
        }
        Ok(())
    }

    /// What the file system holds, read while it is still there; else as last seen.
    fn last_use(&self, verb: Verb<'_>, reference: &Reference) -> Option<ByteSize> {
        let seen = self.observed().usage.get(verb.name).map(|usage| usage.used);
        if !self.is_whole(verb, reference).unwrap_or(false) {
            return seen;
        }
        let brief = verb.deadline.at_most(Duration::from_secs(5));
        self.backend
            .usage(&reference.location, &reference.target, &brief)
            .ok()
            .map(|usage| usage.used)
            .or(seen)
    }

    /// Does it belong to another volume over the same image (a read-only one)?
    fn is_anothers(&self, ours: &Reference, attached: &Attached) -> bool {
        self.references.all().iter().any(|other| {
            other.name != ours.name
                && other.location == ours.location
                && other.attachment.as_ref().is_none_or(|of| of.attached.is_same(attached))
        })
    }

    pub(super) fn forget_observations(&self, name: &VolumeName) {
        let mut observed = self.observed();
        observed.errors.remove(name);
        observed.broken.remove(name);
        observed.backed.remove(name);
        observed.usage.remove(name);
    }
}

fn in_use(verb: Verb<'_>, by: &str) -> VolumeError {
    verb.error(ErrorKind::InUse, format!("volume is in use by {by} on this host"))
        .advise(format!("stop its containers first; see docker ceph who {}", verb.name))
}

fn mount_plan(reference: &Reference, record: &Record, options: &VolumeOptions) -> MountPlan {
    let mut mount_options = options.mount_options.clone();
    if options.discard {
        mount_options.push("discard".to_owned());
    }
    let may_format = !record.formatted && !record.adopted && !reference.read_only;
    let made = record.formatted && !record.adopted;
    MountPlan {
        target: reference.target.clone(),
        folder: record.folder.clone(),
        owner: Ownership { uid: options.uid, gid: options.gid, mode: options.mode },
        read_only: reference.read_only,
        format: may_format.then(|| (options.fs_type, options.mkfs_options.clone())),
        renew_uuid: record.renew_uuid,
        made: made.then_some(options.fs_type),
        options: mount_options,
    }
}
