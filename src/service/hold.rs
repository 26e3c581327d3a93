//! Taking a volume for this host, and giving it up.
//!
//! ```text
//!  look: claim, watchers, lock owner ──▶ judge ─┬─ held ──▶ look again, until busy-wait is over
//!        (and their silence)                    ├─ dead ──▶ write the fence down ─▶ fence ─┐
//!                                               └─ free ────────────────────────────────┤
//!  claim without address  ◀─ compare-and-set, on the record that was judged ◀────────────┘
//!  map the image
//!  claim with address     ◀─ compare-and-set: fails where another host was quicker
//!  probe, format, mount: only from here on is the image touched
//! ```
//!
//! What makes a holder dead is in `claim`; what a fence is, in the backend; what a host does whose
//! volume was taken, in `fenced`. A daemon that is killed anywhere in between leaves a claim that
//! is either without an address, and is waited out, or judged like that of any host that died.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::claim::{Held, Sight, Silence, Verdict, judge};
use super::references::Reference;
use super::{ErrorKind, Result, Service, Verb, VolumeError};
use crate::backend::{Attachment, Fencing, Provisioning};
use crate::catalog::{CatalogError, Entry, Fence};
use crate::volume::{ByteSize, Claim, Record, RecordState};

/// How often a holder is looked at again.
const POLL: Duration = Duration::from_millis(500);

impl Service {
    /// Takes the volume for this host, waiting for another one to let go of it.
    pub(super) fn claim(&self, verb: Verb<'_>, reference: &Reference) -> Result<Record> {
        let waiting = verb.deadline.at_most(self.settings.busy_wait);
        let mut first_seen: Option<Claim> = None;
        let mut silence = Silence::default();
        let mut asked = false;
        loop {
            let entry = self.entry(verb)?;
            if entry.record.state != RecordState::Ready
                || entry.record.location != reference.location
            {
                let cause = "the volume was removed, or made anew, at the same time";
                return Err(verb.error(ErrorKind::Unavailable, cause));
            }
            self.refuse_rolling(verb, &entry.record)?;
            let verdict = if reference.shared {
                self.judge_sharer(verb, &entry.record)?
            } else {
                let sight = self.look_at(verb, &entry.record)?;
                let stood_still = waiting.is_over() && sight.claim == first_seen;
                first_seen = first_seen.or_else(|| sight.claim.clone());
                let silent = self.is_silent(&entry.record, &sight, &mut silence);
                judge(&sight, silent, stood_still)
            };
            match verdict {
                Verdict::Held(held) if waiting.is_over() => return Err(in_use(verb, &held)),
                Verdict::Held(_) => {
                    // Copying gives way to use.
                    if !std::mem::replace(&mut asked, true) {
                        self.call_off_flatten_of(verb, &entry.record)?;
                    }
                    let _ = waiting.wait(POLL);
                    continue;
                }
                Verdict::Dead { addresses } => self.fence(verb, &entry.record, &addresses)?,
                Verdict::Free => {}
            }
            if let Some(record) = self.take(verb, &entry, reference)? {
                return Ok(record);
            }
        }
    }

    /// Who seems to have the volume now.
    pub(super) fn look_at(&self, verb: Verb<'_>, record: &Record) -> Result<Sight> {
        let (watchers, claim) = (self.watchers(verb, record)?, record.claim.clone());
        let owner = match (&claim, &watchers[..]) {
            (None, []) => None,
            _ => self.backend.lock_owner(&record.location).map_err(|e| self.failed(verb, e))?,
        };
        Ok(Sight { claim, watchers, owner })
    }

    /// Asks the holder for a sign of life, and says whether it has been silent for long.
    fn is_silent(&self, record: &Record, sight: &Sight, silence: &mut Silence) -> bool {
        let asked_at = Instant::now();
        let asked = sight.is_holders_alone().then(|| self.backend.ask_watchers(&record.location));
        silence.add(asked_at, &sight.watchers, asked.flatten());
        silence.is_long(asked_at, self.settings.fence_after)
    }

