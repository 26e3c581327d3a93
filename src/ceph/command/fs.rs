//! Commands for CephFS: to the monitors (`fs ls`, `fs get`, `fs authorize`, `auth rm`), all others to
//! the manager.

use std::collections::{BTreeMap, HashMap};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::Command;
use crate::ceph::SubvolumeLayout;
use crate::volume::{ByteSize, PathSpec, Secret, SubvolumeSpec};

/// Whoever authorizes a client names himself: without that, the manager keeps the key to itself,
/// and nobody of another name may change the client.
const TENANT: &str = "docker-volume-ceph";

/// `ceph fs ls`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct FsLs {}

/// A file system and its pools.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct FsReply {
    pub(in crate::ceph) name: String,
    pub(in crate::ceph) data_pools: Vec<String>,
}

impl Command for FsLs {
    const PREFIX: &'static str = "fs ls";
    type Reply = Vec<FsReply>;
}

/// `ceph fs get FS`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct FsGet {
    pub(in crate::ceph) fs_name: String,
}

/// A file system and who serves it.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct FsGetReply {
    mdsmap: MdsMap,
}

#[derive(Debug, Deserialize)]
struct MdsMap {
    #[serde(rename = "in")]
    ranks: Vec<i64>,
    up: HashMap<String, u64>,
    info: HashMap<String, MdsInfo>,
}

#[derive(Debug, Deserialize)]
struct MdsInfo {
    state: String,
    /// There where it is silent and nobody is there to replace it.
    laggy_since: Option<serde::de::IgnoredAny>,
}

impl FsGetReply {
    /// Has every rank an MDS that is active and heard of?
    pub(in crate::ceph) fn is_up(&self) -> bool {
        let MdsMap { ranks, up, info } = &self.mdsmap;
        let serves = |rank: &i64| {
            let gid = up.get(&format!("mds_{rank}"))?;
            let mds = info.get(&format!("gid_{gid}"))?;
            (mds.state == "up:active" && mds.laggy_since.is_none()).then_some(())
        };
        !ranks.is_empty() && ranks.iter().all(|rank| serves(rank).is_some())
    }
}

impl Command for FsGet {
    const PREFIX: &'static str = "fs get";
    type Reply = FsGetReply;
}

/// A key in a reply. Nothing prints it, and no error repeats it.
#[derive(Debug)]
pub(in crate::ceph) struct KeyReply(pub(in crate::ceph) Secret);

impl<'de> Deserialize<'de> for KeyReply {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|key| Self(Secret::new(key)))
    }
}

/// The parser's own words may hold what it did not expect.
fn no_key<E>(_: E) -> serde_json::Error {
    serde_json::Error::custom("there is no key in it")
}

/// `ceph fs authorize FS ENTITY PATH ACCESS`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct FsAuthorize {
    filesystem: String,
    entity: String,
    caps: [String; 2],
}

impl FsAuthorize {
    /// Lets a client into a folder.
    pub(in crate::ceph) fn new(path: &PathSpec, client_id: &str, read_only: bool) -> Self {
        let caps = [path.path.clone(), access(read_only).to_owned()];
        Self { filesystem: path.fs.clone(), entity: format!("client.{client_id}"), caps }
    }
}

impl Command for FsAuthorize {
    const PREFIX: &'static str = "fs authorize";
    type Reply = KeyReply;

    fn read(reply: &[u8]) -> serde_json::Result<Self::Reply> {
        #[derive(Deserialize)]
        struct Entity {
            key: KeyReply,
        }
        let entities: Vec<Entity> = serde_json::from_slice(reply).map_err(no_key)?;
        entities.into_iter().next().map(|entity| entity.key).ok_or_else(|| no_key(()))
    }
}

/// `ceph auth rm ENTITY`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct AuthRm {
    pub(in crate::ceph) entity: String,
}

impl Command for AuthRm {
    const PREFIX: &'static str = "auth rm";
    type Reply = ();
}

/// A name in a list.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct NameReply {
    pub(in crate::ceph) name: String,
}

/// `ceph fs subvolumegroup ls FS`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct GroupLs {
    pub(in crate::ceph) vol_name: String,
}

impl Command for GroupLs {
    const PREFIX: &'static str = "fs subvolumegroup ls";
    type Reply = Vec<NameReply>;
}

