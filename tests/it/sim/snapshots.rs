//! Snapshots in the simulation: what was there when they were made, and nothing that came later.

use std::collections::BTreeMap;

use docker_volume_ceph::ceph::{
    CloneState, ClusterErrorKind as Kind, Going, ImageLayout, ImageSnapshot, Images, Progress,
    Result, Snapshots, SubvolumeLayout, SubvolumeSnapshot, SubvolumeSnapshots, Subvolumes,
};
use docker_volume_ceph::volume::{ByteSize, ImageSpec, Location, PathSpec, SubvolumeSpec};

use super::client::{error, live, trashed};
use super::cluster::{ClusterState, SimImage, SimSnapshot};
use super::{Content, SimClient, SimCluster};

impl ClusterState {
    fn children(&self, image: &ImageSpec, name: &str) -> Vec<ImageSpec> {
        let parent = Some((image.clone(), name.to_owned()));
        let made_of_it = |child: &&SimImage| child.parent == parent;
        self.images.values().filter(made_of_it).map(|child| child.spec.clone()).collect()
    }
}

impl SimCluster {
    /// What lies in the `.snap` of a subvolume's folder.
    pub(crate) fn snapshots_below(&self, place: &PathSpec) -> Vec<String> {
        let state = self.state();
        let names = state.snapshots_of_folder(&place.path);
        names.into_iter().map(|name| format!("_{name}_7")).collect()
    }
}

fn find<'a>(image: &'a SimImage, call: &'static str, name: &str) -> Result<&'a SimSnapshot> {
    let found = image.snapshots.iter().find(|snapshot| snapshot.name == name);
    found.ok_or_else(|| error(Kind::NotFound, call, format!("{}@{name}", image.spec)))
}

impl Snapshots for SimClient {
    fn snapshot_create(&self, image: &ImageSpec, name: &str) -> Result<()> {
        let call = "make snapshot";
        let mut state = self.reach(call)?;
        let (id, created) = (state.number(), state.now);
        let found = live(&mut state, call, image)?;
        if find(found, call, name).is_ok() {
            return Err(error(Kind::Exists, call, image));
        }
        let (size, content) = (found.size, found.content.clone());
        found.snapshots.push(SimSnapshot { id, name: name.to_owned(), size, created, content });
        Ok(())
    }

    fn snapshot_list(&self, image: &ImageSpec) -> Result<Vec<ImageSnapshot>> {
        let mut state = self.reach("list snapshots")?;
        let found = live(&mut state, "list snapshots", image)?;
        let listed = |snapshot: &SimSnapshot| ImageSnapshot {
            id: snapshot.id,
            name: snapshot.name.clone(),
            size: snapshot.size,
            created: Some(snapshot.created),
        };
        Ok(found.snapshots.iter().map(listed).collect())
    }

    fn snapshot_remove(&self, image: &ImageSpec, name: &str) -> Result<()> {
        let call = "remove snapshot";
        let mut state = self.reach(call)?;
        find(live(&mut state, call, image)?, call, name)?;
        if !state.children(image, name).is_empty() {
            return Err(error(Kind::Busy, call, image));
        }
        let found = live(&mut state, call, image)?;
        found.snapshots.retain(|snapshot| snapshot.name != name);
        Ok(())
    }

    fn snapshot_children(&self, image: &ImageSpec, name: &str) -> Result<Vec<ImageSpec>> {
        let call = "list children";
        let mut state = self.reach(call)?;
        find(live(&mut state, call, image)?, call, name)?;
        Ok(state.children(image, name))
    }

    fn snapshot_rollback(
        &self,
        image: &ImageSpec,
        name: &str,
        progress: Progress<'_>,
    ) -> Result<()> {
        let call = "roll back";
        progress(1, 1);
        let mut state = self.reach(call)?;
        let found = live(&mut state, call, image)?;
        if !found.watches.is_empty() {
            return Err(error(Kind::Busy, call, image));
        }
        let SimSnapshot { size, content, .. } = find(found, call, name)?.clone();
        (found.size, found.content) = (size, content);
        Ok(())
    }

