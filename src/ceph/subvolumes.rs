//! [`Subvolumes`] by commands to the manager, and to the monitors for what they know themselves.
//!
//! # Half-made subvolumes
//!
//! The manager makes a subvolume in several steps, of which the last writes the file `.meta`. One
//! that dies before that leaves a folder that it then takes for a subvolume of an old release:
//! described with `ENODATA`, and *mended* by a repeated create, into one whose folder is not named
//! by a UUID and has the first try's folder in it. librados sends a command again to the next
//! manager, so that this also happens without anybody's repeating it.
//!
//! # Metadata
//!
//! The manager keeps it in a file that Python's `configparser` reads and writes, in blocks of 4 KiB
//! of UTF-8. So `%` is the start of an expression, a line that begins with `#` is lost, and a
//! character across two blocks makes the subvolume unreadable, and then one of an old release. Of
//! all of that nothing happens to what [`plain`] lets through.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::cephfs::{FileSystem, SubvolumeInfo, SubvolumeLayout, SubvolumeState, Subvolumes};
use super::cluster::RadosCluster;
use super::command::fs::{
    AuthRm, Authorize, Deauthorize, Evict, FsAuthorize, FsGet, FsGetReply, FsLs, GroupCreate,
    GroupLs, InfoReply, MetadataLs, MetadataRm, MetadataSet, NameReply, SubvolumeCreate,
    SubvolumeInfo as InfoCommand, SubvolumeLs, SubvolumeResize, SubvolumeRm,
};
use super::command::{self, Command, PoolList, PoolReply};
use super::connection::Connection;
use super::failure::{Failure, Outcome};
use super::subvolume_snapshots::{CloneState, SubvolumeSnapshots};
use super::{ClusterError, ClusterErrorKind, Result};
use crate::volume::{ByteSize, PathSpec, Secret, SubvolumeSpec};

/// `_GROUP:SUBVOLUME.meta` is the name of a file.
const LONGEST_GROUP_AND_SUBVOLUME: usize = 248;

/// `$CLIENT.meta` is the name of a file.
const LONGEST_CLIENT: usize = 249;

impl RadosCluster {
    /// Sends a command on a file system to the manager, unless it is known that it would only be
    /// held there.
    fn on_fs<C: Command>(
        &self,
        call: &'static str,
        subject: impl ToString,
        fs: &str,
        command: &C,
    ) -> Result<C::Reply> {
        let subject = subject.to_string();
        self.on_connection(call, &subject, |connection| {
            let up = fs_map(connection, fs)?.is_none_or(|map| map.is_up());
            if up { Ok(()) } else { Err(no_mds(fs)) }
        })?;
        self.on_manager(call, subject, command)
    }

    /// The same, on a subvolume.
    pub(super) fn on_subvolume<C: Command>(
        &self,
        call: &'static str,
        spec: &SubvolumeSpec,
        command: &C,
    ) -> Result<C::Reply> {
        check_spec(spec).map_err(|failure| failure.during(call, spec.to_string()))?;
        self.on_fs(call, spec, &spec.fs, command).map_err(not_ready)
    }

    /// The same, for a client.
    fn on_client<C: Command>(
        &self,
        call: &'static str,
        spec: &SubvolumeSpec,
        client_id: &str,
        command: &C,
    ) -> Result<C::Reply> {
        check_client(client_id).map_err(|failure| failure.during(call, spec.to_string()))?;
        self.on_subvolume(call, spec, command)
    }
}

impl Subvolumes for RadosCluster {
    fn file_systems(&self) -> Result<Vec<FileSystem>> {
        self.on_connection("list file systems of", "the cluster", |connection| match command::send(
            connection,
            &FsLs {},
        ) {
            Err(failure) if failure.kind == ClusterErrorKind::Denied => {
                Ok(by_their_pools(command::send(connection, &PoolList::DETAIL)?))
            }
            all => Ok(all?
                .into_iter()
                .map(|fs| FileSystem { name: fs.name, data_pools: fs.data_pools })
                .collect()),
        })
    }

