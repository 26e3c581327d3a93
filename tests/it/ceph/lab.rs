//! The cluster that these tests speak to, and the stock tools beside it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use docker_volume_ceph::ceph::{Access, ImageLayout, Images, RadosCluster};
use docker_volume_ceph::volume::{ByteSize, ImageSpec, Location};

/// A cluster in a folder.
pub(super) struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// The cluster of the environment.
    pub(super) fn get() -> Self {
        Self::at("cluster")
    }

    /// A cluster in another folder of the lab.
    pub(super) fn at(name: &str) -> Self {
        let Some(lab) = std::env::var_os("DOCKER_CEPH_LAB") else {
            panic!("this test needs a cluster: run it with `make test T=ceph`");
        };
        Self { folder: PathBuf::from(lab).join(name) }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn conf(&self) -> PathBuf {
        self.folder.join("ceph.conf")
    }

    pub(super) fn access(&self, client: &str) -> Access {
        let keyring = self.folder.join(format!("ceph.client.{client}.keyring"));
        Access { keyring: Some(keyring), ..Access::new(self.conf(), client) }
    }

    /// A connection with a host's key.
    pub(super) fn cluster(&self) -> RadosCluster {
        RadosCluster::new(self.access("docker"))
    }

    /// A connection that may do everything.
    pub(super) fn admin(&self) -> RadosCluster {
        RadosCluster::new(self.access("admin"))
    }

    /// A stock tool with the administrator's key, for at most 30 s.
    pub(super) fn tool(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg("30").args(line.split(' ')).env("CEPH_CONF", self.conf());
        command.stdin(Stdio::null());
        command
    }

    /// What a stock tool prints; it must succeed.
    pub(super) fn run(&self, line: &str) -> String {
        let output = self.tool(line).output().expect("the tool is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{line}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A name that no other test uses.
pub(super) fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub(super) fn home() -> Location {
    Location::new("rbd", "docker")
}

/// A new image of 64 MiB in the home namespace.
pub(super) fn new_image(cluster: &RadosCluster, what: &str) -> ImageSpec {
    let image = home().image(unique(what));
    let layout = ImageLayout { size: ByteSize::mib(64), ..ImageLayout::default() };
    cluster.image_create(&image, &layout).expect("created");
    image
}

/// Waits until a condition holds.
pub(super) fn eventually(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    let mut condition = condition;
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program that is ended with the test.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // `timeout` hands this signal on, which it could not do with SIGKILL. The process may
        // have ended by itself.
        drop(Command::new("kill").arg(self.0.id().to_string()).status());
        drop(self.0.wait());
    }
}

/// A number of this process from `/proc/self/status`, such as `VmRSS` (in KiB) or `Threads`.
pub(super) fn own(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|value| value.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).expect("a number")
}

/// Another process that writes to the image, until it is dropped.
pub(super) fn writer(lab: &Lab, image: &ImageSpec) -> Running {
    let line = format!("rbd bench {image} --io-type write --io-size 4K --io-total 10G");
    let mut command = lab.tool(&line);
    command.args(["--io-threads", "1"]).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().expect("rbd"))
}
