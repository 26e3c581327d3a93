//! What operators do to volumes: grow, trim, protect.

use std::path::Path;

use super::references::{Phase, Reference};
use super::{ErrorKind, Resized, Result, Service, Verb, VolumeError};
use crate::backend::{Attaching, Attachment, BackendError, Provisioning};
use crate::catalog::CatalogError;
use crate::deadline::Deadline;
use crate::system::SystemErrorKind;
use crate::volume::{ByteSize, Record, RecordState, VolumeKind, VolumeName};

impl Service {
    /// Grows the image, and the file system where it is mounted here; elsewhere the file system
    /// grows at the next mount. Of a folder of CephFS, sets the quota, which holds at once
    /// everywhere.
    ///
    /// # Errors
    /// `InvalidArgument` for an image's smaller size, a quota below what is used, or more than
    /// `max-size` allows; `InUse` where a kernel has the image mapped for writing; and as every
    /// verb.
    pub fn resize(
        &self,
        name: &VolumeName,
        size: ByteSize,
        deadline: &Deadline,
    ) -> Result<Resized> {
        let verb = Verb::new("resize", name, deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        let record = self.ready(verb)?;
        // A quota is none of its business, and may have to grow for it.
        if record.kind == VolumeKind::Rbd {
            self.refuse_rolling(verb, &record)?;
        }
        self.call_off_flatten_of(verb, &record)?;
        let from = self.backend.info(&record.location).map_err(|e| self.failed(verb, e))?.size;
        self.check_size(verb, &record, from, size)?;
        if size != from {
            let resized = self.backend.resize(&record.location, size);
            resized.map_err(|error| self.not_resized(verb, error))?;
        }
        self.change(verb, |record| Some(Record { size, ..record.clone() }))?;
        let mounted = self.references.get(name).filter(|r| r.phase == Phase::Mounted);
        let file_system_grown = match mounted {
            Some(Reference { attachment: Some(attachment), target, read_only: false, .. }) => {
                self.grow_mounted(verb, &attachment, &target)?
            }
            _ => false,
        };
        Ok(Resized { from, to: size, file_system_grown })
    }

    /// A kernel that has mapped the image keeps its lock, and cannot grow it for others.
    fn not_resized(&self, verb: Verb<'_>, error: BackendError) -> VolumeError {
        match error {
            BackendError::Cluster(error) if error.errno == libc::EROFS => verb
                .error(ErrorKind::InUse, "volume is mapped by krbd, which keeps its size meanwhile")
                .advise("stop its containers, resize it, and start them again"),
            error => self.failed(verb, error),
        }
    }

    /// False where this host cannot grow it while it is mounted.
    fn grow_mounted(&self, verb: Verb<'_>, attachment: &Attachment, target: &Path) -> Result<bool> {
        match self.backend.grow(&attachment.attached, target, verb.deadline) {
            Ok(()) => Ok(true),
            Err(BackendError::System(error))
                if matches!(error.kind, SystemErrorKind::Refused(_)) =>
            {
                tracing::warn!(volume = %verb.name, %error, "the file system grows later");
                Ok(false)
            }
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    fn check_size(
        &self,
        verb: Verb<'_>,
        record: &Record,
        from: ByteSize,
        to: ByteSize,
    ) -> Result<()> {
        if to < from && record.kind == VolumeKind::Rbd {
            let cause = format!("volume has {from}, and cannot be made smaller ({to})");
            return Err(verb
                .error(ErrorKind::InvalidArgument, cause)
                .advise("create a smaller one and copy the data"));
        }
        match self.settings.max_size {
            Some(max) if to > max => {
                let cause = format!("{to} is more than the setting max-size allows ({max})");
                Err(verb.error(ErrorKind::InvalidArgument, cause))
            }
            _ => Ok(()),
        }
    }

    /// Gives unused blocks back to the cluster; the volume has to be mounted here.
    ///
    /// # Errors
    /// `InvalidArgument` where it is not mounted here, and as every verb.
    pub fn trim(&self, name: &VolumeName, deadline: &Deadline) -> Result<ByteSize> {
        let verb = Verb::new("trim", name, deadline);
        let _guard = self.lock(verb)?;
        match self.references.get(name) {
            Some(reference) if !can_discard(&reference) => Err(verb
                .error(ErrorKind::InvalidArgument, "what it is mounted by cannot give blocks back")
                .advise("of images only krbd and nbd can; CephFS frees blocks by itself")),
            Some(reference) if reference.phase == Phase::Mounted && !reference.read_only => self
                .backend
                .trim(&reference.location, &reference.target, deadline)
                .map_err(|error| self.failed(verb, error)),
            _ => {
                // Tells a volume that is not there from one that is not mounted here.
                self.entry(verb)?;
                Err(verb
                    .error(ErrorKind::InvalidArgument, "volume is not mounted for writing here")
                    .advise("run it on the host that has it (docker ceph who), while it is in use"))
            }
        }
    }

    /// Sets or lifts delete protection.
    ///
    /// # Errors
    /// As every verb.
    pub fn protect(&self, name: &VolumeName, protected: bool, deadline: &Deadline) -> Result<()> {
        let op = if protected { "protect" } else { "unprotect" };
        let verb = Verb::new(op, name, deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        self.ready(verb)?;
        let record = self.change(verb, |record| {
            let mut record = record.clone();
            record.options.insert("protected".to_owned(), protected.to_string());
            Some(record)
        })?;
        if record.is_read_only() { Ok(()) } else { self.describe(verb, &record) }
    }

    /// The record of a volume that can be worked with.
    pub(super) fn ready(&self, verb: Verb<'_>) -> Result<Record> {
        let entry = self.entry(verb)?;
        match entry.record.state {
            RecordState::Ready => Ok(entry.record),
            RecordState::Creating => Ok(self.take_over_create(verb, &entry)?.record),
            RecordState::Removing => {
                Err(verb.error(ErrorKind::NotFound, "the volume is being removed"))
            }
        }
    }

    /// Changes the volume's record, and returns it as it stands then.
    pub(super) fn change(
        &self,
        verb: Verb<'_>,
        change: impl Fn(&Record) -> Option<Record>,
    ) -> Result<Record> {
        let entry = self
            .catalog
            .update(verb.name, change)
            .map_err(|error: CatalogError| self.failed(verb, error))?
            .ok_or_else(|| verb.error(ErrorKind::NotFound, "the volume was removed meanwhile"))?;
        self.known.note(verb.name, Some(&entry));
        Ok(entry.record)
    }
}

/// The kernel would say that it trimmed, and `rbd-fuse` would have freed nothing.
fn can_discard(reference: &Reference) -> bool {
    let attachment = reference.attachment.as_ref();
    attachment.is_none_or(|attachment| attachment.attached.can_discard())
}
