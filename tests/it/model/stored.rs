//! What lies in the cluster and on the hosts, whatever kind of volume is under test.

use std::collections::BTreeSet;

use docker_volume_ceph::volume::{ByteSize, FolderSpec, FsType, PathSpec, Place};

use super::kind::Kind;
use super::world::{World, home, image};
use crate::sim::{Content, Record, Stored};

/// What the images that are held for a folder are called before the name of its client.
const LOCK: &str = ".lock.";

/// The metadata key of a subvolume in the trash.
const TRASH_KEY: &str = "docker-volume-ceph.trash";

impl World {
    /// Somebody makes something with a record in it, without the driver.
    pub(super) fn put_foreign(&mut self, record: Record) {
        let place = self.kind.foreign();
        match &place {
            Place::Image(spec) => {
                let mut content = Content::formatted(FsType::Ext4, ByteSize::gib(1));
                let root = content.filesystem_mut().and_then(|fs| fs.folders.get_mut(""));
                root.expect("it has just been formatted").records.insert(record);
                self.cluster.put_image(spec, ByteSize::gib(1), content);
                self.foreign.insert(spec.to_string());
            }
            Place::Folder(FolderSpec::Path(path)) => self.cluster.put_folder(path, &[record]),
            Place::Folder(_) => unreachable!("nobody has a subvolume without the driver"),
        }
    }

    /// The volumes of which something is stored in its place, by their names; whatever else is
    /// stored, by its place.
    pub(super) fn stored(&self) -> Vec<String> {
        let images = self.cluster.image_specs().into_iter();
        let images = images.filter(|spec| !spec.image.starts_with(LOCK));
        let images = images.map(|spec| match spec.location == home() {
            true => spec.image,
            false => spec.to_string(),
        });
        let live = self.subvolumes().into_iter().filter(|found| !is_trash(found));
        let mut all: Vec<String> = images.chain(live.map(|found| volume_of(&found))).collect();
        all.sort();
        all
    }

    /// How much the trash holds.
    pub(super) fn trash_len(&self) -> usize {
        let folders = self.subvolumes().iter().filter(|found| is_trash(found)).count();
        self.cluster.trash_len() + folders
    }

    /// What is written in a volume; `None` where nothing of it is stored.
    pub(super) fn records(&self, name: &str) -> Option<BTreeSet<Record>> {
        let adopted = self.reference.volumes.get(name).and_then(|volume| volume.adopted.as_ref());
        match (adopted, self.kind) {
            (Some(Place::Folder(FolderSpec::Path(path))), _) => self.cluster.folder(path),
            (Some(Place::Image(spec)), _) => self.cluster.content(spec).map(|it| it.records()),
            (_, Kind::Image(_)) => self.cluster.content(&image(name)).map(|it| it.records()),
            (_, Kind::Folder | Kind::Held) => {
                let all = self.subvolumes();
                let found = all.iter().find(|it| !is_trash(it) && volume_of(it) == name);
                found.and_then(|found| self.cluster.folder(&found.place))
            }
        }
    }

    /// The volumes of which something is on a host: a device, a client of a folder, or an image that
    /// is held for one. What is there twice is named twice.
    pub(super) fn attached(&self, host: usize) -> Vec<String> {
        let host = &self.nodes[host].host;
        match self.kind {
            Kind::Image(_) => host.mapped_images(),
            Kind::Folder => self.names(host.used_folders()),
            Kind::Held => {
                let mut clients = self.names(host.used_folders());
                assert_eq!(host.mapped_images().len(), clients.len(), "held for {clients:?}");
                clients.sort();
                clients
            }
        }
    }

    /// The volumes that are mounted in a host's own namespace.
    pub(super) fn mounted(&self, host: usize) -> Vec<String> {
        let host = &self.nodes[host].host;
        match self.kind {
            Kind::Image(_) => host.mounted_images(),
            Kind::Folder | Kind::Held => self.names(host.mounted_folders()),
        }
    }

    /// Keys and images that are held go with their volumes.
    pub(super) fn assert_keys(&self) {
        let live = self.subvolumes().into_iter().filter(|found| !is_trash(found));
        let live = live.map(|found| format!("rw.cephfs.docker.{}", found.name.replace('.', "_d")));
        let adopted = self.reference.volumes.values().any(|volume| volume.adopted.is_some());
        let adopted = adopted.then(|| "path-rw.cephfs.other.v".to_owned());
        let allowed: BTreeSet<String> =
            live.chain(adopted).map(|name| format!("docker.{name}")).collect();
        let keys = self.cluster.folder_keys();
        assert!(keys.is_subset(&allowed), "keys {keys:?} of volumes {allowed:?}");
        for image in self.cluster.image_specs() {
            let Some(key) = image.image.strip_prefix(LOCK) else { continue };
            assert!(allowed.contains(key), "{image} is held for none of {allowed:?}");
        }
    }

    fn subvolumes(&self) -> Vec<Stored> {
        let all = self.cluster.subvolumes();
        assert!(all.iter().all(|found| !found.half_made), "left half-made: {all:?}");
        all
    }

    fn names(&self, places: Vec<PathSpec>) -> Vec<String> {
        let all = self.subvolumes();
        let name = |place: PathSpec| match all.iter().find(|found| found.place == place) {
            Some(found) if is_trash(found) => format!("{} in the trash", found.name),
            Some(found) => volume_of(found),
            None => {
                let ours = Place::Folder(FolderSpec::Path(place.clone()));
                let mut volumes = self.reference.volumes.iter();
                let found = volumes.find(|(_, volume)| volume.adopted.as_ref() == Some(&ours));
                found.map_or_else(|| place.to_string(), |(name, _)| name.clone())
            }
        };
        places.into_iter().map(name).collect()
    }
}

fn is_trash(found: &Stored) -> bool {
    found.metadata.contains_key(TRASH_KEY)
}

/// Where the trash has one of the volume's name, a number follows it.
fn volume_of(found: &Stored) -> String {
    found.name.split('.').next().unwrap_or_default().to_owned()
}
