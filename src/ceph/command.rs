//! Commands to the monitors and the manager, as typed requests and replies.
//!
//! A command is JSON with a `prefix`; so is its reply. An error carries the cluster's own words.

pub(super) mod fs;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::strtime::BrokenDownTime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::connection::Connection;
use super::failure::{Failure, Outcome};
use crate::volume::{Location, Messenger, MonitorAddress};

/// A request to the monitors, or to the active manager.
pub(super) trait Command: Serialize {
    /// The command's words.
    const PREFIX: &'static str;
    /// What is answered; `()` where nothing is.
    type Reply: DeserializeOwned;

    /// Reads the reply, which normally is one JSON value or nothing.
    fn read(reply: &[u8]) -> serde_json::Result<Self::Reply> {
        serde_json::from_slice(if reply.trim_ascii().is_empty() { b"null" } else { reply })
    }
}

/// Sends a command to the monitors and reads the reply.
pub(super) fn send<C: Command>(connection: &Connection, command: &C) -> Outcome<C::Reply> {
    let reply = connection.monitor_command(&request(command)?)?;
    read_reply::<C>(&reply)
}

/// The cheapest proof that the monitors answer.
pub(super) fn ping(connection: &Connection) -> Outcome<()> {
    send(connection, &Fsid {}).map(drop)
}

pub(super) fn request<C: Command>(command: &C) -> Outcome<String> {
    #[derive(Serialize)]
    struct Request<'a, C> {
        prefix: &'static str,
        format: &'static str,
        #[serde(flatten)]
        command: &'a C,
    }
    serde_json::to_string(&Request { prefix: C::PREFIX, format: "json", command })
        .map_err(|error| Failure::invalid(format!("{}: {error}", C::PREFIX)))
}

pub(super) fn read_reply<C: Command>(reply: &[u8]) -> Outcome<C::Reply> {
    // Only the parser's words: the reply itself may hold a key.
    C::read(reply).map_err(|error| {
        Failure::unreadable(format!("the reply to `{}` cannot be read: {error}", C::PREFIX))
    })
}

/// `ceph fsid`.
#[derive(Debug, Serialize)]
pub(super) struct Fsid {}

impl Command for Fsid {
    const PREFIX: &'static str = "fsid";
    type Reply = serde::de::IgnoredAny;
}

/// `ceph health`.
#[derive(Debug, Serialize)]
pub(super) struct Health {}

/// The overall health.
#[derive(Debug, Deserialize)]
pub(super) struct HealthReply {
    pub(super) status: String,
}

impl Command for Health {
    const PREFIX: &'static str = "health";
    type Reply = HealthReply;
}

/// `ceph version`.
#[derive(Debug, Serialize)]
pub(super) struct Version {}

/// Such as `ceph version 16.2.15 (618f…) pacific (stable)`.
#[derive(Debug, Deserialize)]
pub(super) struct VersionReply {
    pub(super) version: String,
}

impl VersionReply {
    /// The number alone, or everything where it looks different.
    pub(super) fn release(&self) -> &str {
        let number =
            self.version.strip_prefix("ceph version ").and_then(|rest| rest.split(' ').next());
        number.unwrap_or(&self.version)
    }
}

impl Command for Version {
    const PREFIX: &'static str = "version";
    type Reply = VersionReply;
}

/// `ceph mon dump`.
#[derive(Debug, Serialize)]
pub(super) struct MonDump {}

/// The monitors.
#[derive(Debug, Deserialize)]
pub(super) struct MonDumpReply {
    mons: Vec<MonReply>,
}

#[derive(Debug, Deserialize)]
struct MonReply {
    public_addrs: MonAddresses,
}

#[derive(Debug, Deserialize)]
struct MonAddresses {
    addrvec: Vec<MonAddressReply>,
}

#[derive(Debug, Deserialize)]
struct MonAddressReply {
    #[serde(rename = "type")]
    messenger: String,
    addr: String,
}

