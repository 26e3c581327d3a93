//! The `ceph` layer on a real cluster.

mod connection;
mod cost;
mod images;
mod lab;
mod liveness;
mod messages;
mod monitor;
mod objects;
mod outage;
mod subvolumes;
mod trash;
mod watchers;

use lab::Lab;
