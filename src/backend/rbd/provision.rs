//! Making, describing and destroying images.

use std::time::Duration;

use super::super::cephfs::LOCK_PREFIX;
use super::super::{
    BackendError, Found, Plan, Provisioning, Result, StoredInfo, Trash, TrashedItem,
};
use super::{DESCRIPTION_KEY, RbdBackend};
use crate::ceph::{ClusterError, ClusterErrorKind, ImageLayout, PoolUsage, TrashedImage, Watcher};
use crate::volume::{ByteSize, ImageSpec, Location, MapperKind, VolumeName, VolumeOptions};

impl Provisioning<ImageSpec> for RbdBackend {
    fn plan(&self, name: &VolumeName, options: &VolumeOptions) -> Result<Plan<ImageSpec>> {
        if let Some(image) = &options.image {
            return self.plan_adoption(image, options);
        }
        let location = self.location_of(options).image(name.as_str());
        self.check_pools(&location.location, options)?;
        // A host that cannot map at all may still create for those that can.
        if let Ok(mapper) = self.choose_mapper(options.mapper) {
            self.check_features(mapper, &options.features, &location)?;
        }
        match self.cluster.image_info(&location) {
            Ok(_) => Err(BackendError::Conflict(format!(
                "there is an image {location} already, which is no volume; adopt it with \
                 docker ceph adopt {location} --name {name}, or choose another name"
            ))),
            Err(error) if error.kind == ClusterErrorKind::NotFound => {
                Ok(Plan { location, size: options.new_size().unwrap_or_default(), adopted: false })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn provision(&self, location: &ImageSpec, options: &VolumeOptions) -> Result<()> {
        match self.cluster.image_create(location, &self.layout(options)?) {
            Err(error) if error.kind == ClusterErrorKind::Exists => {
                let found = self.cluster.image_info(location)?.size;
                if Some(found) == options.new_size() {
                    return Ok(());
                }
                Err(BackendError::Conflict(format!(
                    "there is an image {location} of {found} already, not of {}, so it is none of \
                     ours",
                    options.new_size().unwrap_or_default()
                )))
            }
            other => Ok(other?),
        }
    }

    fn describe(&self, location: &ImageSpec, description: &str) -> Result<()> {
        Ok(self.cluster.metadata_set(location, DESCRIPTION_KEY, description)?)
    }

    fn description(&self, location: &ImageSpec) -> Result<Option<String>> {
        Ok(self.cluster.metadata_get(location, DESCRIPTION_KEY)?)
    }

    fn deprovision(&self, location: &ImageSpec, keep: Option<Duration>) -> Result<()> {
        let gone = match keep {
            Some(keep) => self.cluster.trash_move(location, keep),
            None => self.remove_with_snapshots(location),
        };
        match gone {
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    fn close(&self, _: &ImageSpec) -> Result<()> {
        Ok(())
    }

    fn info(&self, location: &ImageSpec) -> Result<StoredInfo> {
        let info = self.cluster.image_info(location)?;
        Ok(StoredInfo { id: info.id, size: info.size, features: info.features })
    }

    fn stored(&self, location: &ImageSpec) -> Result<ByteSize> {
        Ok(self.cluster.image_used(location)?)
    }

    fn watchers(&self, location: &ImageSpec) -> Result<Vec<Watcher>> {
        Ok(self.cluster.watchers(location)?)
    }

    fn resize(&self, location: &ImageSpec, size: ByteSize) -> Result<()> {
        Ok(self.cluster.image_resize(location, size)?)
    }

    fn room(&self, pool: &str) -> Result<PoolUsage> {
        Ok(self.cluster.pool_usage(pool)?)
    }

    fn survey(&self) -> Result<Vec<Found<ImageSpec>>> {
        let mut found = Vec::new();
        for at in self.places()? {
            // A place that the key does not open holds nothing of ours.
            found.extend(self.survey_place(&at).unwrap_or_default());
        }
        Ok(found)
    }
}

impl Trash<ImageSpec> for RbdBackend {
    fn trash(&self) -> Result<Vec<TrashedItem<ImageSpec>>> {
        let mut found = Vec::new();
        for at in self.places()? {
            // As above.
            let Ok(images) = self.cluster.trash_list(&at) else { continue };
            found.extend(images.into_iter().map(|image| trashed(&at, image)));
        }
        Ok(found)
    }

    fn trash_description(&self, item: &TrashedItem<ImageSpec>) -> Result<Option<String>> {
        let at = &item.location.location;
        Ok(self.cluster.trash_metadata_get(at, &item.id, DESCRIPTION_KEY)?)
    }

    fn restored(&self, name: &VolumeName) -> Result<Vec<Found<ImageSpec>>> {
        let location = self.home.image(name.as_str());
        match self.cluster.metadata_get(&location, DESCRIPTION_KEY) {
            Ok(description) => Ok(vec![Found { location, description }]),
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    fn restore(&self, item: &TrashedItem<ImageSpec>, name: &VolumeName) -> Result<ImageSpec> {
        let at = &item.location.location;
        self.cluster.trash_restore(at, &item.id, name.as_str())?;
        Ok(at.image(name.as_str()))
    }

    fn purge(&self, item: &TrashedItem<ImageSpec>) -> Result<()> {
        let at = &item.location.location;
        let gone = match self.cluster.trash_remove(at, &item.id) {
            Err(error) if error.kind == ClusterErrorKind::NotEmpty => self
                .cluster
                .trash_snapshots_remove(at, &item.id)
                .and_then(|()| self.cluster.trash_remove(at, &item.id)),
            other => other,
        };
        match gone {
            Err(error) if error.kind == ClusterErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }
}

fn trashed(at: &Location, image: TrashedImage) -> TrashedItem<ImageSpec> {
    TrashedItem {
        location: at.image(&image.name),
        name: image.name,
        id: image.id,
        deleted: image.deleted,
        kept_until: image.kept_until,
    }
}

impl RbdBackend {
    /// Every pool and namespace that this client can see.
    fn places(&self) -> Result<Vec<Location>> {
        let mut places = vec![self.home.clone()];
        for pool in self.cluster.pools()? {
            // A client sees the pools that its capabilities name, and no others.
            let Ok(namespaces) = self.cluster.namespaces(&pool) else { continue };
            let all = std::iter::once(String::new()).chain(namespaces);
            places.extend(all.map(|namespace| Location::new(&pool, namespace)));
        }
        places.sort();
        places.dedup();
        Ok(places)
    }

    /// An image for good, and its snapshots with it.
    fn remove_with_snapshots(&self, image: &ImageSpec) -> crate::ceph::Result<()> {
        match self.cluster.image_remove(image) {
            Err(error) if error.kind == ClusterErrorKind::NotEmpty => {
                for snapshot in self.cluster.snapshot_list(image)? {
                    self.cluster.snapshot_remove(image, &snapshot.name)?;
                }
                self.cluster.image_remove(image)
            }
            other => other,
        }
    }

    fn survey_place(&self, at: &Location) -> Result<Vec<Found<ImageSpec>>> {
        let mut found = Vec::new();
        let images = self.cluster.image_list(at)?.into_iter();
        for image in images.filter(|image| !image.starts_with(LOCK_PREFIX)) {
            let location = at.image(image);
            match self.description(&location) {
                Ok(description) => found.push(Found { location, description }),
                // Removed since it was listed.
                Err(BackendError::Cluster(ClusterError {
                    kind: ClusterErrorKind::NotFound,
                    ..
                })) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn location_of(&self, options: &VolumeOptions) -> Location {
        let pool = options.pool.clone();
        // The home namespace is one of the home pool; another pool has its own, or none.
        let namespace = match (&options.namespace, &pool) {
            (Some(namespace), _) => namespace.clone(),
            (None, Some(pool)) if *pool != self.home.pool => String::new(),
            (None, _) => self.home.namespace.clone(),
        };
        Location::new(pool.unwrap_or_else(|| self.home.pool.clone()), namespace)
    }

    fn check_pools(&self, at: &Location, options: &VolumeOptions) -> Result<()> {
        let pools = self.cluster.pools()?;
        for (option, pool) in [("pool", Some(&at.pool)), ("data-pool", options.data_pool.as_ref())]
        {
            if let Some(pool) = pool.filter(|pool| !pools.contains(pool)) {
                return Err(BackendError::Invalid(format!(
                    "{option} {pool:?} is not in this cluster; its pools are {}",
                    pools.join(", ")
                )));
            }
        }
        if at.namespace.is_empty() {
            return Ok(());
        }
        let namespaces = match self.cluster.namespaces(&at.pool) {
            Ok(namespaces) if !namespaces.contains(&at.namespace) => namespaces,
            // A key for one namespace alone may not list them; making the image then tells.
            Err(error) if error.kind != ClusterErrorKind::Denied => return Err(error.into()),
            Ok(_) | Err(_) => return Ok(()),
        };
        Err(BackendError::Invalid(format!(
            "namespace {:?} is not in pool {}, which has {}; make it with: rbd namespace create {at}",
            at.namespace,
            at.pool,
            if namespaces.is_empty() { "none".to_owned() } else { namespaces.join(", ") },
        )))
    }

    fn plan_adoption(&self, image: &ImageSpec, options: &VolumeOptions) -> Result<Plan<ImageSpec>> {
        let info = self.cluster.image_info(image)?;
        let mapper = self.choose_mapper(options.mapper)?;
        self.check_features(mapper, &info.features, image)?;
        Ok(Plan { location: image.clone(), size: info.size, adopted: true })
    }

    /// The layout of a new image. Where no features are asked for, those that the mapper carries of
    /// the ones that a volume needs or gains by.
    fn layout(&self, options: &VolumeOptions) -> Result<ImageLayout> {
        let features = if options.features.is_empty() {
            self.default_features(options)
        } else {
            options.features.clone()
        };
        Ok(ImageLayout {
            size: options.new_size().unwrap_or_default(),
            features,
            object_size: options.object_size,
            stripes: options.stripes,
            data_pool: options.data_pool.clone(),
        })
    }

    fn default_features(&self, options: &VolumeOptions) -> Vec<String> {
        let wanted = ["layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"];
        let carried = match self.choose_mapper(options.mapper) {
            Ok(mapper) => self.system.carried_features(mapper),
            // This host cannot map at all; another one will.
            Err(_) => None,
        };
        let fits = |name: &&str| carried.as_ref().is_none_or(|all| all.iter().any(|c| c == name));
        wanted.iter().filter(|name| fits(name)).map(|name| (*name).to_owned()).collect()
    }

    /// Refuses an image that the mapper cannot carry, with the command that would change it.
    pub(super) fn check_features(
        &self,
        mapper: MapperKind,
        features: &[String],
        image: &ImageSpec,
    ) -> Result<()> {
        let Some(carried) = self.system.carried_features(mapper) else { return Ok(()) };
        let missing: Vec<&str> =
            features.iter().filter(|f| !carried.contains(f)).map(String::as_str).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(BackendError::Invalid(format!(
            "image {image} has features that {mapper} on this host cannot carry: {}; turn them off \
             with: rbd feature disable {image} {}",
            missing.join(", "),
            missing.join(" ")
        )))
    }

    /// The mapper to use: the volume's, else the daemon's, else krbd, else nbd.
    pub(super) fn choose_mapper(&self, asked: Option<MapperKind>) -> Result<MapperKind> {
        let supported = self.system.supported();
        let missing = |kind: MapperKind| {
            supported.iter().find(|s| s.mapper == kind).and_then(|s| s.missing.clone())
        };
        if let Some(mapper) = asked.or(self.mapper) {
            return match missing(mapper) {
                None => Ok(mapper),
                Some(why) => Err(BackendError::Invalid(format!(
                    "mapper {mapper} cannot be used on this host: {why}"
                ))),
            };
        }
        let automatic = [MapperKind::Krbd, MapperKind::Nbd];
        automatic.into_iter().find(|kind| missing(*kind).is_none()).ok_or_else(|| {
            let why = |kind| format!("{kind}: {}", missing(kind).unwrap_or_default());
            BackendError::Invalid(format!(
                "no mapper can be used on this host ({}; {}); where neither module is to be had, \
                 set mapper to fuse",
                why(MapperKind::Krbd),
                why(MapperKind::Nbd)
            ))
        })
    }
}