    fn mds_up(&self, fs: &str) -> Result<bool> {
        self.on_connection("look for the MDS of", format_args!("file system {fs}"), |connection| {
            let command = FsGet { fs_name: fs.to_owned() };
            command::send(connection, &command).map(|map| map.is_up())
        })
    }

    fn group_create(&self, fs: &str, group: &str) -> Result<()> {
        let (call, subject) = ("create subvolume group", format!("{fs}/{group}"));
        check_group(group).map_err(|failure| failure.during(call, subject.clone()))?;
        // A repeat would set owner and permissions anew.
        if self.groups(fs)?.iter().any(|known| known == group) {
            return Ok(());
        }
        let command = GroupCreate { vol_name: fs.to_owned(), group_name: group.to_owned() };
        self.on_fs(call, subject, fs, &command)
    }

    fn groups(&self, fs: &str) -> Result<Vec<String>> {
        let command = GroupLs { vol_name: fs.to_owned() };
        self.on_fs("list subvolume groups of", fs, fs, &command).map(names)
    }

    fn subvolume_create(&self, subvolume: &SubvolumeSpec, layout: &SubvolumeLayout) -> Result<()> {
        let command = SubvolumeCreate::new(subvolume, layout);
        self.on_subvolume("create subvolume", subvolume, &command)
    }

    fn subvolume_info(&self, subvolume: &SubvolumeSpec) -> Result<SubvolumeInfo> {
        let command = InfoCommand { of: subvolume.into() };
        match self.on_subvolume("look at subvolume", subvolume, &command) {
            Ok(reply) => Ok(info(reply, &subvolume.subvolume)),
            Err(ClusterError { errno: libc::ENODATA, .. }) => {
                Ok(without_folder(SubvolumeState::HalfMade))
            }
            Err(error) => Err(error),
        }
    }

    fn subvolume_list(&self, fs: &str, group: &str) -> Result<Vec<String>> {
        let (call, subject) = ("list subvolumes of", format!("{fs}/{group}"));
        check_group(group).map_err(|failure| failure.during(call, subject.clone()))?;
        let command = SubvolumeLs { vol_name: fs.to_owned(), group_name: group.to_owned() };
        self.on_fs(call, subject, fs, &command).map(names)
    }

    fn subvolume_resize(
        &self,
        subvolume: &SubvolumeSpec,
        size: ByteSize,
        shrink: bool,
    ) -> Result<()> {
        let call = "resize subvolume";
        // What Ceph takes for shrinking is only to go below what is in use.
        let quota = if shrink { None } else { self.subvolume_info(subvolume)?.quota };
        if let Some(quota) = quota.filter(|quota| size < *quota) {
            let failure = Failure::invalid(format!("it has {quota}, and {size} would be less"));
            return Err(failure.during(call, subvolume.to_string()));
        }
        let (of, new_size) = (subvolume.into(), size.bytes().to_string());
        let command = SubvolumeResize { of, new_size, no_shrink: !shrink };
        self.on_subvolume(call, subvolume, &command).map(drop)
    }

