//! Which volumes are shown: as the address says, so that a link or a reading anew shows the same.

use super::concern::Concerns;
use crate::protocol::path;
use crate::service::{HolderView, Status, VolumeView};

/// Which volumes are shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// What has to stand in a volume's name, place, state or hosts.
    pub(super) text: String,
    /// A group of them, by its word in [`GROUPS`].
    pub(super) group: String,
}

/// Is a volume in a group?
type InGroup = fn(&VolumeView, &Concerns) -> bool;

/// The groups: their words in the address, what they are called, which volumes are in them.
pub(super) const GROUPS: [(&str, &str, InGroup); 5] = [
    ("", "All", |_, _| true),
    ("attention", "Need attention", |volume, concerns| concerns.level(&volume.name).is_some()),
    ("here", "Mounted here", |volume, _| is_here(&volume.status)),
    ("elsewhere", "On other hosts", |volume, _| {
        !is_here(&volume.status) && hosts(&volume.status).next().is_some()
    }),
    ("unused", "Not mounted", |volume, _| {
        !is_here(&volume.status) && hosts(&volume.status).next().is_none()
    }),
];

impl Filter {
    /// Of the query of an address.
    pub(super) fn of_query(query: Option<&str>) -> Self {
        let mut filter = Self::default();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "q" => filter.text = decoded(value),
                "show" => filter.group = decoded(value),
                _ => {}
            }
        }
        filter
    }

    /// The address of what it shows.
    pub(super) fn address(&self) -> String {
        let pairs = [("show", &self.group), ("q", &self.text)];
        let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<String> =
            pairs.map(|(name, value)| format!("{name}={}", path::encode(value))).collect();
        if pairs.is_empty() { "/".to_owned() } else { format!("/?{}", pairs.join("&")) }
    }

    /// Is a volume shown?
    pub(super) fn passes(&self, volume: &VolumeView, concerns: &Concerns) -> bool {
        let group = GROUPS.iter().find(|(word, ..)| *word == self.group);
        if group.is_some_and(|(.., is_in)| !is_in(volume, concerns)) {
            return false;
        }
        let VolumeView { name, status, .. } = volume;
        let hosts = status.holder.iter().chain(&status.sharers).map(|holder| &holder.host[..]);
        let said = [name.as_str(), &status.place.to_string(), &status.state]
            .into_iter()
            .chain(hosts)
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        self.text.to_lowercase().split_whitespace().all(|word| said.contains(word))
    }
}

/// A value as forms send it.
fn decoded(value: &str) -> String {
    path::decode(&value.replace('+', " ")).unwrap_or_default()
}

/// Does this host have it?
pub(super) fn is_here(status: &Status) -> bool {
    matches!(&status.state[..], "mounted" | "attaching" | "detaching" | "broken")
}

/// The other hosts that have it.
pub(super) fn hosts(status: &Status) -> impl Iterator<Item = &HolderView> {
    status.holder.iter().chain(&status.sharers).filter(|holder| !holder.here)
}
