//! How far something is that takes long.

/// Hears how much is done, and how much there is to do, in whatever the work counts. Called from any
/// thread, and so often that it has to be quick.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);
