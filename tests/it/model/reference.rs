//! The reference: what a user may expect of volumes on two hosts, with no Ceph and no kernel in it.

use std::collections::{BTreeMap, BTreeSet};

use docker_volume_ceph::volume::{ByteSize, Place};

use super::verb::Verb;
use crate::sim::Record;

/// How many hosts there are.
pub(super) const HOSTS: usize = 2;

/// What should be.
#[derive(Debug, Default)]
pub(super) struct Reference {
    pub(super) volumes: BTreeMap<String, Volume>,
    /// Removed volumes, the last one last.
    pub(super) trash: Vec<(String, Volume)>,
    pub(super) outage: bool,
    /// Many hosts may have a volume at once.
    pub(super) shared: bool,
}

/// A volume as its user sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Volume {
    pub(super) size: ByteSize,
    /// It was grown: a create with the first size may or may not be the same as this.
    pub(super) resized: bool,
    pub(super) protected: bool,
    pub(super) records: BTreeSet<Record>,
    /// What it was made of: removing the volume leaves it as it is.
    pub(super) adopted: Option<Place>,
    pub(super) on: [Use; HOSTS],
    /// A host went down with it; its watch may still stand, and a mount may be refused.
    pub(super) stale_watch: bool,
}

/// How a host uses a volume.
#[derive(Debug, Clone, Default)]
pub(super) struct Use {
    /// Mount IDs that were given and not taken back.
    pub(super) ids: BTreeSet<String>,
    /// Mount IDs that the driver may still count or not: their call failed.
    pub(super) perhaps: BTreeSet<String>,
    /// Containers that run with it.
    pub(super) containers: BTreeSet<String>,
    /// It is used by nobody, and the driver has not been told, or could not act on it.
    pub(super) lingers: bool,
}

/// What must come of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It succeeds.
    Succeeds,
    /// It fails, and changes nothing.
    Fails,
    /// Both are right.
    Either,
}

impl Use {
    /// Somebody uses it for certain: it has to be mounted.
    pub(super) fn is_certain(&self) -> bool {
        !self.ids.is_empty() || !self.containers.is_empty()
    }

    /// Nobody uses it, for certain: it has to be unmounted and unmapped.
    pub(super) fn is_over(&self) -> bool {
        !self.is_certain() && self.perhaps.is_empty() && !self.lingers
    }
}

impl Reference {
    /// What must come of the verb on that host.
    pub(super) fn verdict(&self, host: usize, verb: &Verb) -> Verdict {
        let volume = self.volumes.get(verb.volume());
        match (verb, volume) {
            (Verb::Create { .. }, Some(volume)) if volume.resized || self.outage => Verdict::Either,
            (Verb::Create { size, .. }, Some(volume)) => succeeds_if(*size == volume.size),
            (Verb::Create { .. } | Verb::Adopt { .. }, None) => succeeds_if(!self.outage),
            (Verb::Adopt { .. }, Some(_)) => Verdict::Either,
            (Verb::Remove { .. }, None) => Verdict::Either,
            (Verb::Remove { .. }, Some(volume)) => self.remove_verdict(host, volume),
            (Verb::Mount { .. }, None) => Verdict::Fails,
            (Verb::Mount { .. }, Some(volume)) => self.mount_verdict(host, volume),
            (Verb::Unmount { .. }, Some(_)) if !self.outage => Verdict::Succeeds,
            (Verb::Unmount { .. }, _) => Verdict::Either,
            (Verb::Undelete { name }, None) => {
                let trashed = self.trash.iter().any(|(trashed, _)| trashed == name);
                succeeds_if(trashed && !self.outage)
            }
            (Verb::Undelete { .. }, Some(_)) => Verdict::Fails,
            (Verb::Resize { .. } | Verb::Protect { .. }, None) => Verdict::Fails,
            (Verb::Resize { .. } | Verb::Protect { .. }, Some(_)) => succeeds_if(!self.outage),
        }
    }

    fn remove_verdict(&self, host: usize, volume: &Volume) -> Verdict {
        let others = volume.on.iter().enumerate().filter(|(at, _)| *at != host);
        let used_elsewhere = others.clone().any(|(_, other)| other.is_certain());
        let runs_here = !volume.on[host].containers.is_empty();
        if self.outage || volume.protected || used_elsewhere || runs_here {
            return Verdict::Fails;
        }
        let over = volume.on.iter().all(Use::is_over) && !volume.stale_watch;
        if over { Verdict::Succeeds } else { Verdict::Either }
    }

