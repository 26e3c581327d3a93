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
#[cfg(feature = "failpoints")]
mod ceph_crash;
mod ceph_mapper;
mod cli;
#[cfg(feature = "failpoints")]
mod engine;
mod log;
mod loop_devices;
#[cfg(feature = "failpoints")]
mod model;
mod protocol;
#[cfg(feature = "failpoints")]
mod sim;
#[cfg(feature = "failpoints")]
mod support;

/// A plain `cargo test` shows by this what it leaves out.
#[cfg(not(feature = "failpoints"))]
#[test]
#[ignore = "the model, crash and engine tests need --features failpoints"]
fn model_and_crash_tests_are_left_out() {}
