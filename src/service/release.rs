//! Giving a volume up, here or elsewhere: for an operator who knows more than the daemons.

use super::claim::{Held, Sight};
use super::{Drained, ErrorKind, Released, Result, Service, Verb, VolumeError};
use crate::catalog::Entry;
use crate::deadline::Deadline;
use crate::volume::{Claim, Record, RecordState, VolumeName};

impl Service {
    /// Has the volume given up by the host that holds it, so that any host may take it. The host is
    /// asked first; where it refuses or does not answer, `fence` takes the volume from it by
    /// force: what its containers have not written yet is lost, and their IO fails.
    ///
    /// # Errors
    /// `NotFound`; `InUse` where its containers use it, with the way to force it; `Unavailable` where
    /// its host does not answer.
    pub fn release(&self, name: &VolumeName, fence: bool, deadline: &Deadline) -> Result<Released> {
        let verb = Verb::new("release", name, deadline);
        let _guard = self.lock(verb)?;
        self.await_cluster(verb)?;
        let entry = self.entry(verb)?;
        if entry.record.state != RecordState::Ready {
            let state = entry.record.state.as_str();
            return Err(verb.error(ErrorKind::InvalidArgument, format!("volume is {state}")));
        }
        if self.references.get(name).is_some() {
            self.let_go(verb)?;
            return Ok(Released::Here);
        }
        let sight = self.look_at(verb, &entry.record)?;
        if sight.claim.is_none() && sight.watchers.is_empty() {
            return Ok(Released::Free);
        }
        let refused = match sight.claim.as_ref().map(|claim| self.ask_holder(verb, claim)) {
            Some(Ok(host)) => return Ok(Released::There { host }),
            Some(Err(refused)) => refused,
            None => {
                let watchers = sight.watchers.iter().map(|of| of.address.clone()).collect();
                let held = Held { claim: None, watchers };
                verb.error(ErrorKind::InUse, held.to_string())
            }
        };
        if !fence {
            let way = format!("docker ceph release {name} --fence takes it by force");
            return Err(refused.advise(format!("stop its containers there; {way}")));
        }
        self.take_by_force(verb, &entry, &sight)
    }

    /// The host that gave it up, or why it did not.
    fn ask_holder(&self, verb: Verb<'_>, claim: &Claim) -> Result<String> {
        let host = &claim.host;
        match self.ask_to_release(verb, &claim.boot_id) {
            Some(Ok(())) => Ok(host.clone()),
            Some(Err(why)) => {
                Err(verb.error(ErrorKind::InUse, format!("host {host} refused: {why}")))
            }
            None => Err(verb.error(ErrorKind::Unavailable, format!("host {host} does not answer"))),
        }
    }

    /// Shuts out everybody who has the image open, and then drops the claim.
    fn take_by_force(&self, verb: Verb<'_>, entry: &Entry, sight: &Sight) -> Result<Released> {
        let mut addresses = sight.holders();
        addresses.extend(sight.watchers.iter().map(|watcher| watcher.address.clone()));
        addresses.sort();
        addresses.dedup();
        self.fence(verb, &entry.record, &addresses)?;
        let free = Record { claim: None, ..entry.record.clone() };
        let replaced = self.catalog.replace(verb.name, entry, &free);
        let entry = replaced.map_err(|error| self.failed(verb, error))?;
        self.known.note(verb.name, Some(&entry));
        Ok(Released::Fenced { addresses })
    }

    /// Gives up all that this host holds and that no container uses, for maintenance. With
    /// `engine_stopped` the mounts that an engine has left do not count as a use: the Unmounts of an
    /// engine that has ended will never come.
    pub fn drain(&self, engine_stopped: bool, deadline: &Deadline) -> Vec<Drained> {
        let give_up = |name: VolumeName| {
            let verb = Verb::new("drain", &name, deadline);
            let released = self.lock(verb).and_then(|_guard| match engine_stopped {
                true => self.let_go_of_unheld(verb),
                false => self.let_go(verb),
            });
            Drained { kept: released.err().map(|error: VolumeError| error.to_string()), name }
        };
        self.references.all().into_iter().map(|reference| reference.name).map(give_up).collect()
    }
}
