//! Small files below the state folder, replaced as a whole.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable;

/// Writes a value so that a reader sees all of the old one or all of the new one.
pub(crate) fn replace<T: Serialize>(path: &Path, value: &T) -> std::io::Result<()> {
    durable::replace(path, &serde_json::to_vec(value)?)
}

/// Reads a value; `None` where there is none, or none that can be understood.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Makes a folder, and those above it, for us alone.
pub(crate) fn make_folder(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
