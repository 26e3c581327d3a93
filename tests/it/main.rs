//! All integration tests, as modules of one binary: it links once. `docs/testing.md` says which tier
//! is which.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "nothing here is called by anybody else, and a test fails by panicking"
)]

mod ceph;
mod ceph_crash;
mod ceph_folders;
mod ceph_mapper;
mod cli;
mod engine;
mod hosts;
mod log;
mod loop_devices;
mod model;
mod protocol;
mod sim;
mod support;
