//! What the simulation itself promises: that it keeps data, and that it sees what must never
//! happen. A watchman that sees nothing would pass every test.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use docker_volume_ceph::ceph::{ClusterErrorKind, ImageLayout, Images, Monitor, Objects, Swap};
use docker_volume_ceph::deadline::Deadline;
use docker_volume_ceph::system::{
    Filesystems, FolderMountRequest, FolderMounts, FormatRequest, MapRequest, MappedDevice,
    Mappers, MountRequest, Mounts, SystemErrorKind,
};
use docker_volume_ceph::volume::{
    ByteSize, CephFsClient, FsType, ImageSpec, Location, MapperKind, PathSpec,
};

use crate::sim::{SimCluster, SimHost};

const AT: &str = "/volumes/v";

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(5))
}

fn image() -> ImageSpec {
    Location::new("rbd", "docker").image("v")
}

/// A cluster with one image, and a host.
fn stage() -> (Arc<SimCluster>, Arc<SimHost>) {
    let cluster = SimCluster::new();
    let layout = ImageLayout { size: ByteSize::gib(1), ..ImageLayout::default() };
    cluster.client().image_create(&image(), &layout).expect("an image");
    let host = SimHost::boot("alpha", &cluster, MapperKind::ALL);
    (cluster, host)
}

fn map(host: &SimHost, mapper: MapperKind) -> Result<MappedDevice, String> {
    let (image, map_options) = (image(), Vec::new());
    let request = MapRequest { mapper, image, read_only: false, map_options, client: None };
    host.map(&request, &soon()).map_err(|error| error.to_string())
}

fn format(host: &SimHost, device: &MappedDevice) {
    let request = FormatRequest { fs_type: FsType::Ext4, mkfs_options: Vec::new() };
    host.format(&device.device, &request, &soon()).expect("mkfs runs");
}

fn mount(host: &SimHost, device: &MappedDevice) {
    let request = MountRequest {
        device: device.device.clone(),
        target: PathBuf::from(AT),
        fs_type: FsType::Ext4,
        read_only: false,
        options: Vec::new(),
    };
    host.mount(&request, &soon()).expect("it mounts");
}

#[test]
fn data_follows_the_image_from_host_to_host() {
    let (cluster, alpha) = stage();
    let device = map(&alpha, MapperKind::Krbd).expect("mapped");
    format(&alpha, &device);
    mount(&alpha, &device);
    assert!(alpha.write_at(Path::new(AT), 7));
    alpha.write_unsynced_at(Path::new(AT), 8);
    assert!(map(&SimHost::boot("beta", &cluster, MapperKind::ALL), MapperKind::Krbd).is_err());
    alpha.unmount(Path::new(AT), &soon()).expect("unmounted");
    alpha.unmap(&device, &soon()).expect("unmapped");

    let beta = SimHost::boot("beta", &cluster, MapperKind::ALL);
    let device = map(&beta, MapperKind::Krbd).expect("mapped");
    mount(&beta, &device);
    assert_eq!(beta.read_at(Path::new(AT)), Some([7, 8].into()));
    assert_eq!(cluster.violations(), [""; 0]);
}

#[test]
fn a_reboot_loses_what_was_not_synced_and_leaves_a_watch_for_a_while() {
    let (cluster, alpha) = stage();
    let device = map(&alpha, MapperKind::Krbd).expect("mapped");
    format(&alpha, &device);
    mount(&alpha, &device);
    assert!(alpha.write_at(Path::new(AT), 7));
    alpha.write_unsynced_at(Path::new(AT), 8);
    let again = alpha.reboot();
    assert!(alpha.mounts().is_err() && again.mapped().expect("it runs").is_empty());
    assert!(map(&again, MapperKind::Krbd).is_err(), "the old watch still stands");
    cluster.advance(Duration::from_secs(31));
    let device = map(&again, MapperKind::Krbd).expect("mapped");
    mount(&again, &device);
    assert_eq!(again.read_at(Path::new(AT)), Some([7].into()));
}

#[test]
fn a_device_stays_busy_while_a_container_holds_its_file_system() {
    let (cluster, host) = stage();
    let device = map(&host, MapperKind::Fuse).expect("mapped");
    format(&host, &device);
    mount(&host, &device);
    assert!(host.start_container("c", Path::new(AT)));
    assert_eq!(host.holders(device.number, Path::new(AT)).expect("asked").len(), 1);
    host.unmount(Path::new(AT), &soon()).expect("the container does not hinder it");
    let error = host.unmap(&device, &soon()).expect_err("in use");
    assert!(matches!(error.kind, SystemErrorKind::Busy(holders) if holders.len() == 1));
    assert!(host.write_in("c", 3));
    host.stop_container("c");
    host.unmap(&device, &soon()).expect("free");
    assert_eq!(cluster.watch_count(), 0);
    assert_eq!(cluster.violations(), [""; 0]);
}

