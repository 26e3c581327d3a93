//! The Debian package (`dist/debian`), in a Debian that has never seen the driver, by its own apt. What
//! its units do is shown on a host with systemd (`hosts::packaging`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::{built, write};
use crate::support::daemon::{Lab, run, timed};
use crate::support::host::text;

/// Packed in a moment instead of half a minute, and so larger than what is published.
const QUICKLY: [(&str, &str); 3] = [
    ("DPKG_DEB_COMPRESSOR_TYPE", "gzip"),
    ("DPKG_DEB_COMPRESSOR_LEVEL", "1"),
    ("LIMIT", "100000000"),
];

/// A package of this version.
#[derive(Debug)]
pub(crate) struct Package {
    /// Where it is.
    pub(crate) path: PathBuf,
    sha256: String,
}

/// Builds it of the program that these tests have.
pub(crate) fn package(folder: &Path, version: &str) -> Package {
    let said = built(120, "dist/debian/build", |command| {
        command.arg(folder).arg(version).envs(QUICKLY);
    });
    Package { path: said("package").into(), sha256: said("sha256") }
}

impl Package {
    /// The same as another version, which is repacked sooner than it is built.
    pub(crate) fn renumbered(&self, version: &str) -> Self {
        let path = self.path.with_file_name(format!("{version}.deb"));
        let script = "dpkg-deb --raw-extract \"$0\" \"$1.d\" && \
                      sed -i \"s/^Version: .*/Version: $2/\" \"$1.d/DEBIAN/control\" && \
                      dpkg-deb --build \"$1.d\" \"$1\" && sha256sum < \"$1\"";
        let mut command = timed(60, "sh");
        command.args(["-ec", script]).arg(&self.path).arg(&path).arg(version).envs(QUICKLY);
        let output = run(&mut command);
        assert!(output.status.success(), "{output:?}");
        Self { path, sha256: text(&output) }
    }
}

/// A Debian with nothing but what apt needs.
struct Debian {
    root: tempfile::TempDir,
}

impl Debian {
    fn unpack() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let archive = Lab::of_environment().folder().join("debian.tar");
        let output = run(timed(60, "tar").arg("-xf").arg(archive).arg("-C").arg(root.path()));
        assert!(output.status.success(), "{output:?}");
        for file in ["etc/resolv.conf", "etc/hosts"] {
            fs::copy(Path::new("/").join(file), root.path().join(file)).expect("copied");
        }
        Self { root }
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    /// Runs a script of sh in it, in namespaces that end with it.
    fn try_script(&self, script: &str) -> Output {
        let enter = "mount -t proc proc \"$0/proc\" && exec chroot \"$0\" sh -euc \"$1\"";
        let mut command = timed(300, "unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", enter]);
        command.arg(self.root.path()).arg(script).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)
    }

    #[track_caller]
    fn script(&self, script: &str) -> String {
        let output = self.try_script(script);
        assert!(output.status.success(), "{script}: {output:?}");
        text(&output)
    }

    /// Installs a package, and by apt what it needs.
    #[track_caller]
    fn install(&self, package: &Package) {
        fs::copy(&package.path, self.path("root/new.deb")).expect("copied");
        self.script("apt-get install -y -qq --no-install-recommends /root/new.deb");
    }

    /// What there is of the driver, but for what dpkg remembers.
    fn of_the_driver(&self) -> String {
        self.script(
            "find / -xdev \\( -name '*docker-volume-ceph*' -o -name '*docker-ceph*' \\) \
             -not -path '/var/lib/dpkg/*' | sort",
        )
    }
}

