//! Several users of one volume: containers, `docker cp`, read-only mounts.

use std::fs;
use std::thread;

use crate::engine::at_data;
use crate::support::daemon::within;
use crate::support::host::{Host, for_each_kind, on_newest};

use super::SOON;

for_each_kind!(
    two_containers_share_a_volume_until_the_last_one_ends,
    containers_that_start_at_once_get_one_mount,
    a_copy_into_a_running_container_leaves_its_volume_mounted,
    a_copy_out_of_a_stopped_container_unmounts_again,
    a_read_only_mount_reads_while_another_container_writes,
    volumes_from_another_container_are_the_same_volumes,
    one_container_may_have_a_volume_twice,
    what_is_in_use_cannot_be_removed,
);

fn two_containers_share_a_volume_until_the_last_one_ends() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let (first, second) = (host.fresh("c"), host.fresh("c"));
        let docker = host.docker();
        docker.idle(&first, at_data!(volume));
        docker.idle(&second, at_data!(volume));
        docker.exec(&first, "echo from the first > /data/file; sync /data/file");
        assert_eq!(docker.exec(&second, "cat /data/file"), "from the first");
        docker.ok(&["rm", "--force", &first]);
        assert!(host.is_mounted(&volume));
        docker.exec(&second, "echo from the second >> /data/file; sync /data/file");
        docker.ok(&["stop", &second]);
        host.assert_released();
        docker.ok(&["start", &second]);
        assert_eq!(docker.exec(&second, "tail -n 1 /data/file"), "from the second");
    });
}

fn containers_that_start_at_once_get_one_mount() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let names: Vec<String> = (0..5).map(|_| host.fresh("c")).collect();
        thread::scope(|scope| {
            for name in &names {
                let (docker, volume) = (host.docker().clone(), &volume);
                scope.spawn(move || docker.idle(name, at_data!(volume)));
            }
        });
        let status = host.docker().inspect(&volume)["Status"].clone();
        assert_eq!(status["mounts"].as_array().map(Vec::len), Some(5), "{status}");
        for (number, name) in names.iter().enumerate() {
            host.docker().exec(name, &format!("echo {number} >> /data/file"));
        }
        assert_eq!(host.docker().exec(&names[0], "wc -l < /data/file"), "5");
    });
}

fn a_copy_into_a_running_container_leaves_its_volume_mounted() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        copy_in_and_out(host, &container, "while it runs");
        assert!(host.is_mounted(&volume));
        let read = "cat /data/copied; echo more > /data/more; sync /data/more; cat /data/more";
        assert_eq!(host.docker().exec(&container, read), "while it runs\nmore");
        assert_eq!(host.docker().inspect(&volume)["Status"]["state"], "mounted");
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
        assert_eq!(
            host.docker().script(at_data!(volume), "cat /data/copied /data/more"),
            "while it runs\nmore"
        );
    });
}

fn a_copy_out_of_a_stopped_container_unmounts_again() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        host.docker().ok(&["stop", &container]);
        host.assert_released();
        copy_in_and_out(host, &container, "while it is stopped");
        host.assert_released();
        assert_eq!(
            host.docker().script(at_data!(volume), "cat /data/copied"),
            "while it is stopped"
        );
    });
}

/// `docker cp` of a file into the volume and back out of it.
pub(super) fn copy_in_and_out(host: &Host, container: &str, content: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (there, back) = (folder.path().join("copied"), folder.path().join("back"));
    fs::write(&there, format!("{content}\n")).expect("written");
    let (there, back) = (there.to_str().expect("text"), back.to_str().expect("text"));
    host.docker().ok(&["cp", there, &format!("{container}:/data/copied")]);
    host.docker().ok(&["cp", &format!("{container}:/data/copied"), back]);
    assert_eq!(fs::read_to_string(back).expect("it was copied"), format!("{content}\n"));
}

fn a_read_only_mount_reads_while_another_container_writes() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let (writer, reader) = (host.fresh("c"), host.fresh("c"));
        let docker = host.docker();
        docker.idle(&writer, at_data!(volume));
        docker.idle(&reader, &["-v", &format!("{volume}:/data:ro")]);
        docker.exec(&writer, "echo written > /data/file");
        assert_eq!(docker.exec(&reader, "cat /data/file"), "written");
        let said = docker.refused(&["exec", &reader, "touch", "/data/other"]);
        assert!(said.contains("Read-only file system"), "{said}");
        docker.ok(&["rm", "--force", &writer]);
        assert_eq!(docker.exec(&reader, "cat /data/file"), "written");
    });
}

fn volumes_from_another_container_are_the_same_volumes() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let (first, second) = (host.fresh("c"), host.fresh("c"));
        let docker = host.docker();
        docker.idle(&first, at_data!(volume));
        docker.exec(&first, "echo 1 > /data/file");
        docker.idle(&second, &["--volumes-from", &first]);
        docker.ok(&["rm", "--force", &first]);
        assert_eq!(docker.exec(&second, "cat /data/file"), "1");
    });
}

fn one_container_may_have_a_volume_twice() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let (one, two) = (format!("{volume}:/data"), format!("{volume}:/other"));
        let script = "echo 1 > /data/file; cat /other/file";
        assert_eq!(host.docker().script(&["-v", &one, "-v", &two], script), "1");
        host.assert_released();
    });
}

fn what_is_in_use_cannot_be_removed() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let said = host.docker().refused(&["volume", "rm", &volume]);
        assert!(said.contains("volume is in use"), "{said}");
        // The engine refuses by itself; who asks the driver is told who has it.
        let reply = host.call("Remove", &serde_json::json!({"Name": volume})).expect("an answer");
        assert!(reply.error().contains("in use by 1 mount on this host"), "{reply:?}");
        let output = host.try_tool(&["rm", &volume]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let who = host.tool(&["who", &volume, "--json"]);
        assert!(who.contains("\"processes\": [\n") && who.contains(host.name()), "{who}");
        assert_eq!(host.docker().exec(&container, "touch /data/file; ls /data"), "file");
        host.docker().ok(&["rm", "--force", &container]);
        assert!(within(SOON, || !host.is_mounted(&volume)));
    });
}