/// `ceph fs subvolumegroup create FS GROUP`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct GroupCreate {
    pub(in crate::ceph) vol_name: String,
    pub(in crate::ceph) group_name: String,
}

impl Command for GroupCreate {
    const PREFIX: &'static str = "fs subvolumegroup create";
    type Reply = ();
}

/// `ceph fs subvolume ls FS GROUP`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct SubvolumeLs {
    pub(in crate::ceph) vol_name: String,
    pub(in crate::ceph) group_name: String,
}

impl Command for SubvolumeLs {
    const PREFIX: &'static str = "fs subvolume ls";
    type Reply = Vec<NameReply>;
}

/// Which subvolume a command is about.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct Of {
    vol_name: String,
    group_name: String,
    sub_name: String,
}

impl From<&SubvolumeSpec> for Of {
    fn from(spec: &SubvolumeSpec) -> Self {
        let SubvolumeSpec { fs, group, subvolume } = spec.clone();
        Self { vol_name: fs, group_name: group, sub_name: subvolume }
    }
}

/// A command that needs nothing but the subvolume, or little beside it.
macro_rules! subvolume_commands {
    ($($prefix:literal $name:ident { $($field:ident: $type:ty),* } -> $reply:ty;)+) => {$(
        #[doc = concat!("`ceph ", $prefix, " …`.")]
        #[derive(Debug, Serialize)]
        pub(in crate::ceph) struct $name {
            #[serde(flatten)]
            pub(in crate::ceph) of: Of,
            $(pub(in crate::ceph) $field: $type),*
        }

        impl Command for $name {
            const PREFIX: &'static str = $prefix;
            type Reply = $reply;
        }
    )+};
}

subvolume_commands! {
    "fs subvolume info" SubvolumeInfo {} -> InfoReply;
    "fs subvolume resize" SubvolumeResize { new_size: String, no_shrink: bool }
        -> serde::de::IgnoredAny;
    "fs subvolume rm" SubvolumeRm { force: bool } -> ();
    "fs subvolume metadata ls" MetadataLs {} -> BTreeMap<String, String>;
    "fs subvolume metadata set" MetadataSet { key_name: String, value: String } -> ();
    "fs subvolume metadata rm" MetadataRm { key_name: String, force: bool } -> ();
    "fs subvolume deauthorize" Deauthorize { auth_id: String } -> ();
    "fs subvolume evict" Evict { auth_id: String } -> ();
    "fs subvolume snapshot create" SnapshotCreate { snap_name: String } -> ();
    "fs subvolume snapshot ls" SnapshotLs {} -> Vec<NameReply>;
    "fs subvolume snapshot info" SnapshotInfo { snap_name: String } -> SnapshotReply;
    "fs subvolume snapshot rm" SnapshotRm { snap_name: String } -> ();
}

/// `ceph fs subvolume snapshot clone FS NAME SNAPSHOT TARGET …`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct SnapshotClone {
    #[serde(flatten)]
    pub(in crate::ceph) of: Of,
    pub(in crate::ceph) snap_name: String,
    pub(in crate::ceph) target_sub_name: String,
    pub(in crate::ceph) target_group_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::ceph) pool_layout: Option<String>,
}

impl Command for SnapshotClone {
    const PREFIX: &'static str = "fs subvolume snapshot clone";
    type Reply = ();
}

/// A command on a copy, which is not called a subvolume there.
macro_rules! clone_commands {
    ($($prefix:literal $name:ident -> $reply:ty;)+) => {$(
        #[doc = concat!("`ceph ", $prefix, " …`.")]
        #[derive(Debug, Serialize)]
        pub(in crate::ceph) struct $name {
            vol_name: String,
            clone_name: String,
            group_name: String,
        }

        impl $name {
            pub(in crate::ceph) fn new(spec: &SubvolumeSpec) -> Self {
                Self {
                    vol_name: spec.fs.clone(),
                    clone_name: spec.subvolume.clone(),
                    group_name: spec.group.clone(),
                }
            }
        }

        impl Command for $name {
            const PREFIX: &'static str = $prefix;
            type Reply = $reply;
        }
    )+};
}

clone_commands! {
    "fs clone status" CloneStatus -> CloneReply;
    "fs clone cancel" CloneCancel -> ();
}

/// What a snapshot says of itself.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct SnapshotReply {
    pub(in crate::ceph) created_at: String,
    /// `yes` or `no`.
    pub(in crate::ceph) has_pending_clones: String,
}

