//! [`Objects`] by librados.

use std::fmt;

use super::cluster::RadosCluster;
use super::failure::{Failure, Outcome};
use super::{ClusterErrorKind, Objects, OmapPage, Result, Swap};
use crate::volume::Location;

/// `pool/namespace/object`, or `key "…" of pool/namespace/object`, for error messages.
struct Subject<'a>(&'a Location, &'a str, Option<&'a str>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at, object, key) = self;
        if let Some(key) = key {
            write!(f, "{key:?} of ")?;
        }
        write!(f, "object {at}/{object}")
    }
}

impl Objects for RadosCluster {
    fn omap_get(&self, at: &Location, object: &str, key: &str) -> Result<Option<Vec<u8>>> {
        self.in_context(at, "read omap key", Subject(at, object, Some(key)), |io| {
            found(|| io.omap_get(object, key)).map(Option::flatten)
        })
    }

    fn omap_page(&self, at: &Location, object: &str, after: &str, limit: u64) -> Result<OmapPage> {
        self.in_context(at, "read omap", Subject(at, object, None), |io| {
            found(|| io.omap_page(object, after, limit)).map(Option::unwrap_or_default)
        })
    }

    fn omap_compare_and_set(
        &self,
        at: &Location,
        object: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Swap> {
        self.in_context(at, "set omap key", Subject(at, object, Some(key)), |io| {
            // The empty value stands for a missing key, in the comparison and in what is set.
            if [expected, new].contains(&Some(b"")) {
                return Err(Failure::invalid("a value is never empty"));
            }
            io.omap_compare_and_set(object, key, expected.unwrap_or(b""), new.unwrap_or(b""))
        })
    }

    fn object_version(&self, at: &Location, object: &str) -> Result<u64> {
        self.in_context(at, "read the version of", Subject(at, object, None), |io| {
            found(|| io.version(object)).map(Option::unwrap_or_default)
        })
    }
}

/// `None` where the object is missing. The pool is there: the I/O context was opened.
pub(super) fn found<T>(read: impl FnOnce() -> Outcome<T>) -> Outcome<Option<T>> {
    match read() {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.kind == ClusterErrorKind::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}