    fn snapshot_changed(
        &self,
        image: &ImageSpec,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<ByteSize> {
        let call = "compare snapshots";
        let mut state = self.reach(call)?;
        let found = live(&mut state, call, image)?;
        let content = |name: Option<&str>| match name {
            Some(name) => find(found, call, name).map(|snapshot| snapshot.content.records()),
            None => Ok(found.content.records()),
        };
        let before = from.map_or_else(|| Ok(Default::default()), |from| content(Some(from)))?;
        let changed = content(to)?.symmetric_difference(&before).count();
        Ok(ByteSize(changed as u64 * 4096))
    }

    fn image_clone(
        &self,
        parent: &ImageSpec,
        snapshot: &str,
        child: &ImageSpec,
        layout: &ImageLayout,
    ) -> Result<()> {
        let call = "clone image";
        let mut state = self.reach(call)?;
        let found = live(&mut state, call, parent)?;
        let (of, metadata) = (find(found, call, snapshot)?.clone(), found.metadata.clone());
        if state.live(child).is_some() {
            return Err(error(Kind::Exists, call, child));
        }
        let id = state.add_image(child, &ImageLayout { size: of.size, ..layout.clone() });
        let image = state.images.get_mut(&id).expect("just added");
        image.content = of.content;
        image.metadata = metadata;
        image.parent = Some((parent.clone(), snapshot.to_owned()));
        Ok(())
    }

    fn image_parent(&self, image: &ImageSpec) -> Result<Option<(ImageSpec, String)>> {
        let mut state = self.reach("find parent")?;
        Ok(live(&mut state, "find parent", image)?.parent.clone())
    }

    fn image_flatten(&self, image: &ImageSpec, progress: Going<'_>) -> Result<()> {
        if !progress(0, 1) {
            return Err(error(Kind::Busy, "flatten image", image));
        }
        let mut state = self.reach("flatten image")?;
        live(&mut state, "flatten image", image)?.parent = None;
        Ok(())
    }

    fn metadata_list(&self, image: &ImageSpec, prefix: &str) -> Result<Vec<(String, String)>> {
        let mut state = self.reach("list metadata")?;
        let all = live(&mut state, "list metadata", image)?.metadata.clone();
        Ok(all.into_iter().filter(|(key, _)| key.starts_with(prefix)).collect())
    }

    fn metadata_remove(&self, image: &ImageSpec, key: &str) -> Result<()> {
        let mut state = self.reach("remove metadata")?;
        live(&mut state, "remove metadata", image)?.metadata.remove(key);
        Ok(())
    }

    fn trash_snapshots_remove(&self, at: &Location, id: &str) -> Result<()> {
        let call = "remove trashed snapshots";
        let mut state = self.reach(call)?;
        let found = trashed(&mut state, call, at, id)?;
        let (spec, names) = (found.spec.clone(), found.snapshots.clone());
        if names.iter().any(|snapshot| !state.children(&spec, &snapshot.name).is_empty()) {
            return Err(error(Kind::Busy, call, id));
        }
        trashed(&mut state, call, at, id)?.snapshots.clear();
        Ok(())
    }
}

impl SubvolumeSnapshots for SimClient {
    fn subvolume_snapshot_create(&self, spec: &SubvolumeSpec, name: &str) -> Result<()> {
        let call = "make subvolume snapshot";
        let mut state = self.reach_fs(call, &spec.fs)?;
        let (now, path) = (state.now, state.subvolume(call, spec)?.path.clone());
        let place = PathSpec { fs: spec.fs.clone(), path };
        let records = state.folders.get(&place).cloned().unwrap_or_default();
        let snapshots = &mut state.subvolume(call, spec)?.snapshots;
        if snapshots.contains_key(name) {
            return Err(error(Kind::Exists, call, spec));
        }
        snapshots.insert(name.to_owned(), (now, records));
        Ok(())
    }

    fn subvolume_snapshot_list(&self, spec: &SubvolumeSpec) -> Result<Vec<SubvolumeSnapshot>> {
        let mut state = self.reach_fs("list subvolume snapshots", &spec.fs)?;
        let all = &state.subvolume("list subvolume snapshots", spec)?.snapshots;
        let listed = |(name, (created, _)): (&String, &(_, _))| SubvolumeSnapshot {
            name: name.clone(),
            created: Some(*created),
            is_copied: false,
        };
        Ok(all.iter().map(listed).collect())
    }

