//! What an operator does to volumes, seen from containers.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::engine::{SOON, at_data};
use crate::support::daemon::{Lab, run, timed, within};
use crate::support::host::{for_each_kind, on_newest};

for_each_kind!(
    a_removed_volume_comes_back_from_the_trash,
    a_protected_volume_is_removed_only_after_its_protection,
    a_volume_belongs_to_whom_its_options_say,
    a_catalog_that_was_lost_is_rebuilt_from_the_images,
);

/// The size of the file system at `/data`, in KiB.
const SIZE: &str = "df -k /data | tail -n 1 | awk '{print $2}'";

#[test]
fn a_volume_grows_under_a_running_container() {
    on_newest(|host| {
        for fs_type in ["xfs", "ext4"] {
            let volume = host.volume(&["size=320M", &format!("fs-type={fs_type}")]);
            let container = host.fresh("c");
            host.docker().idle(&container, at_data!(volume));
            let size = || host.docker().exec(&container, SIZE).parse::<u64>().expect("a number");
            let before = size();
            host.docker().exec(&container, "echo kept > /data/file");
            let said = host.tool(&["resize", &volume, "512M"]);
            assert!(said.contains("320 MiB to 512 MiB"), "{said}");
            // Here, as in most containers, ext4 has to wait: the kernel wants SYS_RESOURCE.
            if said.contains("at the next mount") {
                assert_eq!(fs_type, "ext4", "{said}");
                assert_eq!(size(), before);
                host.docker().ok(&["restart", &container]);
            }
            assert!(size() > before + 150 * 1024, "{fs_type}: {before} to {}", size());
            assert_eq!(host.docker().exec(&container, "cat /data/file"), "kept");
            assert_eq!(host.docker().inspect(&volume)["Status"]["size"], 512 << 20);
            let output = host.try_tool(&["resize", &volume, "320M"]);
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            host.docker().ok(&["rm", "--force", &container]);
        }
    });
}

#[test]
fn a_volume_that_nobody_uses_grows_at_its_next_mount() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M"]);
        let before: u64 = host.docker().script(at_data!(volume), SIZE).parse().expect("a number");
        host.assert_released();
        let said = host.tool(&["resize", &volume, "128M"]);
        assert!(said.contains("at the next mount"), "{said}");
        let after: u64 = host.docker().script(at_data!(volume), SIZE).parse().expect("a number");
        assert!(after > before + 40 * 1024, "{before} to {after}");
    });
}

fn a_removed_volume_comes_back_from_the_trash() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        host.docker().script(at_data!(volume), "echo kept > /data/file");
        host.assert_released();
        host.docker().ok(&["volume", "rm", &volume]);
        assert!(host.docker().volumes("ceph", &volume).is_empty());
        assert!(host.tool(&["ls", "--trash"]).contains(&volume));
        host.tool(&["undelete", &volume]);
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
        host.assert_released();
        // Under another name as well, beside a new volume of the old one.
        host.docker().ok(&["volume", "rm", &volume]);
        let (other, again) = (host.fresh("other"), volume.clone());
        host.docker().ok(&["volume", "create", "-d", "ceph", "-o", "size=64M", &again]);
        host.tool(&["undelete", &volume, "--as", &other]);
        assert_eq!(host.docker().script(at_data!(other), "cat /data/file"), "kept");
        host.docker().ok(&["volume", "rm", &again, &other]);
    });
}

fn a_protected_volume_is_removed_only_after_its_protection() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M", "protected=true"]);
        let said = host.docker().refused(&["volume", "rm", "--force", &volume]);
        assert!(said.contains("protected") && said.contains("unprotect"), "{said}");
        host.tool(&["unprotect", &volume]);
        host.tool(&["protect", &volume]);
        host.docker().refused(&["volume", "rm", &volume]);
        host.tool(&["unprotect", &volume]);
        host.docker().ok(&["volume", "rm", &volume]);
    });
}

fn a_volume_belongs_to_whom_its_options_say() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M", "uid=999", "gid=998", "mode=2770"]);
        let owner = host.docker().script(at_data!(volume), "stat -c %u:%g:%a /data");
        assert_eq!(owner, "999:998:2770");
        // What a container changes stays changed.
        host.docker().script(at_data!(volume), "chmod 0700 /data; chown 5 /data");
        let as_user = ["--user", "5", "-v", &format!("{volume}:/data")];
        let script = "touch /data/file; stat -c %u:%g:%a /data";
        assert_eq!(host.docker().script(&as_user, script), "5:998:700");
    });
}