    fn mount_verdict(&self, host: usize, volume: &Volume) -> Verdict {
        let here = &volume.on[host];
        if self.outage {
            return if here.is_over() { Verdict::Fails } else { Verdict::Either };
        }
        if self.shared {
            return Verdict::Succeeds;
        }
        let others = || volume.on.iter().enumerate().filter(|(at, _)| *at != host);
        if others().any(|(_, other)| other.is_certain()) {
            return Verdict::Fails;
        }
        let free = others().all(|(_, other)| other.is_over()) && !volume.stale_watch;
        if free || here.is_certain() { Verdict::Succeeds } else { Verdict::Either }
    }

    /// The verb succeeded: that is what should be from now on.
    pub(super) fn succeeded(&mut self, host: usize, verb: &Verb) {
        let name = verb.volume().to_owned();
        let outage = self.outage;
        match verb {
            Verb::Create { size, .. } => {
                let fresh = Volume { size: *size, ..Volume::default() };
                self.volumes.entry(name).or_insert(fresh);
            }
            Verb::Adopt { place, record, .. } => {
                // Nothing limits a folder.
                let limited = matches!(place, Place::Image(_));
                self.volumes.entry(name).or_insert_with(|| Volume {
                    size: if limited { ByteSize::gib(1) } else { ByteSize::default() },
                    records: [*record].into(),
                    adopted: Some(place.clone()),
                    ..Volume::default()
                });
            }
            Verb::Remove { .. } => {
                if self.volumes.get(&name).is_some_and(|volume| volume.adopted.is_some()) {
                    self.volumes.remove(&name);
                } else if let Some(volume) = self.volumes.remove(&name) {
                    let on = <[Use; HOSTS]>::default();
                    self.trash.push((name, Volume { on, stale_watch: false, ..volume }));
                }
            }
            Verb::Undelete { .. } => {
                let last = self.trash.iter().rposition(|(trashed, _)| *trashed == name);
                if let Some(last) = last {
                    let (name, volume) = self.trash.remove(last);
                    self.volumes.insert(name, volume);
                }
            }
            Verb::Mount { id, .. } => {
                let Some(volume) = self.volumes.get_mut(&name) else { return };
                // It could not have been mounted here had it still been held elsewhere.
                for (at, other) in volume.on.iter_mut().enumerate() {
                    if at != host && !self.shared {
                        *other = Use::default();
                    }
                }
                volume.stale_watch = false;
                let here = &mut volume.on[host];
                here.perhaps.remove(id);
                here.lingers = false;
                here.ids.insert(id.clone());
            }
            Verb::Unmount { id, .. } => self.unmounted(host, &name, id, !outage),
            Verb::Resize { size, .. } => {
                let Some(volume) = self.volumes.get_mut(&name) else { return };
                volume.size = *size;
                volume.resized = true;
            }
            Verb::Protect { on, .. } => {
                let Some(volume) = self.volumes.get_mut(&name) else { return };
                volume.protected = *on;
            }
        }
    }

    /// The verb failed where it may: nothing that a user sees has changed.
    pub(super) fn failed(&mut self, host: usize, verb: &Verb) {
        match verb {
            Verb::Mount { name, id } => {
                let Some(volume) = self.volumes.get_mut(name) else { return };
                let here = &mut volume.on[host];
                if !here.is_over() && !here.ids.contains(id) {
                    here.perhaps.insert(id.clone());
                }
            }
            Verb::Unmount { name, id } => self.unmounted(host, name, id, false),
            _ => {}
        }
    }

    /// The engine takes an ID back, whatever the driver answers.
    fn unmounted(&mut self, host: usize, name: &str, id: &str, acted: bool) {
        let Some(volume) = self.volumes.get_mut(name) else { return };
        let here = &mut volume.on[host];
        let known = here.ids.remove(id) | here.perhaps.remove(id);
        if acted {
            here.lingers = false;
        } else if known {
            here.perhaps.insert(id.to_owned());
            here.lingers = true;
        }
    }

    /// The driver on that host had time to look around.
    pub(super) fn reconciled(&mut self, host: usize) {
        if self.outage {
            return;
        }
        for volume in self.volumes.values_mut() {
            volume.on[host].lingers = false;
        }
    }

    /// The references' time of grace passed, and the driver on that host looked around.
    pub(super) fn grace_passed(&mut self, host: usize) {
        for volume in self.volumes.values_mut() {
            let here = &mut volume.on[host];
            let ids = std::mem::take(&mut here.ids);
            here.perhaps.extend(ids);
            if here.containers.is_empty() && !self.outage {
                *here = Use::default();
            } else if here.containers.is_empty() {
                here.lingers = true;
            }
        }
    }

    /// The host's power was cut.
    pub(super) fn rebooted(&mut self, host: usize) {
        for volume in self.volumes.values_mut() {
            let here = std::mem::take(&mut volume.on[host]);
            volume.stale_watch |= !here.is_over();
        }
    }
}

fn succeeds_if(condition: bool) -> Verdict {
    if condition { Verdict::Succeeds } else { Verdict::Fails }
}
