//! File systems as a snapshot leaves them: mounted for reading only, and cloned.

use super::*;

/// What a power cut, or a snapshot without a freeze, leaves of a file system in use: a copy of it
/// with a journal to replay, on a loop device of its own.
struct Shot {
    host: Host,
    /// It stays mounted beside the copy.
    _parent: Host,
}

impl Shot {
    fn of(fs_type: FsType) -> Self {
        let parent = Host::mounted(fs_type);
        std::fs::write(parent.target().join("old"), b"old").expect("written");
        sh(&format!("sync -f {0}; fsfreeze -f {0}; fsfreeze -u {0}", parent.target().display()));
        let file = File::create(parent.target().join("new")).expect("a file");
        (&file).write_all(b"new").and_then(|()| file.sync_all()).expect("synced");
        let host = Host::new();
        let copy = "bs=1M oflag=direct 2>&1";
        sh(&format!("dd if={} of={} {copy}", parent.file.display(), host.device.display()));
        Self { host, _parent: parent }
    }

    fn set_read_only(&self, read_only: bool) {
        let how = if read_only { "--setro" } else { "--setrw" };
        sh(&format!("blockdev {how} {}", self.host.device.display()));
    }

    fn mount(&self, fs_type: FsType, read_only: bool) -> Result<(), String> {
        let request = MountRequest { read_only, ..self.host.request(fs_type) };
        self.host.system.mount(&request, &soon()).map_err(|error| error.to_string())
    }

    fn uuid(&self) -> String {
        sh(&format!("blkid -p -o value -s UUID {}", self.host.device.display()))
    }

    fn renew(&self, fs_type: FsType) {
        self.host.system.new_uuid(&self.host.device, fs_type, &soon()).expect("another UUID");
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.host.target().join(name)).ok()
    }
}

/// The next one with that number would be for reading only as well.
impl Drop for Shot {
    fn drop(&mut self) {
        let _ = Command::new("timeout")
            .args(["20", "blockdev", "--setrw"])
            .arg(&self.host.device)
            .status();
    }
}

#[test]
fn a_journal_that_cannot_be_replayed_does_not_stop_a_read_only_mount() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let shot = Shot::of(fs_type);
        shot.set_read_only(true);
        let nouuid = if fs_type == FsType::Xfs { ",nouuid" } else { "" };
        let plain = format!("mount -o ro{nouuid} {} /mnt", shot.host.device.display());
        let refused = Command::new("timeout").args(["30", "sh", "-c", &plain]).output();
        assert!(!refused.expect("a shell").status.success(), "{fs_type}: its journal is clean");
        shot.mount(fs_type, true).expect("mounted beside its parent");
        assert_eq!(shot.read("old").as_deref(), Some(&b"old"[..]), "{fs_type}");
        shot.host.unmount();
        // The mount has changed nothing: a clone of it replays.
        shot.set_read_only(false);
        shot.renew(fs_type);
        shot.mount(fs_type, false).expect("mounted");
        assert_eq!(shot.read("new").as_deref(), Some(&b"new"[..]), "{fs_type}");
    }
}

#[test]
fn a_journal_that_can_be_replayed_is_replayed_for_reading_too() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let shot = Shot::of(fs_type);
        shot.mount(fs_type, true).expect("mounted beside its parent");
        assert_eq!(shot.read("new").as_deref(), Some(&b"new"[..]), "{fs_type}");
    }
}

#[test]
fn a_clone_gets_a_uuid_of_its_own_and_is_replayed_for_it() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let shot = Shot::of(fs_type);
        let parents = shot.uuid();
        if fs_type == FsType::Xfs {
            shot.mount(fs_type, false).expect_err("its parent is mounted");
        }
        let begun = Instant::now();
        shot.renew(fs_type);
        println!("{fs_type}: another UUID after {:?}", begun.elapsed());
        let own = shot.uuid();
        assert_ne!(own, parents, "{fs_type}");
        let mounts = shot.host.system.mounts().expect("the mounts");
        let device = shot.host.device.to_str().expect("text");
        assert!(mounts.iter().all(|mount| mount.source != device), "{fs_type}: left mounted");
        shot.mount(fs_type, false).expect("mounted beside its parent");
        assert_eq!(shot.read("new").as_deref(), Some(&b"new"[..]), "{fs_type}");
        shot.host.unmount();
        // One that is clean, too.
        let begun = Instant::now();
        shot.renew(fs_type);
        println!("{fs_type}, clean: another UUID after {:?}", begun.elapsed());
        assert_ne!(shot.uuid(), own, "{fs_type}");
    }
}

#[test]
fn what_is_mounted_or_no_file_system_gets_no_uuid() {
    let host = Host::mounted(FsType::Xfs);
    host.system.new_uuid(&host.device, FsType::Xfs, &soon()).expect_err("it is mounted");
    let host = Host::new();
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        host.system.new_uuid(&host.device, fs_type, &soon()).expect_err("nothing is there");
    }
    assert_eq!(host.probe(), Probe::Empty);
}