impl MonDumpReply {
    /// Every address of every monitor.
    pub(super) fn addresses(self) -> Vec<MonitorAddress> {
        let all = self.mons.into_iter().flat_map(|mon| mon.public_addrs.addrvec);
        all.filter_map(|MonAddressReply { messenger, addr: address }| {
            let messenger = match messenger.as_str() {
                "v1" => Messenger::V1,
                "v2" => Messenger::V2,
                _ => return None,
            };
            Some(MonitorAddress { messenger, address })
        })
        .collect()
    }
}

impl Command for MonDump {
    const PREFIX: &'static str = "mon dump";
    type Reply = MonDumpReply;
}

/// `ceph auth get ENTITY`. The reply's key is not read.
#[derive(Debug, Serialize)]
pub(super) struct AuthGet {
    pub(super) entity: String,
}

/// What an entity may do, by the type of daemon.
#[derive(Debug, Deserialize)]
pub(super) struct EntityReply {
    pub(super) caps: BTreeMap<String, String>,
}

impl Command for AuthGet {
    const PREFIX: &'static str = "auth get";
    type Reply = Vec<EntityReply>;
}

/// `ceph osd pool ls detail`.
#[derive(Debug, Serialize)]
pub(super) struct PoolList {
    detail: &'static str,
}

impl PoolList {
    /// With each pool's flags.
    pub(super) const DETAIL: Self = Self { detail: "detail" };
}

/// A pool's name and state.
#[derive(Debug, Deserialize)]
pub(super) struct PoolReply {
    pub(super) pool_name: String,
    flags_names: String,
    /// What the pool is for, such as `cephfs`, and the notes of whoever uses it so.
    #[serde(default, rename = "application_metadata")]
    pub(super) applications: BTreeMap<String, BTreeMap<String, String>>,
}

impl PoolReply {
    /// Are writes held up? `full` also stands there where an OSD or the quota is the reason.
    pub(super) fn is_full(&self) -> bool {
        self.flags_names.split(',').any(|flag| matches!(flag, "full" | "full_quota"))
    }
}

impl Command for PoolList {
    const PREFIX: &'static str = "osd pool ls";
    type Reply = Vec<PoolReply>;
}

/// `ceph df detail`.
#[derive(Debug, Serialize)]
pub(super) struct Df {
    detail: &'static str,
}

impl Df {
    /// With the pools' quotas.
    pub(super) const DETAIL: Self = Self { detail: "detail" };
}

/// What the pools hold.
#[derive(Debug, Deserialize)]
pub(super) struct DfReply {
    pub(super) pools: Vec<DfPool>,
}

/// What one pool holds.
#[derive(Debug, Deserialize)]
pub(super) struct DfPool {
    pub(super) name: String,
    pub(super) stats: DfStats,
}

/// Bytes of a pool, before replication.
#[derive(Debug, Deserialize)]
pub(super) struct DfStats {
    pub(super) stored: u64,
    max_avail: u64,
    #[serde(default)]
    quota_bytes: u64,
}

impl DfStats {
    /// What can still be stored: what the OSDs and the quota (0: none) both allow.
    pub(super) fn free(&self) -> u64 {
        match self.quota_bytes {
            0 => self.max_avail,
            quota => self.max_avail.min(quota.saturating_sub(self.stored)),
        }
    }
}

impl Command for Df {
    const PREFIX: &'static str = "df";
    type Reply = DfReply;
}

/// `ceph osd blocklist ls`.
#[derive(Debug, Serialize)]
pub(super) struct BlocklistLs {}

/// A fenced client and the end of its entry.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BlocklistReply {
    pub(super) addr: String,
    #[serde(deserialize_with = "cluster_time")]
    pub(super) until: Timestamp,
}

impl Command for BlocklistLs {
    const PREFIX: &'static str = "osd blocklist ls";
    type Reply = Vec<BlocklistReply>;

    /// Two lists, one behind the other: of clients, and (in newer releases) of ranges of addresses.
    fn read(reply: &[u8]) -> serde_json::Result<Self::Reply> {
        let lists = serde_json::Deserializer::from_slice(reply).into_iter::<Self::Reply>();
        lists.collect::<serde_json::Result<Vec<_>>>().map(|lists| lists.concat())
    }
}