/// The mapper of these tests is the one that cannot; the others are proved in virtual machines.
#[test]
fn trim_says_where_blocks_cannot_be_given_back() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M", "discard=true"]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let mounted = host.docker().exec(&container, "grep ' /data ' /proc/mounts");
        assert!(mounted.contains("discard"), "{mounted}");
        let output = host.try_tool(&["trim", &volume]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot give blocks back"), "{said}");
        let fill = "dd if=/dev/urandom of=/data/big bs=1M count=16 2>/dev/null; rm /data/big; sync";
        host.docker().exec(&container, fill);
        host.docker().ok(&["rm", "--force", &container]);
        let output = host.try_tool(&["trim", &volume]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("not mounted"), "{output:?}");
    });
}

#[test]
fn an_image_that_was_made_by_hand_is_adopted_as_it_is() {
    on_newest(|host| {
        let (image, volume) = (host.fresh("hand"), host.fresh("adopted"));
        make_by_hand(host.lab(), &image);
        host.tool(&["adopt", &format!("rbd/docker/{image}"), "--name", &volume]);
        let script = "cat /data/by-hand; echo more > /data/more; sync /data/more";
        assert_eq!(host.docker().script(at_data!(volume), script), "made by hand");
        host.assert_released();
        let second = ["adopt", &format!("rbd/docker/{image}"), "--name", &host.fresh("second")];
        let output = host.try_tool(&second);
        assert_eq!(output.status.code(), Some(6), "{output:?}");
        // Removing only forgets what is another's; it can be adopted again.
        host.docker().ok(&["volume", "rm", &volume]);
        assert!(host.lab().rbd(&["ls"]).lines().any(|found| found == image));
        let options = ["-d", "ceph", "-o", &format!("image=rbd/docker/{image}"), &volume];
        host.docker().ok(&[&["volume", "create"], &options[..]].concat());
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/more"), "more");
        host.assert_released();
        host.docker().ok(&["volume", "rm", &volume]);
        host.lab().rbd(&["rm", "--no-progress", &image]);
    });
}

/// `rbd create`, a device in user space, mkfs, a file: as a person without our driver does it.
fn make_by_hand(lab: &Lab, image: &str) {
    lab.rbd(&["create", "--size", "64M", image]);
    let folder = tempfile::tempdir().expect("a folder");
    let (fuse, mounted) = (folder.path().join("fuse"), folder.path().join("mounted"));
    fs::create_dir(&fuse).expect("a folder");
    fs::create_dir(&mounted).expect("a folder");
    let conf = lab.conf();
    let rbd_fuse = ["-p", "rbd", "-s", "docker", "-r", image];
    let mut command = timed(30, "rbd-fuse");
    // With the administrator's key, which the cluster's own configuration names.
    assert_done(run(command.arg("-c").arg(&conf).args(rbd_fuse).arg(&fuse)));
    let device = fuse.join(image);
    assert!(within(SOON, || device.exists()), "no {}", device.display());
    assert_done(run(timed(30, "mkfs.ext4").args(["-q", "-F"]).arg(&device)));
    assert_done(run(timed(30, "mount").args(["-o", "loop"]).arg(&device).arg(&mounted)));
    let written = fs::write(mounted.join("by-hand"), "made by hand\n");
    umount(&mounted);
    umount(&fuse);
    written.expect("the file system can be written");
    let free = || !lab.rbd(&["status", image]).contains("watcher=");
    assert!(within(SOON, free), "{}", lab.rbd(&["status", image]));
}

fn umount(path: &Path) {
    assert_done(run(timed(30, "umount").arg(path)));
}

#[track_caller]
fn assert_done(output: std::process::Output) {
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_tool_is_a_command_of_docker() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let plugins = host.ceph_folder().parent().expect("a host").join("config/cli-plugins");
        fs::create_dir_all(&plugins).expect("a folder");
        let link = plugins.join("docker-ceph");
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_docker-ceph"), &link).expect("a link");
        let config = plugins.parent().expect("a folder").to_str().expect("text").to_owned();
        let output = host.inside(30, &["docker", "--config", &config, "ceph", "ls"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(&volume), "{output:?}");
    });
}

fn a_catalog_that_was_lost_is_rebuilt_from_the_images() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M", "mode=0711"]);
        host.docker().script(at_data!(volume), "echo kept > /data/file");
        host.assert_released();
        let said = host.tool(&["catalog", "rebuild", "--json"]);
        let rebuilt: Value = serde_json::from_str(&said).expect("the tool prints JSON");
        let kept = rebuilt["kept"].as_array().expect("a list");
        assert!(kept.iter().any(|name| *name == volume), "{said}");
        assert_eq!(host.docker().script(at_data!(volume), "cat /data/file"), "kept");
    });
}
