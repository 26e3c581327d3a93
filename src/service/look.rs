//! What is told of volumes. Nothing here changes anything.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::provision::FOLDER;
use super::references::{Phase, Reference};
use super::{
    Figures, Finding, HolderView, Inspection, Listed, Lookup, Observed, OriginView, Result,
    Service, Status, Tie, Verb, Verdict, VolumeView, Who,
};
use crate::backend::{Attached, Attaching, Attachment, Provisioning};
use crate::catalog::Stored;
use crate::ceph::PoolUsage;
use crate::deadline::Deadline;
use crate::volume::{
    ByteSize, Claim, Origin, Place, Record, RecordState, Rolling, SnapshotState, VolumeKind,
    VolumeName,
};

impl Service {
    /// Docker's Get. Answers within 2 s, whatever the cluster does.
    pub fn get(&self, name: &VolumeName) -> Lookup {
        match self.known.get(name) {
            Ok(Some(record)) if record.state != RecordState::Removing => {
                Lookup::Found(Box::new(self.view(name, &record, None)))
            }
            Ok(None) if self.known.is_vouched_for(name) => self.vouched(name, None),
            Ok(_) => Lookup::Absent,
            Err(_) => match self.known.last(name) {
                Some((record, as_of)) if record.state != RecordState::Removing => {
                    Lookup::Found(Box::new(self.view(name, &record, Some(as_of))))
                }
                Some(_) => Lookup::Absent,
                None if is_anonymous(name) => Lookup::Absent,
                None => match self.known.vouch(name) {
                    Ok(()) => self.vouched(name, Some(Timestamp::now())),
                    Err(error) => {
                        tracing::error!(volume = %name, %error, "cannot vouch for a name");
                        Lookup::Unknown
                    }
                },
            },
        }
    }

    /// What is said of a name of which nothing is known, so that no container starts without it.
    fn vouched(&self, name: &VolumeName, as_of: Option<Timestamp>) -> Lookup {
        let (state, warning) = match as_of {
            Some(_) => ("unknown", "the cluster is away: whether this volume exists is not known"),
            None => (
                "missing",
                "there is no such volume: it was asked for while the cluster was away; remove it, \
                 then create it",
            ),
        };
        let home = &self.settings.home;
        let status = Status {
            kind: VolumeKind::Rbd,
            state: state.to_owned(),
            place: Place::Image(home.image(name.as_str())),
            size: ByteSize(0),
            used: None,
            file_system: None,
            options: BTreeMap::new(),
            device: None,
            mapper: None,
            holder: None,
            sharers: Vec::new(),
            origin: None,
            snapshots: SnapshotState::default(),
            files: None,
            task: None,
            mounts: Vec::new(),
            last_error: None,
            warnings: vec![warning.to_owned()],
            as_of,
        };
        Lookup::Found(Box::new(VolumeView {
            name: name.clone(),
            mountpoint: self.mountpoint(name, FOLDER),
            created: as_of.unwrap_or_else(Timestamp::now),
            status,
        }))
    }

    /// Docker's List. Answers within 2 s, whatever the cluster does.
    pub fn list(&self) -> Vec<Listed> {
        let records = self.known.list().unwrap_or_else(|_| self.known.last_all().0);
        let listed = |(name, stored): (&VolumeName, &Arc<Stored>)| Listed {
            name: name.clone(),
            mountpoint: self.mountpoint(name, &stored.folder),
        };
        let shown = records.iter().filter(|(_, stored)| stored.state != RecordState::Removing);
        shown.map(listed).collect()
    }

    /// Every volume with all that `Get` tells of it, half-made and half-removed ones included.
    pub fn volumes(&self) -> Vec<VolumeView> {
        let (records, as_of) = match self.known.list() {
            Ok(records) => (records, None),
            Err(_) => {
                let (records, as_of) = self.known.last_all();
                (records, Some(as_of))
            }
        };
        let view = |(name, stored): (&VolumeName, &Arc<Stored>)| {
            self.view(name, &stored.entry().record, as_of)
        };
        records.iter().map(view).collect()
    }

    /// What is counted and known here besides the volumes.
    pub fn figures(&self) -> Figures {
        Figures {
            cluster_is_away: self.known.is_away(),
            fences: self.fences_made.load(Ordering::Relaxed),
        }
    }

