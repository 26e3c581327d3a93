//! What tests on real parts share.

pub(crate) mod browser;
pub(crate) mod caps;
pub(crate) mod daemon;
pub(crate) mod host;
pub(crate) mod machine;
pub(crate) mod outage;
pub(crate) mod ui;

/// How often a test that repeats is to do so, from `DOCKER_CEPH_REPEATS`: `few` (or nothing) is
/// once, `full` is as often as pays, and a number is that number.
///
/// # Panics
/// Where it is none of these.
pub(crate) fn repeats() -> u32 {
    match std::env::var("DOCKER_CEPH_REPEATS").as_deref() {
        Err(_) | Ok("few" | "") => 1,
        Ok("full") => 40,
        Ok(number) => number.parse().expect("DOCKER_CEPH_REPEATS is few, full or a number"),
    }
}
