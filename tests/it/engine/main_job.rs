//! The main job: a container's data outlives it.

use std::thread;

use crate::engine::at_data;
use crate::support::host::{Docker, IMAGE, for_each_kind, on_newest};

for_each_kind!(
    a_container_reads_back_what_another_wrote,
    ls_shows_a_volume_until_it_is_removed,
    a_name_of_compose_and_its_labels_are_kept,
    a_mount_option_makes_the_volume_with_its_options,
    an_anonymous_volume_goes_with_its_container,
    an_images_content_is_copied_into_a_fresh_volume,
);

/// 8 MiB of noise and its checksum, on the disk.
pub(super) const WRITE: &str = "cd /data && dd if=/dev/urandom of=noise bs=1M count=8 2>/dev/null \
     && sha256sum noise > sums && sync noise && sync sums && cat sums";

/// The checksum, after a comparison.
pub(super) const READ: &str = "cd /data && sha256sum -c sums >&2 && cat sums";

fn a_container_reads_back_what_another_wrote() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        let written = host.docker().script(at_data!(volume), WRITE);
        host.assert_released();
        assert_eq!(host.docker().script(at_data!(volume), READ), written);
        assert!(host.stored().contains(&volume));
    });
}

#[test]
fn inspect_tells_what_a_volume_is_and_who_has_it() {
    on_newest(|host| {
        let volume = host.volume(&["size=64M"]);
        let container = host.fresh("c");
        host.docker().idle(&container, at_data!(volume));
        let told = host.docker().inspect(&volume);
        let status = &told["Status"];
        assert_eq!((&told["Driver"], &told["Scope"]), (&"ceph".into(), &"global".into()));
        assert_eq!(told["Options"]["size"], "64M");
        assert!(told["Mountpoint"].as_str().is_some_and(|path| host.path(path).is_dir()), "{told}");
        for (key, value) in [
            ("kind", "rbd"),
            ("pool", "rbd"),
            ("namespace", "docker"),
            ("image", &volume),
            ("state", "mounted"),
            ("file-system", "ext4"),
            ("mapper", "fuse"),
        ] {
            assert_eq!(status[key], value, "{key} in {status}");
        }
        assert_eq!(status["size"], 64 << 20, "{status}");
        assert_eq!(status["holder"]["host"], host.name(), "{status}");
        assert_eq!(status["holder"]["here"], true, "{status}");
        assert!(status["holder"]["address"].is_string(), "{status}");
        assert!(status["device"].as_str().is_some_and(|d| d.starts_with("/dev/loop")), "{status}");
        assert_eq!(status["mounts"].as_array().map(Vec::len), Some(1), "{status}");
        let created = told["CreatedAt"].as_str().expect("a time");
        let created: jiff::Timestamp = created.parse().expect("a time");
        let age = jiff::Timestamp::now().duration_since(created);
        assert!(age.abs() < jiff::SignedDuration::from_mins(2), "created {created}");
        host.docker().ok(&["rm", "--force", &container]);
        host.assert_released();
        let status = host.docker().inspect(&volume)["Status"].clone();
        assert_eq!(status["state"], "ready", "{status}");
        assert!(status["holder"].is_null(), "{status}");
        assert!(status["used"].as_u64().is_some_and(|used| used > 0), "{status}");
    });
}

fn ls_shows_a_volume_until_it_is_removed() {
    on_newest(|host| {
        let volume = host.volume(&[]);
        assert_eq!(host.docker().volumes("ceph", &volume), [volume.as_str()]);
        assert_eq!(host.docker().ok(&["volume", "rm", &volume]), volume);
        assert!(host.docker().volumes("ceph", &volume).is_empty());
        let said = host.docker().refused(&["volume", "rm", &volume]);
        assert!(said.contains("no such volume"), "{said}");
        // The name can be used again, and nothing of the first is in the second.
        host.docker().ok(&["volume", "create", "-d", "ceph", "-o", "size=64M", &volume]);
        assert_eq!(host.docker().script(at_data!(volume), "ls -A /data"), "");
        host.docker().ok(&["volume", "rm", &volume]);
    });
}

fn a_name_of_compose_and_its_labels_are_kept() {
    on_newest(|host| {
        let volume = host.fresh("my_project_db-data.1");
        let docker = host.docker();
        let labels = ["--label", "com.docker.compose.volume=db-data", "--label", "a=b"];
        let create = ["volume", "create", "-d", "ceph", "-o", "size=64M"];
        docker.ok(&[&create[..], &labels, &[&volume]].concat());
        docker.script(at_data!(volume), "echo kept > /data/file");
        assert_eq!(docker.inspect(&volume)["Labels"]["com.docker.compose.volume"], "db-data");
        assert_eq!(docker.script(at_data!(volume), "cat /data/file"), "kept");
    });
}

