//! All integration tests, as modules of one binary. `docs/testing.md` says which tier is which.

#![allow(missing_docs, reason = "tests are named for what they show")]

mod ceph;
mod cli;
mod loop_devices;
#[cfg(feature = "failpoints")]
mod model;
#[cfg(feature = "failpoints")]
mod sim;

/// A plain `cargo test` shows by this what it leaves out.
#[cfg(not(feature = "failpoints"))]
#[test]
#[ignore = "the model and crash tests need --features failpoints"]
fn model_and_crash_tests_are_left_out() {}