    fn subvolume_remove(&self, subvolume: &SubvolumeSpec) -> Result<()> {
        let call = "remove subvolume";
        let rm = |force| SubvolumeRm { of: subvolume.into(), force };
        match self.on_subvolume(call, subvolume, &rm(false)) {
            // What is left of a copy that came to nothing goes by force only. Force also takes a
            // missing subvolume for success, so it is not the first try.
            Err(error) if error.errno == libc::EAGAIN => {
                match self.subvolume_clone_state(subvolume)? {
                    CloneState::Failed(_) => self.on_subvolume(call, subvolume, &rm(true)),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    fn subvolume_metadata_get(
        &self,
        subvolume: &SubvolumeSpec,
        key: &str,
    ) -> Result<Option<String>> {
        // Of `metadata get`, a missing key and a missing subvolume fail with the same number.
        let command = MetadataLs { of: subvolume.into() };
        let mut all = self.on_subvolume("read the metadata of subvolume", subvolume, &command)?;
        Ok(all.remove(key))
    }

    fn subvolume_metadata_set(
        &self,
        subvolume: &SubvolumeSpec,
        key: &str,
        value: &str,
    ) -> Result<()> {
        let call = "describe subvolume";
        let checked = check_key(key).and_then(|()| plain(value));
        let value = checked.map_err(|failure| failure.during(call, subvolume.to_string()))?;
        let command = MetadataSet { of: subvolume.into(), key_name: key.to_owned(), value };
        self.on_subvolume(call, subvolume, &command)
    }

    fn subvolume_metadata_remove(&self, subvolume: &SubvolumeSpec, key: &str) -> Result<()> {
        if self.subvolume_metadata_get(subvolume, key)?.is_none() {
            return Ok(());
        }
        let command = MetadataRm { of: subvolume.into(), key_name: key.to_owned(), force: true };
        self.on_subvolume("remove metadata of subvolume", subvolume, &command)
    }

    fn subvolume_authorize(
        &self,
        subvolume: &SubvolumeSpec,
        client_id: &str,
        read_only: bool,
    ) -> Result<Secret> {
        let command = Authorize::new(subvolume, client_id, read_only);
        let reply = self.on_client("let a client into subvolume", subvolume, client_id, &command);
        reply.map(|key| key.0)
    }

    fn subvolume_deauthorize(&self, subvolume: &SubvolumeSpec, client_id: &str) -> Result<()> {
        let command = Deauthorize { of: subvolume.into(), auth_id: client_id.to_owned() };
        let call = "take from a client subvolume";
        match self.on_client(call, subvolume, client_id, &command) {
            // The subvolume is there, and the manager knows no such client.
            Err(ClusterError { kind: ClusterErrorKind::NotFound, message, .. })
                if message.starts_with("auth ID") =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn subvolume_evict(&self, subvolume: &SubvolumeSpec, client_id: &str) -> Result<()> {
        let command = Evict { of: subvolume.into(), auth_id: client_id.to_owned() };
        self.on_client("evict a client of subvolume", subvolume, client_id, &command)
    }

    fn path_authorize(&self, path: &PathSpec, client_id: &str, read_only: bool) -> Result<Secret> {
        let command = FsAuthorize::new(path, client_id, read_only);
        self.on_connection("let a client into", path, |connection| {
            check_client(client_id)?;
            check_path(&path.path)?;
            fs_map(connection, &path.fs)?;
            let key = command::send(connection, &command).map_err(|failure| {
                let differs = failure.message.contains("capabilities that differ");
                let kind = if differs { ClusterErrorKind::Exists } else { failure.kind };
                Failure { kind, ..failure }
            })?;
            Ok(key.0)
        })
    }

    fn client_remove(&self, client_id: &str) -> Result<()> {
        let entity = format!("client.{client_id}");
        self.on_connection("remove", &entity, |connection| {
            check_client(client_id)?;
            command::send(connection, &AuthRm { entity: entity.clone() })
        })
    }
}

/// The file systems that the pools are marked for; one that was removed too.
fn by_their_pools(pools: Vec<PoolReply>) -> Vec<FileSystem> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for PoolReply { pool_name, applications, .. } in pools {
        let marks = applications.get("cephfs");
        if let Some(fs) = marks.and_then(|marks| marks.get("metadata")) {
            found.entry(fs.clone()).or_default();
        } else if let Some(fs) = marks.and_then(|marks| marks.get("data")) {
            found.entry(fs.clone()).or_default().push(pool_name);
        }
    }
    found.into_iter().map(|(name, data_pools)| FileSystem { name, data_pools }).collect()
}

/// Who serves the file system; `None` where the client may not look.
fn fs_map(connection: &Connection, fs: &str) -> Outcome<Option<FsGetReply>> {
    check_word("file system", fs)?;
    match command::send(connection, &FsGet { fs_name: fs.to_owned() }) {
        Ok(map) => Ok(Some(map)),
        Err(failure) if failure.kind == ClusterErrorKind::Denied => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The manager's EAGAIN is no outage: a copy that is under way, or came to nothing, answers so to
/// whatever is asked of it, and so does the removal of a snapshot that is being copied.
fn not_ready(error: ClusterError) -> ClusterError {
    let kind = if error.errno == libc::EAGAIN { ClusterErrorKind::Busy } else { error.kind };
    ClusterError { kind, ..error }
}

fn no_mds(fs: &str) -> Failure {
    let message = format!("no MDS serves the file system {fs}; check `ceph fs status {fs}`");
    Failure { message, ..Failure::of_errno(libc::ETIMEDOUT) }
}

fn names(replies: Vec<NameReply>) -> Vec<String> {
    replies.into_iter().map(|reply| reply.name).collect()
}

fn info(reply: InfoReply, subvolume: &str) -> SubvolumeInfo {
    let state = match &reply.state[..] {
        "complete" => SubvolumeState::Complete,
        "snapshot-retained" => return without_folder(SubvolumeState::Retained),
        other => SubvolumeState::Other(other.to_owned()),
    };
    let quota = reply.quota();
    SubvolumeInfo {
        state,
        mended: reply.path.rsplit('/').next() == Some(subvolume),
        path: reply.path,
        quota,
        used: ByteSize(reply.bytes_used),
        data_pool: reply.data_pool,
        namespace: reply.pool_namespace,
        uid: reply.uid,
        gid: reply.gid,
        mode: reply.mode & 0o7777,
        created: time(&reply.created_at),
    }
}

fn without_folder(state: SubvolumeState) -> SubvolumeInfo {
    SubvolumeInfo {
        state,
        path: String::new(),
        mended: false,
        quota: None,
        used: ByteSize(0),
        data_pool: String::new(),
        namespace: String::new(),
        uid: 0,
        gid: 0,
        mode: 0,
        created: None,
    }
}

/// `2026-11-26 03:49:55`, without a zone.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let time: DateTime = text.parse().ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

pub(super) fn check_spec(spec: &SubvolumeSpec) -> Outcome<()> {
    check_group(&spec.group)?;
    check_word("subvolume", &spec.subvolume)?;
    if spec.group.len() + spec.subvolume.len() > LONGEST_GROUP_AND_SUBVOLUME {
        let limit = LONGEST_GROUP_AND_SUBVOLUME;
        let message = format!("group and subvolume have more than {limit} bytes together");
        return Err(Failure::invalid(message));
    }
    Ok(())
}

/// Ceph's own folders beside the groups begin with `_`.
fn check_group(group: &str) -> Outcome<()> {
    check_word("subvolume group", group)?;
    if group.starts_with('_') {
        return Err(Failure::invalid(format!("subvolume group {group:?} begins with '_'")));
    }
    Ok(())
}

fn check_client(client_id: &str) -> Outcome<()> {
    check_word("client", client_id)?;
    if client_id.len() > LONGEST_CLIENT {
        return Err(Failure::invalid(format!("client {client_id:?} is too long")));
    }
    Ok(())
}

/// Anything else could be a path, or a further capability.
pub(super) fn check_word(what: &str, word: &str) -> Outcome<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !word.is_empty() && !word.starts_with('.') && word.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "{what} {word:?} is not made of letters, digits, '.', '_' and '-', or begins with '.'"
    )))
}

fn check_path(path: &str) -> Outcome<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let climbs = path.split('/').any(|part| part == "..");
    if path.starts_with('/') && path.chars().all(plain) && !climbs {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "path {path:?} cannot be written in a capability: it begins with '/', and is made of \
         letters, digits, '.', '_', '-' and '/'"
    )))
}

