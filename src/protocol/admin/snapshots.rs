//! The routes for snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::handler::{Decoded, wrong};
use super::{Nothing, ProtectRequest, SnapshotRequest, SnapshotsAnswer};
use crate::protocol::body::{self, Received};
use crate::protocol::calls::parse_name;
use crate::protocol::jobs::Jobs;
use crate::protocol::path;
use crate::protocol::reply::Reply;
use crate::service::{Result, SnapshotOrder};
use crate::volume::{Maker, SnapshotName, VolumeName};

/// What a method and a path ask for. The names are as they were given, decoded but unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Create,
    List(String),
    Remove(String, String),
    Protect(String, String),
    Diff(String, String),
    RollbackPlan(String, String),
    Rollback(String, String),
}

impl Route {
    pub(super) fn parse(method: &str, segments: &[&str]) -> Option<Self> {
        Some(match (method, segments) {
            ("POST", ["snapshots"]) => Self::Create,
            ("GET", ["volumes", name, "snapshots"]) => Self::List(path::decode(name)?),
            ("DELETE", ["volumes", name, "snapshots", snapshot]) => {
                Self::Remove(path::decode(name)?, path::decode(snapshot)?)
            }
            ("POST", ["volumes", name, "snapshots", snapshot, "protect"]) => {
                Self::Protect(path::decode(name)?, path::decode(snapshot)?)
            }
            ("GET", ["volumes", name, "snapshots", snapshot, "diff"]) => {
                Self::Diff(path::decode(name)?, path::decode(snapshot)?)
            }
            ("GET", ["volumes", name, "snapshots", snapshot, "rollback"]) => {
                Self::RollbackPlan(path::decode(name)?, path::decode(snapshot)?)
            }
            ("POST", ["volumes", name, "snapshots", snapshot, "rollback"]) => {
                Self::Rollback(path::decode(name)?, path::decode(snapshot)?)
            }
            _ => return None,
        })
    }
}

pub(super) async fn handle(
    jobs: &Arc<Jobs>,
    route: Route,
    query: Option<&str>,
    body: Received,
) -> Decoded {
    match route {
        Route::Create => create(jobs, body).await,
        Route::List(name) => Ok(list(jobs, &name).await),
        Route::Remove(name, snapshot) => Ok(remove(jobs, &name, &snapshot).await),
        Route::Protect(name, snapshot) => protect(jobs, &name, &snapshot, body).await,
        Route::Diff(name, snapshot) => Ok(diff(jobs, &name, &snapshot, query).await),
        Route::RollbackPlan(name, snapshot) => Ok(rollback_plan(jobs, &name, &snapshot).await),
        Route::Rollback(name, snapshot) => Ok(rollback(jobs, &name, &snapshot).await),
    }
}

async fn create(jobs: &Arc<Jobs>, body: Received) -> Decoded {
    let SnapshotRequest { volumes, name, consistency, labels } = body::decode(body)?;
    let asked = order(&volumes, name, labels).map(|order| SnapshotOrder { consistency, ..order });
    let made = match asked {
        Ok(order) => jobs.snapshot(volumes, order).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(made.map(|snapshots| SnapshotsAnswer { snapshots })))
}

/// By hand, and by the time where no name is given.
fn order(
    volumes: &[VolumeName],
    name: Option<SnapshotName>,
    labels: BTreeMap<String, String>,
) -> Result<SnapshotOrder> {
    let Some(first) = volumes.first() else {
        return Err(wrong("snapshot", "", "no volume is named"));
    };
    let mut sorted = volumes.to_vec();
    sorted.sort();
    sorted.dedup();
    if sorted.len() < volumes.len() {
        return Err(wrong("snapshot", first.as_str(), "a volume is named twice"));
    }
    let now = Timestamp::now();
    let name = match name {
        Some(name) if name.is_reserved() => {
            let why = format!("names such as {name} are for schedules; choose another");
            return Err(wrong("snapshot", first.as_str(), why));
        }
        Some(name) => name,
        None => now.strftime("%Y%m%dT%H%M%S%.3fZ").to_string().parse().expect("a name"),
    };
    let group = (volumes.len() > 1).then(|| format!("{name}.{}", now.as_millisecond()));
    Ok(SnapshotOrder { name, consistency: None, labels, by: Maker::Hand, group })
}

/// A volume and one of its snapshots.
fn pair(op: &'static str, name: &str, snapshot: &str) -> Result<(VolumeName, SnapshotName)> {
    let name = parse_name(op, name)?;
    let snapshot = snapshot.parse().map_err(|error| wrong(op, name.as_str(), error))?;
    Ok((name, snapshot))
}

async fn list(jobs: &Jobs, name: &str) -> Reply {
    let listed = match parse_name("list snapshots of", name) {
        Ok(name) => {
            let volume = name.clone();
            let list = move |verbs: &dyn crate::protocol::Verbs, by: &_| verbs.snapshots(&name, by);
            jobs.ask("list snapshots of", Some(&volume), list).await
        }
        Err(error) => Err(error),
    };
    Reply::admin_result(listed.map(|snapshots| SnapshotsAnswer { snapshots }))
}

async fn remove(jobs: &Jobs, name: &str, snapshot: &str) -> Reply {
    let removed = match pair("remove snapshot of", name, snapshot) {
        Ok((name, snapshot)) => jobs.remove_snapshot(name, snapshot).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(removed.map(|()| Nothing {}))
}

async fn protect(jobs: &Jobs, name: &str, snapshot: &str, body: Received) -> Decoded {
    let ProtectRequest { protected } = body::decode(body)?;
    let done = match pair("protect snapshot of", name, snapshot) {
        Ok((name, snapshot)) => jobs.protect_snapshot(name, snapshot, protected).await,
        Err(error) => Err(error),
    };
    Ok(Reply::admin_result(done.map(|()| Nothing {})))
}

async fn diff(jobs: &Jobs, name: &str, snapshot: &str, query: Option<&str>) -> Reply {
    const OP: &str = "compare snapshots of";
    let asked = pair(OP, name, snapshot).and_then(|(name, from)| {
        let to = until(query).map_err(|why| wrong(OP, name.as_str(), why))?;
        Ok((name, from, to))
    });
    let changed = match asked {
        Ok((name, from, to)) => jobs.changed_since(name, from, to).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(changed)
}

async fn rollback_plan(jobs: &Jobs, name: &str, snapshot: &str) -> Reply {
    let planned = match pair("rollback", name, snapshot) {
        Ok((name, snapshot)) => jobs.rollback_plan(name, snapshot).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(planned)
}

async fn rollback(jobs: &Jobs, name: &str, snapshot: &str) -> Reply {
    let rolled = match pair("rollback", name, snapshot) {
        Ok((name, snapshot)) => jobs.rollback(name, snapshot).await,
        Err(error) => Err(error),
    };
    Reply::admin_result(rolled)
}

fn until(query: Option<&str>) -> std::result::Result<Option<SnapshotName>, String> {
    match query.filter(|query| !query.is_empty()) {
        None => Ok(None),
        Some(query) => match query.strip_prefix("to=").and_then(path::decode) {
            Some(name) => name.parse().map(Some).map_err(|error| format!("{error}")),
            None => Err(format!("{query:?} is not known; give to=SNAPSHOT")),
        },
    }
}
