//! All integration tests, as modules of one binary.

#![allow(missing_docs, reason = "tests are named for what they show")]

mod ceph;