/// `ceph osd blocklist add ADDR EXPIRE`.
#[derive(Debug, Serialize)]
pub(super) struct BlocklistAdd {
    #[serde(rename = "blocklistop")]
    operation: &'static str,
    #[serde(rename = "addr")]
    address: String,
    /// Seconds. The monitors refuse a number without a point.
    expire: f64,
}

impl BlocklistAdd {
    /// Fences a client instance for some seconds.
    pub(super) fn new(address: &str, seconds: u32) -> Self {
        Self { operation: "add", address: address.to_owned(), expire: seconds.into() }
    }
}

impl Command for BlocklistAdd {
    const PREFIX: &'static str = "osd blocklist";
    type Reply = ();
}

/// `ceph osd blocklist rm ADDR`.
#[derive(Debug, Serialize)]
pub(super) struct BlocklistRemove {
    #[serde(rename = "blocklistop")]
    operation: &'static str,
    #[serde(rename = "addr")]
    address: String,
}

impl BlocklistRemove {
    /// Lets a client instance in again.
    pub(super) fn new(address: &str) -> Self {
        Self { operation: "rm", address: address.to_owned() }
    }
}

impl Command for BlocklistRemove {
    const PREFIX: &'static str = "osd blocklist";
    type Reply = ();
}

/// `ceph osd map POOL OBJECT NAMESPACE`.
#[derive(Debug, Serialize)]
pub(super) struct OsdMap {
    pool: String,
    object: String,
    #[serde(rename = "nspace")]
    namespace: String,
}

impl OsdMap {
    /// Where an object lies.
    pub(super) fn new(at: &Location, object: String) -> Self {
        Self { pool: at.pool.clone(), object, namespace: at.namespace.clone() }
    }
}

/// The OSDs that serve a placement group.
#[derive(Debug, Deserialize)]
pub(super) struct OsdMapReply {
    pub(super) acting: Vec<i32>,
    pub(super) acting_primary: i32,
}

impl Command for OsdMap {
    const PREFIX: &'static str = "osd map";
    type Reply = OsdMapReply;
}

/// `ceph osd info ID`.
#[derive(Debug, Serialize)]
pub(super) struct OsdInfo {
    #[serde(rename = "id")]
    pub(super) osd: i32,
}

/// Since which map an OSD is up.
#[derive(Debug, Deserialize)]
pub(super) struct OsdInfoReply {
    pub(super) up_from: u64,
}

impl Command for OsdInfo {
    const PREFIX: &'static str = "osd info";
    type Reply = OsdInfoReply;
}

/// `ceph pg stat`, which the manager answers.
#[derive(Debug, Serialize)]
pub(super) struct PgStat {}

/// The placement groups and their states.
#[derive(Debug, Deserialize)]
pub(super) struct PgStatReply {
    pg_summary: PgSummary,
}

#[derive(Debug, Deserialize)]
struct PgSummary {
    num_pgs: u64,
    num_pg_by_state: Vec<PgState>,
}

#[derive(Debug, Deserialize)]
struct PgState {
    name: String,
    num: u64,
}

impl PgStatReply {
    pub(super) fn total(&self) -> u64 {
        self.pg_summary.num_pgs
    }

    /// How many serve reads and writes: a state such as `active+clean+scrubbing`.
    pub(super) fn active(&self) -> u64 {
        let states = self.pg_summary.num_pg_by_state.iter();
        let active = states.filter(|state| state.name.split('+').any(|word| word == "active"));
        active.map(|state| state.num).sum()
    }
}

impl Command for PgStat {
    const PREFIX: &'static str = "pg stat";
    type Reply = PgStatReply;
}

