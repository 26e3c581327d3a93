//! `docker-volume-ceph`: a Docker volume driver whose volumes live in Ceph.
//!
//! ```text
//!  dockerd ──HTTP/unix──▶ protocol ──▶ service ──▶ backend ──▶ ceph    ──▶ librados, librbd
//!  docker ceph … ───────▶ protocol ──▶    │           └──────▶ system  ──▶ kernel, mkfs, mappers
//!                                      catalog
//!               volume, config: plain values, known to all, knowing nobody
//! ```
//!
//! Each layer is ordinary blocking code. A request becomes one job on a thread of its own in
//! [`protocol`], so that the engine hanging up can never cut a map or a mount in half; nothing
//! below knows of async. `docs/architecture.md` follows one mount through all of it.

mod around;
mod audit;
pub mod backend;
pub mod catalog;
pub mod ceph;
pub mod cli;
pub mod config;
pub mod deadline;
mod durable;
pub mod engine;
#[cfg(feature = "failpoints")]
pub mod fault;
pub mod logging;
pub mod progress;
pub mod protocol;
pub mod service;
mod steps;
pub mod system;
pub mod volume;
