//! Kernel modules, devices and programs: what the mappers and file systems need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{failed, ok, warning};
use crate::service::Finding;
use crate::volume::MapperKind;

/// Where programs are looked for: the folders of a root user, whatever `PATH` says.
const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Programs that every mapper's volumes need, with Debian's package of each.
const PROGRAMS: [(&str, &str); 5] = [
    ("blkid", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("resize2fs", "e2fsprogs"),
    ("fstrim", "util-linux"),
];

/// Programs for XFS, without which ext4 still works.
const XFS_PROGRAMS: [(&str, &str); 2] = [("mkfs.xfs", "xfsprogs"), ("xfs_growfs", "xfsprogs")];

/// Programs of the mappers.
const MAPPER_PROGRAMS: [(&str, &str); 4] = [
    ("rbd", "ceph-common"),
    ("rbd-nbd", "rbd-nbd"),
    ("rbd-fuse", "rbd-fuse"),
    ("losetup", "util-linux"),
];

/// How a kernel module is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Module {
    /// In the kernel, now.
    Present,
    /// On disk, to be loaded.
    Loadable,
    /// Neither.
    Missing,
}

/// What this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) modules: BTreeMap<&'static str, Module>,
    pub(super) programs: BTreeSet<&'static str>,
    pub(super) fuse_device: bool,
    pub(super) loop_control: bool,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let folder = format!("/lib/modules/{}", release.trim());
        let list = fs::read_to_string(format!("{folder}/modules.dep")).unwrap_or_default();
        let builtin = fs::read_to_string(format!("{folder}/modules.builtin")).unwrap_or_default();
        let module = |name: &'static str, evidence: &str| {
            let present = Path::new(evidence).exists() || is_listed(&builtin, name);
            let found = match (present, is_listed(&list, name)) {
                (true, _) => Module::Present,
                (false, true) => Module::Loadable,
                (false, false) => Module::Missing,
            };
            (name, found)
        };
        let known = PROGRAMS.iter().chain(&XFS_PROGRAMS).chain(&MAPPER_PROGRAMS);
        Self {
            modules: [module("rbd", "/sys/bus/rbd"), module("nbd", "/sys/block/nbd0")].into(),
            programs: known.map(|(name, _)| *name).filter(|name| is_installed(name)).collect(),
            fuse_device: Path::new("/dev/fuse").exists(),
            loop_control: Path::new("/dev/loop-control").exists(),
        }
    }

    /// What a mapper lacks here, and how to get it; nothing where it can be used.
    fn lacks(&self, mapper: MapperKind) -> Vec<String> {
        let module = |name| match self.modules.get(name) {
            Some(Module::Present) => None,
            Some(Module::Loadable) => Some(format!("modprobe {name} (it is not loaded)")),
            _ => Some(format!("a kernel with the module {name} (this one has none)")),
        };
        let program = |name: &str| {
            let (_, package) = MAPPER_PROGRAMS.iter().find(|(known, _)| *known == name)?;
            let missing = !self.programs.contains(name);
            missing.then(|| format!("apt install {package} (there is no {name})"))
        };
        let device = |there: bool, path: &str, module: &str| {
            (!there).then(|| format!("modprobe {module} (there is no {path})"))
        };
        let needs = match mapper {
            MapperKind::Krbd => vec![module("rbd")],
            MapperKind::Nbd => vec![module("nbd"), program("rbd-nbd")],
            MapperKind::Fuse => vec![
                device(self.fuse_device, "/dev/fuse", "fuse"),
                device(self.loop_control, "/dev/loop-control", "loop"),
                program("rbd-fuse"),
                program("losetup"),
            ],
        };
        needs.into_iter().flatten().collect()
    }
}

/// Checks the mapper of the settings (`None`: krbd, else nbd) and the programs.
pub(super) fn check(facts: &Facts, chosen: Option<MapperKind>) -> Vec<Finding> {
    let mut findings = vec![check_mapper(facts, chosen)];
    findings.extend(check_programs(facts));
    findings
}

fn check_mapper(facts: &Facts, chosen: Option<MapperKind>) -> Finding {
    let candidates = match &chosen {
        Some(mapper) => std::slice::from_ref(mapper),
        None => &[MapperKind::Krbd, MapperKind::Nbd][..],
    };
    if let Some(usable) = candidates.iter().find(|mapper| facts.lacks(**mapper).is_empty()) {
        return ok("mapper", format!("{usable} can be used"));
    }
    let lacks =
        |mapper: &MapperKind| format!("{mapper} needs: {}", facts.lacks(*mapper).join(", "));
    let detail: Vec<_> = candidates.iter().map(lacks).collect();
    let others = MapperKind::ALL.iter().filter(|mapper| !candidates.contains(mapper));
    let usable = others.copied().find(|mapper| facts.lacks(*mapper).is_empty());
    let advice = match usable {
        Some(mapper) => format!("do one of these, or set mapper = \"{mapper}\", which works here"),
        None => "do one of these".to_owned(),
    };
    failed("mapper", detail.join("\n"), advice)
}

