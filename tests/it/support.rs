//! What tests on real parts share.

pub(crate) mod daemon;
pub(crate) mod host;