/// How far a copy is.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct CloneReply {
    pub(in crate::ceph) status: CloneStage,
}

/// A word for it.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct CloneStage {
    pub(in crate::ceph) state: String,
    #[serde(default)]
    pub(in crate::ceph) failure: Option<CloneFailure>,
    /// Of newer releases.
    #[serde(default)]
    progress_report: Option<ProgressReport>,
}

#[derive(Debug, Deserialize)]
struct ProgressReport {
    /// Such as `12.24%`.
    #[serde(rename = "percentage cloned")]
    percentage: String,
}

impl CloneStage {
    /// How much is copied, where the manager tells.
    pub(in crate::ceph) fn percent(&self) -> Option<u8> {
        let text = &self.progress_report.as_ref()?.percentage;
        let whole = text.trim_end_matches('%').split('.').next()?;
        whole.trim().parse().ok().filter(|percent| *percent <= 100)
    }
}

/// Why a copy came to nothing.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct CloneFailure {
    pub(in crate::ceph) error_msg: String,
}

/// `ceph fs subvolume create FS NAME …`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct SubvolumeCreate {
    #[serde(flatten)]
    of: Of,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_layout: Option<String>,
    /// In octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    namespace_isolated: bool,
}

impl SubvolumeCreate {
    /// Makes a subvolume of that layout.
    pub(in crate::ceph) fn new(spec: &SubvolumeSpec, layout: &SubvolumeLayout) -> Self {
        Self {
            of: spec.into(),
            size: layout.size,
            pool_layout: layout.data_pool.clone(),
            mode: layout.mode.map(|mode| format!("{mode:o}")),
            uid: layout.uid,
            gid: layout.gid,
            namespace_isolated: layout.isolated,
        }
    }
}

impl Command for SubvolumeCreate {
    const PREFIX: &'static str = "fs subvolume create";
    type Reply = ();
}

/// What a subvolume says of itself. One of which only snapshots are left says little.
#[derive(Debug, Deserialize)]
pub(in crate::ceph) struct InfoReply {
    pub(in crate::ceph) state: String,
    #[serde(default)]
    pub(in crate::ceph) path: String,
    /// A number, or `infinite`.
    #[serde(default)]
    bytes_quota: serde_json::Value,
    #[serde(default)]
    pub(in crate::ceph) bytes_used: u64,
    #[serde(default)]
    pub(in crate::ceph) data_pool: String,
    #[serde(default)]
    pub(in crate::ceph) pool_namespace: String,
    #[serde(default)]
    pub(in crate::ceph) uid: u32,
    #[serde(default)]
    pub(in crate::ceph) gid: u32,
    #[serde(default)]
    pub(in crate::ceph) mode: u32,
    #[serde(default)]
    pub(in crate::ceph) created_at: String,
}

impl InfoReply {
    /// The quota, where there is one.
    pub(in crate::ceph) fn quota(&self) -> Option<ByteSize> {
        self.bytes_quota.as_u64().map(ByteSize)
    }
}

/// `ceph fs subvolume authorize FS NAME ID …`.
#[derive(Debug, Serialize)]
pub(in crate::ceph) struct Authorize {
    #[serde(flatten)]
    of: Of,
    auth_id: String,
    access_level: &'static str,
    tenant_id: &'static str,
}

impl Authorize {
    /// Lets a client into a subvolume.
    pub(in crate::ceph) fn new(spec: &SubvolumeSpec, client_id: &str, read_only: bool) -> Self {
        let access_level = access(read_only);
        Self { of: spec.into(), auth_id: client_id.to_owned(), access_level, tenant_id: TENANT }
    }
}

impl Command for Authorize {
    const PREFIX: &'static str = "fs subvolume authorize";
    type Reply = KeyReply;

    /// The bare key, whatever format was asked for.
    fn read(reply: &[u8]) -> serde_json::Result<Self::Reply> {
        let text = std::str::from_utf8(reply).map_err(no_key)?.trim().trim_matches('"');
        if text.is_empty() { Err(no_key(())) } else { Ok(KeyReply(Secret::new(text))) }
    }
}

fn access(read_only: bool) -> &'static str {
    if read_only { "r" } else { "rw" }
}

#[cfg(test)]
mod tests {
    use super::super::{read_reply, request};
    use super::*;

    fn spec() -> SubvolumeSpec {
        let [fs, group, subvolume] = ["cephfs", "docker", "www"].map(str::to_owned);
        SubvolumeSpec { fs, group, subvolume }
    }