#[test]
fn two_writers_a_second_mkfs_and_a_bare_folder_are_seen() {
    let (cluster, alpha) = stage();
    let beta = SimHost::boot("beta", &cluster, MapperKind::ALL);
    let device = map(&alpha, MapperKind::Fuse).expect("mapped");
    format(&alpha, &device);
    assert_eq!(cluster.violations(), [""; 0]);
    let other = map(&beta, MapperKind::Fuse).expect("fuse pins no lock");
    assert_eq!(cluster.violations(), [""; 0]);
    mount(&beta, &other);
    assert_eq!(cluster.violations().len(), 1, "two writers");
    assert!(beta.write_at(Path::new(AT), 7));
    format(&beta, &other);
    assert_eq!(cluster.violations().len(), 3, "a format of data, and while it was mounted");
    beta.start_container("c", Path::new("/somewhere"));
    assert_eq!(cluster.violations().len(), 4, "a bare folder");
}

#[test]
fn a_key_is_set_only_where_it_holds_what_is_expected() {
    let client = SimCluster::new().client();
    let at = Location::new("rbd", "docker");
    let swap = |expected: Option<&str>, new: Option<&str>| {
        let (expected, new) = (expected.map(str::as_bytes), new.map(str::as_bytes));
        let swapped = client.omap_compare_and_set(&at, "catalog", "k", expected, new);
        swapped.expect("the cluster answers")
    };
    assert_eq!(swap(Some("a"), Some("b")), Swap::Changed);
    assert_eq!(swap(None, Some("a")), Swap::Swapped);
    assert_eq!(swap(None, Some("b")), Swap::Changed);
    assert_eq!(swap(Some("a"), None), Swap::Swapped);
    assert_eq!(client.omap_get(&at, "catalog", "k"), Ok(None));
    assert_eq!(client.object_version(&at, "catalog"), Ok(2));
}

#[test]
fn an_outage_a_fence_and_a_full_pool_are_told_apart() {
    let (cluster, _) = stage();
    let client = cluster.client();
    let kind = |result: Result<(), docker_volume_ceph::ceph::ClusterError>| {
        result.expect_err("it fails").kind
    };
    cluster.set_reachable(false);
    assert_eq!(kind(client.status().map(drop)), ClusterErrorKind::Unreachable);
    cluster.set_reachable(true);
    cluster.set_full("rbd", true);
    let write = || client.metadata_set(&image(), "key", "value");
    assert_eq!(kind(write()), ClusterErrorKind::NoSpace);
    cluster.set_full("rbd", false);
    let address = client.own_address().expect("an address");
    let year = Duration::from_secs(31_536_000);
    cluster.client().blocklist_add(&address, year).expect("fenced");
    assert_eq!(kind(write()), ClusterErrorKind::Fenced);
    write().expect("a new connection");
}

#[test]
fn a_folder_of_cephfs_is_shared_and_a_fenced_client_serves_nobody() {
    let cluster = SimCluster::new();
    let place = PathSpec { fs: "cephfs".to_owned(), path: "/volumes/v".to_owned() };
    let hosts = ["alpha", "beta"].map(|name| SimHost::boot(name, &cluster, MapperKind::ALL));
    let request = FolderMountRequest {
        client: CephFsClient::Kernel,
        fs: place.fs.clone(),
        path: place.path.clone(),
        target: PathBuf::from(AT),
        read_only: false,
        options: Vec::new(),
        access: cluster.client().client_access().expect("the access"),
        id: "v".to_owned(),
    };
    hosts[0].mount_folder(&request, &soon()).expect_err("no such folder");
    cluster.put_folder(&place, &[]);
    let mounts =
        hosts.each_ref().map(|host| host.mount_folder(&request, &soon()).expect("a mount"));
    assert!(hosts[0].write_at(Path::new(AT), 1));
    assert_eq!(hosts[1].read_at(Path::new(AT)), cluster.folder(&place));

    let fenced = mounts[0].client_address.as_deref().expect("an address");
    cluster.client().blocklist_add(fenced, Duration::from_secs(60)).expect("fenced");
    assert!(!hosts[0].write_at(Path::new(AT), 2));
    assert!(!hosts[0].is_alive(Path::new(AT), &soon()).expect("an answer"));
    assert!(hosts[1].is_alive(Path::new(AT), &soon()).expect("an answer"));
    assert!(hosts[1].start_container("c", Path::new(AT)));
    let busy = hosts[1].unmount_folder(&mounts[1], &soon()).expect_err("a container has it");
    assert!(matches!(busy.kind, SystemErrorKind::Busy(_)), "{busy}");
    hosts[1].stop_container("c");
    for (host, mount) in hosts.iter().zip(&mounts) {
        host.unmount_folder(mount, &soon()).expect("an unmount");
        assert_eq!(host.folder_mounts().expect("the mounts"), []);
        assert_eq!(host.folder_clients(), Vec::<String>::new());
    }

    let mount = hosts[0].mount_folder(&request, &soon()).expect("a mount");
    hosts[0].kill_folder_client(Path::new(AT));
    assert!(!hosts[0].is_alive(Path::new(AT), &soon()).expect("an answer"));
    hosts[0].cut_off_folder(&mount, &soon()).expect("cut off");
    assert_eq!(hosts[0].folder_mounts().expect("the mounts"), []);
    assert_eq!(cluster.folder(&place).map(|records| records.len()), Some(1));
}
