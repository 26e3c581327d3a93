//! Old files of a real file system, with what only real ones have: mounts in them, files that
//! cannot be removed, and an end to waiting.

use docker_volume_ceph::system::OldFiles;
use jiff::Timestamp;

use super::*;

impl Host {
    fn age(&self, names: &[&str]) {
        for name in names {
            let path = self.target().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, "x").expect("a file");
            sh(&format!("touch -d '100 days ago' {}", path.display()));
        }
    }

    fn old_files(&self, remove: bool, deadline: &Deadline) -> Result<OldFiles, SystemErrorKind> {
        let older_than = Timestamp::now() - Duration::from_secs(90 * 86_400);
        let found = self.system.old_files(&self.target(), older_than, remove, deadline);
        found.map_err(|error| error.kind)
    }
}

#[test]
fn old_files_are_removed_and_other_mounts_are_not_entered() {
    for fs_type in [FsType::Ext4, FsType::Xfs] {
        let host = Host::mounted(fs_type);
        host.age(&["a", "b/c", "fixed", "bound/under"]);
        std::fs::write(host.target().join("new"), "x").expect("a file");
        let elsewhere = tempfile::tempdir().expect("a folder");
        let other = elsewhere.path().join("other");
        std::fs::write(&other, "x").expect("a file");
        sh(&format!("touch -d '100 days ago' {}", other.display()));
        let (bound, fixed) = (host.target().join("bound"), host.target().join("fixed"));
        sh(&format!("mount --bind {} {}", elsewhere.path().display(), bound.display()));
        sh(&format!("chattr +i {}", fixed.display()));
        let listed = host.old_files(false, &soon());
        let removed = host.old_files(true, &soon());
        sh(&format!("chattr -i {}; umount {}", fixed.display(), bound.display()));
        assert_eq!(listed.expect("listed").count, 3, "{fs_type}");
        let mut removed = removed.expect("removed");
        removed.names.sort();
        assert_eq!(removed.names, ["a", "b/c"], "{fs_type}");
        assert_eq!((removed.count, removed.kept, removed.whole), (2, 1, true), "{fs_type}");
        assert!(other.exists(), "{fs_type}: another mount was entered");
        let there = |name: &str| host.target().join(name).exists();
        assert_eq!(
            ["a", "b/c", "b", "new", "fixed", "bound/under"].map(there),
            [false, false, true, true, true, true]
        );
    }
}

#[test]
fn old_files_of_a_file_system_that_stands_still_hold_nobody_up() {
    let host = Host::mounted(FsType::Ext4);
    host.age(&["a"]);
    let frozen = docker_volume_ceph::system::Freezing::freeze(
        &host.system,
        &host.target(),
        Duration::from_secs(30),
        &soon(),
    );
    let frozen = frozen.expect("frozen");
    let begun = Instant::now();
    let stuck = host.old_files(true, &Deadline::after(Duration::from_millis(600)));
    let took = begun.elapsed();
    frozen.thaw().expect("thawed");
    let error = stuck.expect_err("it cannot have been removed");
    assert!(matches!(error, SystemErrorKind::Timeout { .. }), "{error}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn many_old_files_and_no_time_for_all_is_no_error() {
    let host = Host::mounted(FsType::Xfs);
    let many = host.target().join("many");
    sh(&format!(
        "mkdir {0} && cd {0} && seq 20000 | xargs touch -d '100 days ago'",
        many.display()
    ));
    let begun = Instant::now();
    let listed = host.old_files(false, &soon()).expect("listed");
    println!("20,000 old files listed in {:?}", begun.elapsed());
    assert_eq!((listed.count, listed.names.len(), listed.whole), (20_000, 100, true));
    let some = host.old_files(true, &Deadline::after(Duration::from_millis(800)));
    let some = some.expect("it ends by itself");
    println!("{} removed in at most 600 ms", some.count);
    let begun = Instant::now();
    let rest = host.old_files(true, &soon()).expect("the rest");
    println!("{} more removed in {:?}", rest.count, begun.elapsed());
    assert!(rest.whole && some.count + rest.count == 20_000, "{some:?} {rest:?}");
}

#[test]
fn old_files_of_a_read_only_mount_are_listed_and_not_removed() {
    let host = Host::mounted(FsType::Ext4);
    host.age(&["a"]);
    sh(&format!("mount -o remount,ro {}", host.target().display()));
    assert_eq!(host.old_files(false, &soon()).expect("listed").count, 1);
    let error = host.old_files(true, &soon()).expect_err("it cannot be written");
    let SystemErrorKind::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.raw_os_error(), Some(libc::EROFS), "{error}");
}