    fn subvolume_snapshot_remove(&self, spec: &SubvolumeSpec, name: &str) -> Result<()> {
        let call = "remove subvolume snapshot";
        let mut state = self.reach_fs(call, &spec.fs)?;
        let gone = state.subvolume(call, spec)?.snapshots.remove(name);
        gone.map(drop).ok_or_else(|| error(Kind::NotFound, call, spec))
    }

    fn subvolume_metadata_list(
        &self,
        spec: &SubvolumeSpec,
        prefix: &str,
    ) -> Result<BTreeMap<String, String>> {
        let mut state = self.reach_fs("list subvolume metadata", &spec.fs)?;
        let mut all = state.subvolume("list subvolume metadata", spec)?.metadata.clone();
        all.retain(|key, _| key.starts_with(prefix));
        Ok(all)
    }

    fn subvolume_clone(
        &self,
        from: &SubvolumeSpec,
        snapshot: &str,
        to: &SubvolumeSpec,
        data_pool: Option<&str>,
    ) -> Result<()> {
        let call = "copy subvolume";
        let mut state = self.reach_fs(call, &from.fs)?;
        let source = state.subvolume(call, from)?;
        let (layout, found) = (source.layout.clone(), source.snapshots.get(snapshot).cloned());
        let (_, records) = found.ok_or_else(|| error(Kind::NotFound, call, from))?;
        if state.subvolume(call, to).is_ok() {
            return Err(error(Kind::Exists, call, to));
        }
        drop(state);
        let data_pool = data_pool.map(str::to_owned);
        self.subvolume_create(to, &SubvolumeLayout { data_pool, ..layout })?;
        let mut state = self.reach_fs(call, &from.fs)?;
        let path = state.subvolume(call, to)?.path.clone();
        state.folders.insert(PathSpec { fs: to.fs.clone(), path }, records);
        Ok(())
    }

    fn subvolume_clone_state(&self, spec: &SubvolumeSpec) -> Result<CloneState> {
        let mut state = self.reach_fs("look at the copy", &spec.fs)?;
        state.subvolume("look at the copy", spec).map(|_| CloneState::Complete)
    }

    fn subvolume_clone_cancel(&self, spec: &SubvolumeSpec) -> Result<()> {
        drop(self.reach_fs("end the copy", &spec.fs)?);
        Ok(())
    }
}

#[test]
fn a_snapshot_keeps_what_was_there_and_a_child_keeps_the_snapshot() {
    let cluster = SimCluster::new();
    let client = cluster.client();
    let image = Location::new("rbd", "docker").image("www");
    let child = Location::new("rbd", "docker").image("child");
    cluster.put_image(&image, ByteSize::gib(1), Content::Other("before".to_owned()));
    let kind = |result: Result<()>| result.expect_err("it fails").kind;
    client.snapshot_create(&image, "one").expect("made");
    assert_eq!(kind(client.snapshot_create(&image, "one")), Kind::Exists);
    client.image_resize(&image, ByteSize::gib(2)).expect("grown");
    cluster.wipe(&image);
    let layout = ImageLayout::default();
    client.image_clone(&image, "one", &child, &layout).expect("cloned");
    let probe = |image| cluster.content(image).expect("there").probe();
    assert_ne!(probe(&child), probe(&image));
    assert_eq!(client.snapshot_children(&image, "one"), Ok(vec![child.clone()]));
    assert_eq!(kind(client.snapshot_remove(&image, "one")), Kind::Busy);
    assert_eq!(kind(client.image_remove(&image)), Kind::NotEmpty);
    client.snapshot_rollback(&image, "one", &|_, _| ()).expect("rolled back");
    assert_eq!(probe(&child), probe(&image));
    assert_eq!(client.image_info(&image).expect("there").size, ByteSize::gib(1));
    client.image_flatten(&child, &|_, _| true).expect("flattened");
    client.snapshot_remove(&image, "one").expect("removed");
    assert_eq!(kind(client.snapshot_children(&image, "one").map(drop)), Kind::NotFound);
    client.image_remove(&image).expect("removed");
}
