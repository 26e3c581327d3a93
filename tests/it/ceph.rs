//! The `ceph` layer on a real cluster.

mod connection;
mod cost;
#[allow(unsafe_code, reason = "a client of librbd of the tests' own")]
mod holder;
mod images;
mod lab;
mod leases;
mod liveness;
mod messages;
pub(crate) mod metrics;
mod monitor;
mod objects;
mod outage;
mod page;
mod snapshots;
mod subvolume_snapshots;
mod subvolumes;
mod trash;
mod watchers;

use lab::Lab;