    /// All that is known of one volume, from the image itself.
    ///
    /// # Errors
    /// `NotFound`, and where the cluster does not answer.
    pub fn inspect(&self, name: &VolumeName, deadline: &Deadline) -> Result<Inspection> {
        let verb = Verb::new("inspect", name, deadline);
        let record = self.entry(verb)?.record;
        if self.is_copying(name, &record) {
            // Until it is whole nothing else can be said of it.
            let volume = self.view(name, &record, None);
            let (features, id) = Default::default();
            return Ok(Inspection { volume, features, id, stored: None, watchers: Vec::new() });
        }
        let info = self.backend.info(&record.location).map_err(|e| self.failed(verb, e))?;
        let watchers = self.backend.watchers(&record.location).map_err(|e| self.failed(verb, e))?;
        let mut volume = self.view(name, &record, None);
        volume.status.size = info.size;
        Ok(Inspection {
            volume,
            features: info.features,
            id: info.id,
            stored: self.backend.stored(&record.location).ok(),
            watchers: watchers.into_iter().map(|watcher| watcher.address).collect(),
        })
    }

    /// Who has a volume: by the catalog, by the cluster, and on this host.
    ///
    /// # Errors
    /// As [`Service::inspect`].
    pub fn who(&self, name: &VolumeName, deadline: &Deadline) -> Result<Who> {
        let verb = Verb::new("who", name, deadline);
        let record = self.entry(verb)?.record;
        let watchers = self.backend.watchers(&record.location).map_err(|e| self.failed(verb, e))?;
        let reference = self.references.get(name);
        let processes = match reference.as_ref().map(|r| (r.attachment.as_ref(), &r.target)) {
            Some((Some(attachment), target)) => {
                let holders = self.backend.holders(&attachment.attached, target);
                holders.map_err(|error| self.failed(verb, error))?
            }
            _ => Vec::new(),
        };
        Ok(Who {
            name: name.clone(),
            holder: record.claim.as_ref().map(|claim| self.holder(claim)),
            sharers: record.sharers.iter().map(|claim| self.holder(claim)).collect(),
            watchers: watchers.into_iter().map(|watcher| watcher.address).collect(),
            mounts: ids(reference.as_ref()),
            processes,
        })
    }

    pub(super) fn view(
        &self,
        name: &VolumeName,
        record: &Record,
        as_of: Option<Timestamp>,
    ) -> VolumeView {
        let reference = self.references.get(name);
        let attachment = reference.as_ref().and_then(|reference| reference.attachment.as_ref());
        let observed = self.observed();
        let usage = observed.usage.get(name);
        let status = Status {
            kind: record.kind,
            state: state(record, reference.as_ref(), observed.broken.contains_key(name)),
            place: record.location.clone(),
            size: record.size,
            used: usage.map(|usage| usage.used).or(record.used),
            file_system: file_system(record),
            options: record.options.clone(),
            device: attachment.and_then(|of| of.attached.device()).map(Path::to_owned),
            mapper: attachment.map(|of| of.attached.means().to_owned()),
            holder: record.claim.as_ref().map(|claim| self.holder(claim)),
            sharers: record.sharers.iter().map(|claim| self.holder(claim)).collect(),
            origin: record
                .origin
                .as_ref()
                .map(|origin| self.origin_view(name, record, origin, &observed)),
            snapshots: record.snapshots.clone(),
            files: record.files,
            task: self.tasks.on(name),
            mounts: ids(reference.as_ref()),
            last_error: observed.broken.get(name).or(observed.errors.get(name)).cloned(),
            warnings: room_warning(record, &observed.rooms)
                .into_iter()
                .chain(discard_warning(record, attachment))
                .chain(rolling_warning(record))
                .collect(),
            as_of,
        };
        drop(observed);
        VolumeView {
            name: name.clone(),
            mountpoint: self.mountpoint(name, &record.folder),
            created: record.created,
            status,
        }
    }

    fn origin_view(
        &self,
        name: &VolumeName,
        record: &Record,
        origin: &Origin,
        observed: &Observed,
    ) -> OriginView {
        let flattened = self.flattened(name, origin);
        let (tie, percent) = match record.state {
            _ if record.is_view() => (Tie::Shown, None),
            RecordState::Creating if record.kind == VolumeKind::CephFs => {
                (Tie::Copying, observed.copies.get(name).copied().flatten())
            }
            _ if origin.alone => (Tie::None, None),
            _ if flattened.is_some() => (Tie::Flattening, flattened),
            _ => (Tie::Shared, None),
        };
        OriginView { from: origin.spec().to_string(), tie, percent }
    }

    fn holder(&self, claim: &Claim) -> HolderView {
        HolderView {
            host: claim.host.clone(),
            address: claim.address.clone(),
            since: claim.since,
            here: self.references.all().iter().any(|reference| reference.has_made(claim)),
        }
    }