    #[test]
    fn a_command_names_its_subvolume_and_only_what_was_chosen() {
        let layout = SubvolumeLayout {
            size: Some(ByteSize::gib(1)),
            mode: Some(0o750),
            isolated: true,
            ..SubvolumeLayout::default()
        };
        assert_eq!(
            request(&SubvolumeCreate::new(&spec(), &layout)).expect("JSON"),
            r#"{"prefix":"fs subvolume create","format":"json","vol_name":"cephfs","group_name":"docker","sub_name":"www","size":1073741824,"mode":"750","namespace_isolated":true}"#
        );
        assert_eq!(
            request(&Authorize::new(&spec(), "docker.www", true)).expect("JSON"),
            r#"{"prefix":"fs subvolume authorize","format":"json","vol_name":"cephfs","group_name":"docker","sub_name":"www","auth_id":"docker.www","access_level":"r","tenant_id":"docker-volume-ceph"}"#
        );
    }

    /// Captured from Ceph 16.2.15, less what is not read.
    #[test]
    fn a_subvolume_is_described_or_only_its_snapshots_are_left() {
        let text = br#"{"bytes_quota":1073741824,"bytes_used":5,"created_at":"2026-11-26 03:49:55",
            "data_pool":"cephfs_data","gid":998,"mode":16888,"uid":999,"state":"complete",
            "path":"/volumes/docker/a/04a1","pool_namespace":"fsvolumens_a"}"#;
        let reply = read_reply::<SubvolumeInfo>(text).expect("readable");
        assert_eq!(reply.quota(), Some(ByteSize::gib(1)));
        let text = br#"{"bytes_quota":"infinite","state":"complete"}"#;
        assert_eq!(read_reply::<SubvolumeInfo>(text).expect("readable").quota(), None);
        let text = br#"{"features":[],"state":"snapshot-retained","type":"subvolume"}"#;
        let reply = read_reply::<SubvolumeInfo>(text).expect("readable");
        assert_eq!((reply.path.as_str(), reply.quota()), ("", None));
    }

    #[test]
    fn a_key_is_read_and_no_error_repeats_it() {
        let key = read_reply::<Authorize>(b"AQkey==\n").expect("a key").0;
        assert_eq!(key.reveal(), "AQkey==");
        let text = br#"[{"entity":"client.x","key":"AQkey==","caps":{}}]"#;
        assert_eq!(read_reply::<FsAuthorize>(text).expect("a key").0.reveal(), "AQkey==");
        read_reply::<Authorize>(b"\n").expect_err("no key");
        for text in [&b"\"AQkey==\""[..], br#"[{"key":["AQkey=="]}]"#, b"[]"] {
            let failure = read_reply::<FsAuthorize>(text).expect_err("no key");
            assert!(!failure.message.contains("AQkey"), "{}", failure.message);
        }
    }

    /// The first as of Ceph 16.2.15, the second as Ceph 19's documentation has it.
    #[test]
    fn a_copy_says_how_far_it_is_where_the_release_does() {
        let percent = |more: &str| {
            let text = format!(r#"{{"status":{{"state":"in-progress"{more}}}}}"#);
            read_reply::<CloneStatus>(text.as_bytes()).expect("readable").status.percent()
        };
        assert_eq!(percent(""), None);
        let report = r#","progress_report":{"percentage cloned":"12.24%","files cloned":"4/6"}"#;
        assert_eq!(percent(report), Some(12));
        assert_eq!(percent(r#","progress_report":{"percentage cloned":"?"}"#), None);
    }

    #[test]
    fn a_file_system_is_up_while_all_of_its_ranks_are() {
        let map = |ranks: &str, state: &str, more: &str| {
            let text = format!(
                r#"{{"mdsmap":{{"in":{ranks},"up":{{"mds_0":7}},
                    "info":{{"gid_7":{{"state":"{state}"{more}}}}}}},"id":1}}"#
            );
            read_reply::<FsGet>(text.as_bytes()).expect("readable").is_up()
        };
        assert!(map("[0]", "up:active", ""));
        assert!(!map("[0]", "up:active", r#","laggy_since":"2026-11-26T03:54:18.7+0000""#));
        assert!(!map("[0]", "up:reconnect", ""));
        assert!(!map("[0,1]", "up:active", ""));
        assert!(!map("[]", "up:active", ""));
    }
}
