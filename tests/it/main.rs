//! All integration tests, as modules of one binary: it links once.

#![allow(
    clippy::unwrap_used,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "nothing here is called by anybody else, and a test fails by panicking"
)]

mod log;
mod protocol;
