//! The fenced host: notices that a volume was taken from it, and stops using it.
//!
//! An idle kernel gets no error when its client is fenced: buffered writes succeed and cached reads
//! work. So whoever holds a volume looks, every few seconds, whether it still does:
//!
//! ```text
//!  own watch stands                                  it still holds it
//!  no own watch, fenced or no claim of its own       it was taken: cut off
//!  no own watch, neither                             the watch is being made anew: look again
//!  the cluster does not answer                       nothing is known: look again
//! ```
//!
//! *Cutting off* ends the way from the containers to the image at its lowest point, at once and
//! without a flush: their IO fails rather than hangs, and nothing of theirs reaches the cluster. The
//! file system stays for as long as containers hold it, and the volume is `broken` here until then,
//! or until it is mounted again, which starts afresh with a new client.
//!
//! # The fence is the only fence
//!
//! A client that was fenced and is let in again writes on, under the new holder's lock: neither the
//! kernel nor the OSDs look at the lock. So an entry of the blocklist is removed only by the boot
//! of the host that it names, when nothing of that client is left in its kernel. Nobody else can
//! know; the entry then stands for its year, and harms no one: a new client has a new nonce.

use super::references::{Phase, Reference};
use super::{Service, Verb};
use crate::audit::audit;
use crate::backend::{Attaching, Attachment, Provisioning};
use crate::catalog::Fence;
use crate::deadline::Deadline;
use crate::volume::{Claim, Record};

impl Service {
    /// Looks whether this host still holds what it has mounted for writing. Called every few
    /// seconds: one small read for each volume, while all is well.
    pub fn check_holds(&self, deadline: &Deadline) {
        if self.known.is_away() {
            return;
        }
        for reference in self.references.all() {
            let Some(_guard) = self.locks.try_lock(&reference.name) else { continue };
            // It may have changed before the lock was ours.
            let Some(reference) = self.references.get(&reference.name) else { continue };
            let Some(attachment) = held(&reference) else { continue };
            let verb = Verb::new("check", &reference.name, deadline);
            match self.was_taken(verb, &reference, attachment) {
                Ok(Some(why)) => self.cut_off(verb, &reference, attachment, &why),
                Ok(None) => {}
                Err(error) => tracing::debug!(volume = %verb.name, %error, "not checked"),
            }
        }
    }

    /// The client instances that are fenced, if anything is shared here whose client could be.
    pub(super) fn fenced(&self) -> Vec<String> {
        let shares = |reference: &Reference| {
            reference.shared && reference.attachment.as_ref().is_some_and(|of| of.address.is_some())
        };
        if self.known.is_away() || !self.references.all().iter().any(shares) {
            return Vec::new();
        }
        self.backend.fenced().unwrap_or_else(|error| {
            tracing::debug!(%error, "who is fenced is not known");
            Vec::new()
        })
    }

    /// Why the volume is not this host's any more, where it is not.
    fn was_taken(
        &self,
        verb: Verb<'_>,
        reference: &Reference,
        attachment: &Attachment,
    ) -> super::Result<Option<String>> {
        let Some(address) = &attachment.address else { return Ok(None) };
        let watchers = self.backend.watchers(&reference.location);
        let watchers = watchers.map_err(|error| self.failed(verb, error))?;
        if watchers.iter().any(|watcher| watcher.address == *address) {
            return Ok(None);
        }
        let record = self.entry(verb)?.record;
        if let Some(why) = claimed_away(&record, reference) {
            return Ok(Some(why));
        }
        let fenced = self.backend.fenced().map_err(|error| self.failed(verb, error))?;
        if fenced.contains(address) {
            return Ok(Some(format!("its client {address} was fenced")));
        }
        tracing::warn!(volume = %verb.name, address, "the image is not watched by this host");
        Ok(None)
    }

    /// Ends the containers' way to the image. What fails of it is tried again at the next look.
    fn cut_off(&self, verb: Verb<'_>, reference: &Reference, attachment: &Attachment, why: &str) {
        let text = format!("the volume was taken from this host: {why}; restart its containers");
        let new = self.observed().broken.insert(verb.name.clone(), text).is_none();
        if new {
            tracing::error!(volume = %verb.name, why, "volume was taken from this host: cutting off");
        }
        let cut = self.backend.cut_off(&attachment.attached, &reference.target, verb.deadline);
        if let Err(error) = cut {
            tracing::error!(volume = %verb.name, %error, "not cut off; tried again");
        }
    }

    /// Lets those clients of this boot in again of which nothing is left, so that the blocklist does
    /// not grow for ever. Needs the right to; without it the entries stay.
    pub(super) fn forget_own_fences(&self) {
        let fences = match self.fences.all() {
            Ok(fences) => fences,
            Err(error) => return tracing::debug!(%error, "fences not read"),
        };
        let own = |fence: &&Fence| fence.boot_id == self.host.boot_id;
        for fence in fences.iter().filter(own) {
            if self.is_left(&fence.address) {
                continue;
            }
            let address = &fence.address;
            let gone = self.backend.unfence(address).map_err(|error| error.to_string());
            match gone.and_then(|()| self.fences.remove(address).map_err(|e| e.to_string())) {
                Ok(()) => {
                    audit!(address, volume = %fence.volume, "fence removed: client is gone")
                }
                Err(error) => tracing::debug!(address, error, "fence stays"),
            }
        }
    }

    /// Is anything left of a client on this host, as far as can be seen? In doubt, yes.
    fn is_left(&self, address: &str) -> bool {
        let referenced = |reference: Reference| {
            reference.attachment.is_some_and(|of| of.address.as_deref() == Some(address))
        };
        self.references.all().into_iter().any(referenced)
            || !self.backend.is_client_gone(address).unwrap_or(false)
    }
}

/// The attachment of a volume that this host writes, or may.
fn held(reference: &Reference) -> Option<&Attachment> {
    let writes = !reference.shared && reference.phase == Phase::Mounted;
    reference.attachment.as_ref().filter(|_| writes)
}

/// What became of this reference's claim, where the record does not have it any more. Whoever took
/// the volume may have given it up since.
fn claimed_away(record: &Record, reference: &Reference) -> Option<String> {
    match &record.claim {
        Some(claim) if reference.has_made(claim) => None,
        Some(Claim { host, since, .. }) => Some(format!("host {host} took it at {since:.0}")),
        None => Some("another host took it, and has given it up since".to_owned()),
    }
}