    /// Shuts out who held the volume; what is written down of it is there first.
    pub(super) fn fence(
        &self,
        verb: Verb<'_>,
        record: &Record,
        addresses: &[String],
    ) -> Result<()> {
        let claim = record.claim.as_ref();
        for address in addresses {
            let fence = Fence {
                address: address.clone(),
                volume: verb.name.clone(),
                location: record.location.clone(),
                host: claim.map(|claim| claim.host.clone()).unwrap_or_default(),
                boot_id: claim.map(|claim| claim.boot_id.clone()).unwrap_or_default(),
                by: self.host.name.clone(),
                at: Timestamp::now(),
            };
            self.fences.add(&fence).map_err(|error| self.failed(verb, error))?;
            tracing::warn!(target: "audit", volume = %verb.name, address, host = fence.host, "fencing the holder");
        }
        let fenced = self.backend.fence(&record.location, addresses);
        fenced.map_err(|error| self.failed(verb, error))?;
        self.fences_made.fetch_add(addresses.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Those that share a volume do not keep each other from it; the writer of an image does.
    fn judge_sharer(&self, verb: Verb<'_>, record: &Record) -> Result<Verdict> {
        let known = |address: &String| {
            record.sharers.iter().any(|reader| reader.address.as_ref() == Some(address))
        };
        let watchers = self.watchers(verb, record)?;
        let writers: Vec<String> = watchers
            .into_iter()
            .map(|watcher| watcher.address)
            .filter(|address| !known(address))
            .collect();
        // A reader that is just attaching watches for a moment before its address is recorded.
        let young = |reader: &Claim| {
            Timestamp::now().duration_since(reader.since) < SignedDuration::from_mins(2)
        };
        let attaching = record.sharers.iter().any(|r| r.address.is_none() && young(r));
        if writers.is_empty() || attaching {
            return Ok(Verdict::Free);
        }
        Ok(Verdict::Held(Held { claim: None, watchers: writers }))
    }

    fn watchers(&self, verb: Verb<'_>, record: &Record) -> Result<Vec<crate::ceph::Watcher>> {
        self.backend.watchers(&record.location).map_err(|error| self.failed(verb, error))
    }

    /// Writes this host's claim over the record that was judged; `None` where it has changed since.
    fn take(&self, verb: Verb<'_>, entry: &Entry, reference: &Reference) -> Result<Option<Record>> {
        let claim = self.own_claim(reference, None);
        let mut record = entry.record.clone();
        if reference.shared {
            record.sharers.push(claim);
        } else {
            record.claim = Some(claim);
        }
        match self.catalog.replace(verb.name, entry, &record) {
            Ok(_) => Ok(Some(record)),
            Err(CatalogError::Changed) => Ok(None),
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    /// Puts the address into the claim. Where the claim is not ours any more, another host took
    /// the volume while we mapped it: nothing of it has been touched yet.
    pub(super) fn confirm_claim(
        &self,
        verb: Verb<'_>,
        reference: &Reference,
        attachment: &Attachment,
    ) -> Result<()> {
        let before = self.own_claim(reference, None);
        let after = self.own_claim(reference, Some(attachment));
        let record = self.change(verb, |record| {
            let mut record = record.clone();
            let ours = record.claim.iter_mut().chain(&mut record.sharers);
            for claim in ours.filter(|claim| **claim == before) {
                *claim = after.clone();
            }
            // One that is being removed is its remover's.
            (record.state == RecordState::Ready).then_some(record)
        })?;
        if record.claim.iter().chain(&record.sharers).any(|claim| *claim == after) {
            return Ok(());
        }
        let holder = Held { claim: record.claim, watchers: Vec::new() };
        Err(in_use(verb, &holder))
    }

    fn own_claim(&self, reference: &Reference, attachment: Option<&Attachment>) -> Claim {
        Claim {
            host: self.host.name.clone(),
            boot_id: self.host.boot_id.clone(),
            address: attachment.and_then(|of| of.address.clone()),
            folder_client: attachment.and_then(|of| of.folder_client.clone()),
            since: reference.since,
        }
    }

    pub(super) fn drop_claim(
        &self,
        verb: Verb<'_>,
        reference: &Reference,
        used: Option<ByteSize>,
    ) -> Result<Option<Entry>> {
        let ours = |claim: &Claim| reference.has_made(claim);
        let dropped = self.catalog.update(verb.name, |record| {
            let held = record.claim.iter().chain(&record.sharers).any(ours);
            held.then(|| {
                let mut record = record.clone();
                record.claim = record.claim.filter(|claim| !ours(claim));
                record.sharers.retain(|claim| !ours(claim));
                record.used = used.or(record.used);
                record
            })
        });
        let entry = dropped.map_err(|error| self.failed(verb, error))?;
        self.known.note(verb.name, entry.as_ref());
        Ok(entry)
    }
}

fn in_use(verb: Verb<'_>, held: &Held) -> VolumeError {
    verb.error(ErrorKind::InUse, held.to_string())
        .advise("stop its containers there; if that host is gone, try again in a minute")
}