fn a_mount_option_makes_the_volume_with_its_options() {
    on_newest(|host| {
        let volume = host.fresh("v");
        let mount = format!(
            "type=volume,source={volume},target=/data,volume-driver=ceph,\
             volume-opt=size=80M,volume-opt=mode=0750"
        );
        let docker = host.docker();
        let mode = docker.script(&["--mount", &mount], "echo 1 > /data/file; stat -c %a /data");
        assert_eq!(mode, "750");
        assert_eq!(docker.inspect(&volume)["Status"]["size"], 80 << 20);
        let again = docker.script(&["--mount", &mount], "cat /data/file");
        assert_eq!(again, "1");
    });
}

fn an_anonymous_volume_goes_with_its_container() {
    on_newest(|host| {
        let before = host.docker().volumes("ceph", "");
        let docker = host.docker();
        let options = ["--volume-driver", "ceph", "-v", "/data"];
        let script = "echo here > /data/file; cat /data/file";
        assert_eq!(docker.script(&options, script), "here");
        host.assert_released();
        assert_eq!(docker.volumes("ceph", ""), before);
    });
}

fn an_images_content_is_copied_into_a_fresh_volume() {
    on_newest(|host| {
        let image = image_with_content(host.docker(), &host.fresh("content"));
        let (copied, bare) = (host.volume(&[]), host.volume(&[]));
        let look = |mount: String| {
            let list = "cd /data; ls -A; stat -c %u:%a sub; cat sub/file";
            let run = ["run", "--rm", "--network", "none", "--mount", &mount, &image];
            host.docker().run(&[&run[..], &["sh", "-c", list]].concat())
        };
        let output = look(format!("type=volume,source={copied},target=/data"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "sub\n999:750\nfrom the image\n");
        let output = look(format!("type=volume,source={bare},target=/data,volume-nocopy"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "nocopy");
        host.assert_released();
        host.docker().ok(&["rmi", "--force", &image]);
    });
}

/// An image with a folder at `/data`, and something in it.
fn image_with_content(docker: &Docker, name: &str) -> String {
    let make = "mkdir -p /data/sub; echo 'from the image' > /data/sub/file; \
                chmod 750 /data/sub; chown 999 /data/sub";
    docker.ok(&["run", "--network", "none", "--name", name, IMAGE, "sh", "-c", make]);
    docker.ok(&["commit", name, &format!("{name}:1")]);
    docker.ok(&["rm", name]);
    format!("{name}:1")
}

#[test]
fn a_fresh_volume_is_empty_and_a_database_may_use_it() {
    on_newest(|host| {
        for fs_type in ["ext4", "xfs"] {
            let volume = host.volume(&["size=320M", &format!("fs-type={fs_type}")]);
            let docker = host.docker();
            assert_eq!(docker.script(at_data!(volume), "ls -A /data"), "", "{fs_type}");
            let mounted = docker.script(at_data!(volume), "grep ' /data ' /proc/mounts");
            assert_eq!(mounted.split(' ').nth(2), Some(fs_type), "{mounted}");
        }
    });
}

#[test]
fn twenty_volumes_are_mounted_at_once() {
    on_newest(|host| {
        let volumes: Vec<String> = (0..20).map(|_| host.volume(&["size=32M"])).collect();
        let containers: Vec<String> = (0..4).map(|_| host.fresh("c")).collect();
        thread::scope(|scope| {
            for (container, volumes) in containers.iter().zip(volumes.chunks(5)) {
                let docker = host.docker().clone();
                scope.spawn(move || docker.idle(container, &many(volumes)));
            }
        });
        assert!(volumes.iter().all(|volume| host.is_mounted(volume)));
        for container in &containers {
            let write =
                "for i in 0 1 2 3 4; do echo $i > /data$i/file; done; sync; df | grep -c /data";
            assert_eq!(host.docker().exec(container, write), "5");
        }
        let words: Vec<&str> = containers.iter().map(String::as_str).collect();
        host.docker().ok(&[&["rm", "--force"], &words[..]].concat());
        host.assert_released();
        for (index, volume) in volumes.iter().enumerate().step_by(7) {
            let read = host.docker().script(at_data!(volume), "cat /data/file");
            assert_eq!(read, (index % 5).to_string());
        }
    });
}

/// `-v A:/data0 -v B:/data1 …`
fn many(volumes: &[String]) -> Vec<&'static str> {
    let named = volumes.iter().enumerate();
    named
        .flat_map(|(index, volume)| {
            let mount: &'static str = Box::leak(format!("{volume}:/data{index}").into_boxed_str());
            ["-v", mount]
        })
        .collect()
}