/// A time as the monitors write it: `2026-11-21T21:10:45.123456+0000`.
fn cluster_time<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    BrokenDownTime::parse("%Y-%m-%dT%H:%M:%S%.f%z", &text)
        .and_then(|time| time.to_timestamp())
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_its_prefix_and_its_arguments() {
        let add = BlocklistAdd::new("10.0.0.7:0/318", 31_536_000);
        assert_eq!(
            request(&add).expect("JSON"),
            r#"{"prefix":"osd blocklist","format":"json","blocklistop":"add","addr":"10.0.0.7:0/318","expire":31536000.0}"#
        );
        assert_eq!(request(&Fsid {}).expect("JSON"), r#"{"prefix":"fsid","format":"json"}"#);
        read_reply::<BlocklistAdd>(b"\n").expect("no reply is one");
    }

    #[test]
    fn a_blocklist_is_read() {
        let text = br#"[{"addr":"10.1.1.1:0/123","until":"2026-11-21T21:14:45.065742+0000"}][]"#;
        let entries = read_reply::<BlocklistLs>(text).expect("a list");
        assert_eq!(entries[0].addr, "10.1.1.1:0/123");
        assert_eq!(entries[0].until.to_string(), "2026-11-21T21:14:45.065742Z");
        assert!(read_reply::<BlocklistLs>(b"[]\n[]").expect("a list").is_empty());
    }

    #[test]
    fn an_unreadable_reply_is_not_repeated_in_the_error() {
        let error = read_reply::<AuthGet>(br#"[{"entity":"client.x","key":"AQsecret"}]"#);
        let message = error.expect_err("no caps").message;
        assert!(message.contains("`auth get`") && !message.contains("AQsecret"), "{message}");
    }

    #[test]
    fn a_pool_is_as_full_as_its_quota_says() {
        let stats = |quota_bytes| DfStats { stored: 300, max_avail: 1000, quota_bytes };
        assert_eq!(stats(0).free(), 1000);
        assert_eq!(stats(400).free(), 100);
        assert_eq!(stats(200).free(), 0);
        assert_eq!(stats(9000).free(), 1000);
        for (flags, full) in [
            ("hashpspool", false),
            ("hashpspool,nearfull", false),
            ("hashpspool,full,full_quota", true),
        ] {
            let text = format!(r#"[{{"pool_name":"rbd","flags_names":"{flags}"}}]"#);
            let pools = read_reply::<PoolList>(text.as_bytes()).expect("readable");
            assert_eq!(pools[0].is_full(), full, "{flags}");
        }
    }

    /// Captured from Ceph 16.2.15, less what is not read, and a second monitor by IPv6.
    #[test]
    fn monitors_are_found_by_their_map() {
        let text = br#"{"epoch":1,"min_mon_release_name":"pacific","mons":[
            {"rank":0,"name":"a","public_addrs":{"addrvec":[
                {"type":"v2","addr":"10.77.0.1:10000","nonce":0},
                {"type":"v1","addr":"10.77.0.1:10001","nonce":0}]},
             "addr":"10.77.0.1:10001/0"},
            {"rank":1,"name":"b","public_addrs":{"addrvec":[
                {"type":"v1","addr":"[fd00::1]:6789","nonce":0}]},
             "addr":"[fd00::1]:6789/0"}]}"#;
        let addresses = read_reply::<MonDump>(text).expect("readable").addresses();
        let texts = addresses.iter().map(|it| format!("{} {}", it.messenger, it.address));
        assert_eq!(
            texts.collect::<Vec<_>>(),
            ["v2 10.77.0.1:10000", "v1 10.77.0.1:10001", "v1 [fd00::1]:6789"]
        );
    }

    #[test]
    fn a_placement_group_serves_while_it_is_active() {
        let text = br#"{"pg_ready":true,"pg_summary":{"num_pgs":41,"num_pg_by_state":[
            {"name":"active+clean","num":32},{"name":"active+clean+scrubbing+deep","num":1},
            {"name":"undersized+peered","num":3},{"name":"stale+active+undersized","num":5}]}}"#;
        let reply = read_reply::<PgStat>(text).expect("readable");
        assert_eq!((reply.active(), reply.total()), (38, 41));
    }

    #[test]
    fn a_release_is_taken_from_the_version() {
        let reply = |version: &str| VersionReply { version: version.to_owned() };
        let stable = reply("ceph version 16.2.15 (618f440892089921) pacific (stable)");
        assert_eq!(stable.release(), "16.2.15");
        assert_eq!(reply("something else").release(), "something else");
    }
}
