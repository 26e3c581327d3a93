//! What an earlier daemon left: mounts, loop devices and FUSE folders below our own folders.
//!
//! A daemon that runs accounts for them itself. Without one they are either volumes that go on
//! working (which is how it should be) or what a crash left half-made.

use std::path::{Path, PathBuf};

use super::{ok, warning};
use crate::config::Folders;
use crate::service::Finding;
use crate::system::{LinuxSystem, Mount, Mounts, loop_devices};

/// A loop device whose file lies below the state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoopDevice {
    pub(super) device: String,
    pub(super) backing: PathBuf,
}

/// What is below our folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Facts {
    /// Below the mount root.
    pub(super) volumes: Vec<Mount>,
    /// Below the state folder: the mappers' own mounts.
    pub(super) helpers: Vec<Mount>,
    pub(super) loops: Vec<LoopDevice>,
}

impl Facts {
    pub(super) fn gather(system: &LinuxSystem, folders: &Folders) -> Self {
        let mounts = system.mounts().unwrap_or_default();
        let below = |folder: &Path| {
            let below = |mount: &&Mount| mount.target.starts_with(folder);
            mounts.iter().filter(below).cloned().collect()
        };
        Self {
            volumes: below(&folders.mount_root),
            helpers: below(&folders.state),
            loops: loops_below(&folders.state),
        }
    }
}

pub(super) fn check(facts: &Facts, daemon_lives: bool) -> Vec<Finding> {
    if daemon_lives {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let count = facts.volumes.len();
    if count > 0 {
        let targets: Vec<_> =
            facts.volumes.iter().map(|mount| mount.target.display().to_string()).collect();
        let detail = format!("{count} mounted without a daemon: {}", targets.join(", "));
        let advice = "containers go on working with them; start the daemon, which takes them over";
        findings.push(warning("leftovers", detail, advice));
    }
    findings
        .extend(facts.loops.iter().filter(|device| !is_mounted(device, facts)).map(unused_loop));
    findings.extend(facts.helpers.iter().filter(|mount| !is_used(mount, facts)).map(unused_helper));
    if findings.is_empty() {
        findings.push(ok("leftovers", "none"));
    }
    findings
}

fn is_mounted(device: &LoopDevice, facts: &Facts) -> bool {
    facts.volumes.iter().any(|mount| mount.source == device.device)
}

fn is_used(mount: &Mount, facts: &Facts) -> bool {
    facts.loops.iter().any(|device| device.backing.starts_with(&mount.target))
}

fn unused_loop(device: &LoopDevice) -> Finding {
    let LoopDevice { device, backing } = device;
    let detail = format!("{device} on {} is mounted nowhere", backing.display());
    let advice = format!("start the daemon, which collects it; or by hand: losetup -d {device}");
    warning("leftovers", detail, advice)
}

fn unused_helper(mount: &Mount) -> Finding {
    let target = mount.target.display();
    let detail = format!("{target} ({}) is used by no device", mount.fs_type);
    let advice = format!("start the daemon, which collects it; or by hand: umount -l {target}");
    warning("leftovers", detail, advice)
}

fn loops_below(folder: &Path) -> Vec<LoopDevice> {
    let all = loop_devices().unwrap_or_default().into_iter();
    let below = all.filter(|(_, backing)| backing.starts_with(folder));
    below
        .map(|(device, backing)| LoopDevice { device: device.display().to_string(), backing })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;
    use crate::system::DeviceNumber;

    fn mounted(source: &str, target: &str) -> Mount {
        Mount {
            number: DeviceNumber { major: 7, minor: 3 },
            root: "/".into(),
            target: target.into(),
            fs_type: "ext4".into(),
            source: source.into(),
            read_only: false,
        }
    }

    fn whole() -> Facts {
        Facts {
            volumes: vec![mounted("/dev/loop3", "/m/pgdata")],
            helpers: vec![mounted("rbd-fuse", "/s/fuse/a")],
            loops: vec![LoopDevice { device: "/dev/loop3".into(), backing: "/s/fuse/a/i".into() }],
        }
    }

    #[test]
    fn a_living_daemon_accounts_for_what_is_there() {
        assert_eq!(check(&whole(), true), []);
        assert_eq!(check(&Facts::default(), false)[0].verdict, Verdict::Ok);
    }

    #[test]
    fn volumes_without_a_daemon_are_no_rubbish() {
        let findings = check(&whole(), false);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].advice.as_deref().is_some_and(|text| text.contains("go on working")));
    }

    #[test]
    fn what_nobody_uses_is_named_with_its_cure() {
        let no_volume = Facts { volumes: Vec::new(), ..whole() };
        let findings = check(&no_volume, false);
        assert!(
            findings[0].advice.as_deref().is_some_and(|a| a.ends_with("losetup -d /dev/loop3"))
        );
        let no_loop = Facts { loops: Vec::new(), volumes: Vec::new(), ..whole() };
        let findings = check(&no_loop, false);
        assert!(findings[0].advice.as_deref().is_some_and(|a| a.ends_with("umount -l /s/fuse/a")));
    }
}
