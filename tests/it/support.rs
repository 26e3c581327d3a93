//! What tests on real parts share.

pub(crate) mod daemon;