fn check_key(key: &str) -> Outcome<()> {
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if !key.is_empty() && key.chars().all(plain) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "metadata key {key:?} is not made of small letters, digits, '.', '_' and '-'"
    )))
}

/// JSON in one line, as it survives in the manager's file.
fn plain(value: &str) -> Outcome<String> {
    if value.trim() != value || value.chars().any(char::is_control) {
        return Err(Failure::invalid("a metadata value is JSON in one line"));
    }
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if c.is_ascii() && c != '%' {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let written = write!(text, "\\u{unit:04x}");
            written.expect("a text takes all that is written to it");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_become_part_of_a_path_or_capability() {
        for word in ["cephfs", "a.b_c-D9", "-x", "_x"] {
            check_word("subvolume", word).expect(word);
        }
        for word in ["", ".", "..", ".meta", "a/b", "a b", "ü", "a,b", "a$b", "a:b", "a\n"] {
            let failure = check_word("subvolume", word).expect_err(word);
            assert_eq!(failure.kind, ClusterErrorKind::Invalid);
        }
        check_group("_nogroup").expect_err("Ceph's own");
        check_path("/adopted/www-1").expect("a path");
        for path in ["", "www", "/a b", "/a,allow rw path=/", "/a/../b", "/ü"] {
            check_path(path).expect_err(path);
        }
        check_key("docker-volume-ceph").expect("a key");
        for key in ["", "Key", "a=b", "a:b", "#a", "[a]"] {
            check_key(key).expect_err(key);
        }
    }

    /// Captured from Ceph 16.2.15, less what is not read.
    #[test]
    fn a_file_system_is_known_by_its_pools_too() {
        let text = br#"[{"pool_name":"rbd","flags_names":"","application_metadata":{"rbd":{}}},
            {"pool_name":"m","flags_names":"","application_metadata":{"cephfs":{"metadata":"fs"}}},
            {"pool_name":"d","flags_names":"","application_metadata":{"cephfs":{"data":"fs"}}}]"#;
        let pools = command::read_reply::<PoolList>(text).expect("readable");
        let fs = FileSystem { name: "fs".to_owned(), data_pools: vec!["d".to_owned()] };
        assert_eq!(by_their_pools(pools), [fs]);
    }

    #[test]
    fn group_and_subvolume_are_one_file_name_of_ceph() {
        let spec = |length| SubvolumeSpec {
            fs: "cephfs".to_owned(),
            group: "docker".to_owned(),
            subvolume: "x".repeat(length),
        };
        check_spec(&spec(242)).expect("as long as can be");
        check_spec(&spec(243)).expect_err("too long");
    }

    #[test]
    fn a_value_survives_as_the_same_json() {
        let value = r#"{"options":"50% \"ü\" 𝄞","n":[1,2]}"#;
        let text = plain(value).expect("one line");
        assert_eq!(text, r#"{"options":"50\u0025 \"\u00fc\" \ud834\udd1e","n":[1,2]}"#);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(read(&text), read(value));
        for value in ["a\nb", " a", "a ", "a\tb"] {
            plain(value).expect_err(value);
        }
    }

    #[test]
    fn a_mended_subvolume_shows_by_its_folder() {
        let read = |path: &str| {
            let text = format!(
                r#"{{"state":"complete","path":"{path}","created_at":"2026-11-26 03:49:55"}}"#
            );
            let reply = command::read_reply::<InfoCommand>(text.as_bytes()).expect("readable");
            info(reply, "www")
        };
        let whole = read("/volumes/docker/www/04a18f0c-1fd6-4638-acd6-ded2a31d4095");
        assert!(!whole.mended && whole.state == SubvolumeState::Complete);
        assert_eq!(whole.created.expect("a time").to_string(), "2026-11-26T03:49:55Z");
        assert!(read("/volumes/docker/www").mended);
    }
}