    /// The daemon's own view for the doctor: what it could not do, and what is left half-done.
    pub fn doctor(&self, deadline: &Deadline) -> Vec<Finding> {
        let mut findings = vec![self.check_cluster()];
        let observed = self.observed();
        for (name, error) in observed.broken.iter().chain(&observed.errors) {
            findings.push(Finding {
                check: format!("volume {name}"),
                verdict: Verdict::Failed,
                detail: error.clone(),
                advice: Some(format!("docker ceph inspect {name}; docker ceph who {name}")),
            });
        }
        drop(observed);
        findings.extend(self.check_leftovers());
        if !deadline.is_over() {
            findings.extend(self.check_records());
        }
        findings
    }

    fn check_cluster(&self) -> Finding {
        let away = self.known.is_away();
        Finding {
            check: "catalog".to_owned(),
            verdict: if away { Verdict::Failed } else { Verdict::Ok },
            detail: if away {
                "the cluster does not answer; Get and List are answered from what was last known"
            } else {
                "the cluster answers the daemon"
            }
            .to_owned(),
            advice: away.then(|| "check the monitors, the network and the key".to_owned()),
        }
    }

    fn check_leftovers(&self) -> Vec<Finding> {
        let Ok(evidence) = self.backend.evidence() else { return Vec::new() };
        let known = |attached: &&Attached| {
            !self.references.all().iter().any(|reference| attached.is_of(&reference.location))
        };
        let finding = |attached: &Attached| Finding {
            check: "leftovers".to_owned(),
            verdict: Verdict::Warning,
            detail: format!("{attached} is here for nobody"),
            advice: Some("it is unmapped within a minute unless something holds it".to_owned()),
        };
        evidence.attached.iter().filter(known).map(finding).collect()
    }

    fn check_records(&self) -> Vec<Finding> {
        let Ok(records) = self.known.list() else { return Vec::new() };
        let half_done = records.iter().filter(|(_, stored)| stored.state != RecordState::Ready);
        let finding = |(name, stored): (&VolumeName, &Arc<Stored>)| Finding {
            check: format!("volume {name}"),
            verdict: Verdict::Warning,
            detail: format!("its record says {}", stored.state.as_str()),
            advice: Some("it is finished or undone by the next call, or in a while".to_owned()),
        };
        half_done.map(finding).collect()
    }
}

fn ids(reference: Option<&Reference>) -> Vec<String> {
    reference.map(|r| r.ids.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn state(record: &Record, reference: Option<&Reference>, broken: bool) -> String {
    let state = match (broken, reference.map(|reference| reference.phase)) {
        (true, _) => "broken",
        (false, Some(Phase::Attaching)) => "attaching",
        (false, Some(Phase::Mounted)) => "mounted",
        (false, Some(Phase::Detaching)) => "detaching",
        (false, None) => record.state.as_str(),
    };
    state.to_owned()
}

/// The engine's own anonymous volumes have names of 64 hexadecimal digits.
fn is_anonymous(name: &VolumeName) -> bool {
    let text = name.as_str();
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn file_system(record: &Record) -> Option<String> {
    if record.adopted {
        return None;
    }
    Some(record.options.get("fs-type").cloned().unwrap_or_else(|| "ext4".to_owned()))
}

fn room_warning(record: &Record, rooms: &HashMap<String, PoolUsage>) -> Option<String> {
    let pool = record.options.get("data-pool").map(String::as_str).or(record.location.pool())?;
    let room = rooms.get(pool)?;
    if room.full {
        return Some(format!("pool {pool} is full: writes wait until there is room"));
    }
    let still_to_come = record.size.bytes().saturating_sub(record.used.unwrap_or_default().bytes());
    let free = room.free;
    let grows = || format!("the volume can grow larger than what pool {pool} has free ({free})");
    (still_to_come > free.bytes()).then(grows)
}

fn rolling_warning(record: &Record) -> Option<String> {
    let Rolling { snapshot, work, .. } = record.rolling.as_ref()?;
    let (host, since) = (&work.host, work.since);
    Some(format!(
        "it is being rolled back to its snapshot {snapshot} by host {host} (seen at {since:.0}), and \
         cannot be mounted until that is done"
    ))
}

/// `discard` is accepted on every host, because another one may have another mapper.
fn discard_warning(record: &Record, attachment: Option<&Attachment>) -> Option<String> {
    let asked = record.options.get("discard").is_some_and(|value| value == "true");
    (asked && attachment.is_some_and(|of| !of.attached.can_discard())).then(|| {
        "discard does nothing here: the fuse mapper cannot give blocks back, krbd and nbd can"
            .to_owned()
    })
}
