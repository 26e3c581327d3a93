//! The environment variables of drivers that came before: not read, but not passed over either.

/// A peer's variable, and where its value belongs here.
const PEERS: [(&str, &str); 17] = [
    ("RBD_CONF_POOL", "DOCKER_CEPH_POOL"),
    ("RBD_CONF_NAMESPACE", "DOCKER_CEPH_NAMESPACE"),
    ("RBD_CONF_CLUSTER", "DOCKER_CEPH_CEPH_CONF (the file's path)"),
    ("RBD_CONF_KEYRING_USER", "DOCKER_CEPH_CLIENT_ID (without \"client.\")"),
    ("RBD_CONF_DEVICE_MAP_ROOT", "nothing: devices are found without links"),
    ("RBD_CONF_MAP_OPTIONS", "DOCKER_CEPH_DEFAULT (map-options=…)"),
    ("RBD_CONF_ORDER", "DOCKER_CEPH_DEFAULT (object-size=…)"),
    ("RBD_DEFAULTPOOL", "DOCKER_CEPH_POOL"),
    ("RBD_CEPHARGS", "DOCKER_CEPH_CEPH_CONF and DOCKER_CEPH_CLIENT_ID"),
    ("MOUNT_OPTIONS", "DOCKER_CEPH_DEFAULT (mount-options=…)"),
    ("VOLUME_FSTYPE", "DOCKER_CEPH_DEFAULT (fs-type=…)"),
    ("VOLUME_MKFS_OPTIONS", "DOCKER_CEPH_DEFAULT (mkfs-options=…)"),
    ("VOLUME_SIZE", "DOCKER_CEPH_DEFAULT (size=…, with a unit)"),
    ("VOLUME_ORDER", "DOCKER_CEPH_DEFAULT (object-size=…)"),
    ("DEFAULT_IMAGE_SIZE", "DOCKER_CEPH_DEFAULT (size=…, with a unit)"),
    ("DEFAULT_IMAGE_FS", "DOCKER_CEPH_DEFAULT (fs-type=…)"),
    ("DEFAULT_IMAGE_FEATURES", "DOCKER_CEPH_DEFAULT (features=…)"),
];

/// What to tell whoever still sets a peer's variables: each that `is_set`, and its successor.
pub fn peer_variables(is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &'static str)> {
    PEERS.into_iter().filter(|(peer, _)| is_set(peer)).collect()
}
