//! One body of tests for all kinds of volume: the daemon's default is the kind under test, so a test
//! that names none is about each of them.

use std::cell::Cell;

use super::Host;

/// A kind of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// Images.
    #[default]
    Rbd,
    /// Folders of CephFS, mounted by `ceph-fuse`.
    CephFs,
    /// The same, for one writing host.
    Single,
}

thread_local! {
    static UNDER_TEST: Cell<Kind> = const { Cell::new(Kind::Rbd) };
}

impl Kind {
    /// Runs a test with this kind as what hosts make where a volume says nothing else.
    pub(crate) fn test(self, test: fn()) {
        UNDER_TEST.set(self);
        test();
    }

    /// The kind of the test that runs on this thread.
    pub(crate) fn under_test() -> Self {
        UNDER_TEST.get()
    }

    /// The program that serves a mounted volume.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Rbd => "rbd-fuse",
            Self::CephFs | Self::Single => "ceph-fuse",
        }
    }

    /// The call of the daemon's to the host that brings a volume there, as a fault names it.
    pub(crate) fn attaching(self) -> &'static str {
        match self {
            Self::Rbd => "system.map",
            Self::CephFs | Self::Single => "system.mount_folder",
        }
    }

    /// The daemon's flags that make it the default.
    pub(super) fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Rbd => &[],
            Self::CephFs => &["--default", "type=cephfs"],
            Self::Single => &["--default", "type=cephfs", "--default", "access=single"],
        }
    }
}

impl Host {
    /// The names of what the cluster stores of the kind under test, in the home of the volumes.
    pub(crate) fn stored(&self) -> Vec<String> {
        match Kind::under_test() {
            Kind::Rbd => self.lab().rbd(&["ls"]).lines().map(str::to_owned).collect(),
            Kind::CephFs | Kind::Single => {
                // The first volume makes the group.
                if !self.named(&["subvolumegroup", "ls", "cephfs"]).contains(&"docker".to_owned()) {
                    return Vec::new();
                }
                self.named(&["subvolume", "ls", "cephfs", "--group_name", "docker"])
            }
        }
    }

    /// The names that `ceph fs …` lists.
    fn named(&self, words: &[&str]) -> Vec<String> {
        let text = self.lab().ceph(&[&["fs"], words, &["--format", "json"]].concat());
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        list.iter().filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
    }
}

/// Makes of each function a module of the same name with a test for each kind of volume: `NAME::rbd`
/// and `NAME::cephfs`.
macro_rules! for_each_kind {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::host::Kind;

            #[test]
            fn rbd() {
                Kind::Rbd.test(super::$name);
            }

            #[test]
            fn cephfs() {
                Kind::CephFs.test(super::$name);
            }
        }
    )+};
}
pub(crate) use for_each_kind;

/// The same for the kinds that one host at a time may write: `NAME::rbd` and `NAME::cephfs`.
macro_rules! for_each_held_kind {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::support::host::Kind;

            #[test]
            fn rbd() {
                Kind::Rbd.test(super::$name);
            }

            #[test]
            fn cephfs() {
                Kind::Single.test(super::$name);
            }
        }
    )+};
}
pub(crate) use for_each_held_kind;