fn check_programs(facts: &Facts) -> Vec<Finding> {
    let missing = |wanted: &[(&'static str, &'static str)]| {
        let missing = wanted.iter().filter(|(name, _)| !facts.programs.contains(name));
        let (names, packages): (Vec<_>, BTreeSet<_>) = missing.copied().unzip();
        (names.join(", "), packages.into_iter().collect::<Vec<_>>().join(" "))
    };
    let mut findings = Vec::new();
    match missing(&PROGRAMS) {
        (names, _) if names.is_empty() => findings.push(ok("programs", "all are there")),
        (names, packages) => {
            let advice = format!("apt install {packages}");
            findings.push(failed("programs", format!("missing: {names}"), advice));
        }
    }
    let (names, packages) = missing(&XFS_PROGRAMS);
    if !names.is_empty() {
        let detail = format!("missing: {names}; volumes with fs-type=xfs cannot be mounted here");
        findings.push(warning("programs for xfs", detail, format!("apt install {packages}")));
    }
    findings
}

/// Is `name.ko` (or `.ko.xz` …) in a list of the kernel's modules?
fn is_listed(list: &str, name: &str) -> bool {
    let files = list.lines().map(|line| line.split(':').next().unwrap_or_default());
    let mut names = files.filter_map(|path| path.rsplit('/').next()?.split_once(".ko"));
    names.any(|(module, _)| module == name)
}

fn is_installed(program: &str) -> bool {
    FOLDERS.iter().any(|folder| Path::new(folder).join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;

    fn facts(rbd: Module, nbd: Module, programs: &[&'static str]) -> Facts {
        let all = PROGRAMS.iter().chain(&XFS_PROGRAMS).map(|(name, _)| *name);
        Facts {
            modules: [("rbd", rbd), ("nbd", nbd)].into(),
            programs: all.chain(programs.iter().copied()).collect(),
            fuse_device: true,
            loop_control: true,
        }
    }

    #[test]
    fn the_mapper_of_the_settings_is_the_one_that_counts() {
        use Module::{Loadable, Missing, Present};
        let fuse = ["rbd-fuse", "losetup"];
        for (facts, chosen, verdict, said) in [
            (facts(Present, Missing, &[]), None, Verdict::Ok, "krbd can be used"),
            (facts(Missing, Present, &["rbd-nbd"]), None, Verdict::Ok, "nbd can be used"),
            (facts(Loadable, Missing, &[]), None, Verdict::Failed, "modprobe rbd"),
            (facts(Missing, Present, &[]), None, Verdict::Failed, "apt install rbd-nbd"),
            (facts(Missing, Missing, &fuse), None, Verdict::Failed, "mapper = \"fuse\""),
            (facts(Missing, Missing, &[]), None, Verdict::Failed, "do one of these"),
            (facts(Missing, Missing, &fuse), Some(MapperKind::Fuse), Verdict::Ok, "fuse can"),
            (facts(Present, Missing, &[]), Some(MapperKind::Nbd), Verdict::Failed, "\"krbd\""),
        ] {
            let finding = check_mapper(&facts, chosen);
            let text = format!("{} {}", finding.detail, finding.advice.unwrap_or_default());
            assert_eq!(finding.verdict, verdict, "{text}");
            assert!(text.contains(said), "{said:?} is not in {text:?}");
        }
    }

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let mut facts = facts(Module::Present, Module::Missing, &[]);
        facts.programs.remove("e2fsck");
        facts.programs.remove("mkfs.ext4");
        facts.programs.remove("mkfs.xfs");
        let [ext4, xfs] = &check_programs(&facts)[..] else { panic!("two findings") };
        assert_eq!((ext4.verdict, xfs.verdict), (Verdict::Failed, Verdict::Warning));
        assert_eq!(ext4.detail, "missing: mkfs.ext4, e2fsck");
        assert_eq!(ext4.advice.as_deref(), Some("apt install e2fsprogs"));
    }

    #[test]
    fn modules_are_found_in_the_kernel_s_lists() {
        let list = "kernel/drivers/block/rbd.ko.xz: kernel/net/ceph/libceph.ko.xz\n\
                    kernel/drivers/block/nbd.ko:\n";
        assert!(is_listed(list, "rbd") && is_listed(list, "nbd"));
        assert!(!is_listed(list, "libceph") && !is_listed(list, "bd"));
    }
}
