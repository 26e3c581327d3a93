//! A simulated cluster and simulated hosts: what the real ones promise, in memory.
//!
//! ```text
//!  Service ──▶ SimClient ──▶ SimCluster ◀── SimHost ◀── Service      several hosts, one cluster
//!              (one per daemon)  images: their content follows them from host to host
//! ```
//!
//! [`SimCluster`] keeps omap objects, images with what is written in them, the trash, watchers and
//! the blocklist. [`SimHost`] is a kernel: devices, mounted file systems, mounts, containers. A
//! crash of either side is one call. Both imitate what tests must not be spared: device numbers
//! are used again, pages are short, a dead host's watch lingers, what is not synced is lost with
//! the host.
//!
//! They also watch. What must never happen (a format of data, two hosts writing one image, a check
//! of a mounted file system, a container on a bare folder) is a *violation*: it is noted when it
//! happens, whatever the caller makes of the answer, and [`SimCluster::violations`] has to be
//! empty after every step.

mod client;
mod cluster;
mod content;
mod folders;
mod freeze;
mod host;
mod kernel;
mod leases;
mod messages;
mod old_files;
mod snapshots;
mod subvolumes;

pub(crate) use client::SimClient;
pub(crate) use cluster::SimCluster;
pub(crate) use content::{Content, Record};
pub(crate) use host::SimHost;
pub(crate) use subvolumes::Stored;
