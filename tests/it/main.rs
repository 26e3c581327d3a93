//! All integration tests, as modules of one binary. `docs/testing.md` says which tier is which.

#![allow(missing_docs, reason = "tests are named for what they show")]

mod ceph_mapper;
mod loop_devices;