#[test]
fn a_clean_debian_installs_upgrades_removes_and_purges_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, again] = ["a", "b"].map(|name| package(&folder.path().join(name), "1.0"));
    assert_eq!(one.sha256, again.sha256, "the same program has the same bytes");
    let other = one.renumbered("1.1-1");

    let debian = Debian::unpack();
    let before = debian.of_the_driver();
    debian.install(&one);
    assert_eq!(debian.script("dpkg --verify docker-volume-ceph"), "");
    assert_installed(&debian);

    // The operator's settings are kept, and so is what is behind a mount, whatever happens.
    let settings = "etc/docker-volume-ceph/config.toml";
    let own = fs::read_to_string(debian.path(settings)).expect("settings") + "pool = \"own\"\n";
    write(&debian.path(settings), &own);
    debian.install(&other);
    assert_eq!(debian.script("dpkg-query -Wf '${Version}' docker-volume-ceph"), "1.1-1");
    assert_eq!(fs::read_to_string(debian.path(settings)).ok(), Some(own));
    assert!(debian.script(MOUNTED).contains("not removed: volumes of it are in use"));

    debian.script("apt-get remove -y -qq docker-volume-ceph");
    assert!(debian.path(settings).exists());
    assert!(!debian.path("usr/bin/docker-ceph").exists());
    debian.script("echo DOCKER_CEPH_POOL=own > /etc/default/docker-volume-ceph");
    assert!(debian.script(PURGED_UNDER_A_MOUNT).contains("kept: something is mounted"));
    debian.install(&one);
    debian.script("apt-get purge -y -qq docker-volume-ceph; rm /root/new.deb");
    assert_eq!(debian.of_the_driver(), before);
}

/// What an operator finds after the installation.
#[track_caller]
fn assert_installed(debian: &Debian) {
    assert!(debian.script("docker-ceph version").contains(env!("CARGO_PKG_VERSION")));
    let plugin = "usr/libexec/docker/cli-plugins/docker-ceph docker-cli-plugin-metadata";
    assert!(debian.script(&format!("/{plugin}")).contains("\"ShortDescription\""));
    let said = text(&debian.try_script("docker-ceph doctor"));
    for line in ["✓ settings: all are valid", "✓ programs: all are there", "✗ ceph.conf"] {
        assert!(said.contains(line), "{said}");
    }
    for file in [
        "usr/share/man/man1/docker-ceph-snapshot-create.1.gz",
        "usr/share/bash-completion/completions/docker-ceph",
        "usr/share/zsh/vendor-completions/_docker-ceph",
        "usr/share/fish/vendor_completions.d/docker-ceph.fish",
        "usr/share/docker-volume-ceph/hooks/postgresql",
        "usr/share/docker-volume-ceph/grafana/docker-volume-ceph.json",
        "usr/share/docker-volume-ceph/prometheus/alerts.yml",
        "etc/docker-volume-ceph/hooks.d/pre-snapshot",
        "lib/systemd/system/docker-volume-ceph-snapshot@.timer",
    ] {
        assert!(debian.path(file).exists(), "{file}");
    }
    let enabled = "cd /etc/systemd/system && find . -name '*docker-volume-ceph*' | sort";
    assert_eq!(
        debian.script(enabled).lines().collect::<Vec<_>>(),
        [
            "./multi-user.target.wants/docker-volume-ceph-drain.service",
            "./multi-user.target.wants/docker-volume-ceph.service",
            "./sockets.target.wants/docker-volume-ceph.socket",
        ]
    );
}

/// A volume is mounted where the driver mounts them: the package refuses to go, and all is as before.
const MOUNTED: &str = "\
    at=/var/lib/docker-volume-ceph/mounts/v; mkdir -p $at; mount -t tmpfs data $at; \
    ! apt-get remove -y -qq docker-volume-ceph 2>&1; \
    docker-ceph --version > /dev/null; dpkg --verify docker-volume-ceph";

/// It is gone already; what was mounted since is somebody's.
const PURGED_UNDER_A_MOUNT: &str = "\
    at=/var/lib/docker-volume-ceph/mounts/v; mkdir -p $at; mount -t tmpfs data $at; echo data > $at/file; \
    apt-get purge -y -qq docker-volume-ceph 2>&1; cat $at/file; umount $at; \
    rm -r /var/lib/docker-volume-ceph";
