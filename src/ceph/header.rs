//! An image's header object, read and written without opening the image.
//!
//! librbd needs a dozen messages, one after the other, to open an image; what the header says of it
//! takes two. And whoever opens an image for writing is a holder in the eyes of other hosts.
//!
//! The layout is that of images of format 2, which clients of every release since 2012 share.
//! Anything else is left to librbd.

use jiff::Timestamp;

use super::failure::{Failure, Outcome};
use super::io_context::IoContext;
use super::objects::found;
use super::{ImageInfo, features};
use crate::volume::ByteSize;

const KEYS: [&str; 5] = ["size", "order", "features", "data_pool_id", "create_timestamp"];

/// The name of the header object. `NotFound` where there is no such image of format 2.
pub(super) fn object_of(io: &IoContext, image: &str) -> Outcome<String> {
    Ok(object(&id_of(io, image)?))
}

/// What the header says of the image; `None` where librbd has to be asked.
pub(super) fn info(io: &IoContext, image: &str) -> Outcome<Option<ImageInfo>> {
    let Some(id) = found(|| id_of(io, image))? else { return Ok(None) };
    let Some(values) = found(|| io.omap_get_all(&object(&id), KEYS))? else { return Ok(None) };
    let Some(header) = Header::of(&values) else { return Ok(None) };
    Ok(Some(ImageInfo {
        id,
        size: ByteSize(header.size),
        features: features::names(header.features),
        object_size: ByteSize(header.object_size),
        data_pool: header.data_pool.map(|pool| io.connection.pool_name(pool)).transpose()?,
        created: header.created,
    }))
}

/// Is there no image of that name, of whatever format?
pub(super) fn is_missing(io: &IoContext, image: &str) -> Outcome<bool> {
    let there = |object: String| found(|| io.head(&object, 1)).map(|head| head.is_some());
    Ok(!there(format!("rbd_id.{image}"))? && !there(format!("{image}.rbd"))?)
}

/// The ID stands in an object that is named for the image, and never changes.
fn id_of(io: &IoContext, image: &str) -> Outcome<String> {
    let bytes = io.head(&format!("rbd_id.{image}"), 1024)?;
    let id = decoded(&bytes).ok_or_else(|| Failure::unreadable("its ID cannot be read"))?;
    Ok(id.to_owned())
}

fn object(id: &str) -> String {
    format!("rbd_header.{id}")
}

/// A text in Ceph's encoding: a length of four bytes, and the text.
fn decoded(bytes: &[u8]) -> Option<&str> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    size: u64,
    object_size: u64,
    features: u64,
    data_pool: Option<i64>,
    created: Option<Timestamp>,
}

impl Header {
    /// The values of [`KEYS`]; `None` where one that has to be there is not, or is no number.
    fn of(values: &[(String, Vec<u8>)]) -> Option<Self> {
        let value =
            |key: &str| values.iter().find(|(of, _)| of == key).map(|(_, value)| &value[..]);
        let number = |key| Some(u64::from_le_bytes(value(key)?.try_into().ok()?));
        let order: [u8; 1] = value("order")?.try_into().ok()?;
        let data_pool = match value("data_pool_id") {
            Some(_) => Some(number("data_pool_id")?.cast_signed()),
            None => None,
        };
        Some(Self {
            size: number("size")?,
            object_size: 1_u64.checked_shl(order[0].into())?,
            features: number("features")?,
            data_pool,
            created: number("create_timestamp").and_then(time),
        })
    }
}

/// Seconds and nanoseconds, of four bytes each.
fn time(bytes: u64) -> Option<Timestamp> {
    let (seconds, nanoseconds) = (bytes & u64::from(u32::MAX), bytes >> 32);
    let (seconds, nanoseconds) = (i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?);
    Timestamp::new(seconds, nanoseconds).ok().filter(|_| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_text_is_read_and_a_broken_one_is_not() {
        assert_eq!(decoded(b"\x03\0\0\0abc"), Some("abc"));
        assert_eq!(decoded(b"\x03\0\0\0abcd"), Some("abc"));
        for broken in [&b""[..], b"\x03\0\0", b"\x03\0\0\0ab", b"\0\0\0\0", b"\x01\0\0\0\xff"] {
            assert_eq!(decoded(broken), None, "{broken:?}");
        }
    }

    fn values() -> Vec<(String, Vec<u8>)> {
        let values: [(&str, &[u8]); 4] = [
            ("size", &[0, 0, 0, 0x20, 0, 0, 0, 0]),
            ("order", &[22]),
            ("features", &[0x3D, 0, 0, 0, 0, 0, 0, 0]),
            ("create_timestamp", &[1, 0, 0, 0, 2, 0, 0, 0]),
        ];
        values.map(|(key, value)| (key.to_owned(), value.to_vec())).to_vec()
    }

    #[test]
    fn a_header_is_read() {
        let mut values = values();
        let created = Timestamp::new(1, 2).ok();
        let (size, object_size) = (512 << 20, 4 << 20);
        let header = Header { size, object_size, features: 61, data_pool: None, created };
        assert_eq!(Header::of(&values), Some(header));
        values.push(("data_pool_id".to_owned(), vec![7, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(Header::of(&values).and_then(|header| header.data_pool), Some(7));
        values.retain(|(key, _)| key != "create_timestamp");
        assert_eq!(Header::of(&values).map(|header| header.created), Some(None));
    }

    #[test]
    fn a_header_of_another_layout_is_not_read() {
        for key in 0..3 {
            let (mut missing, mut short) = (values(), values());
            missing.remove(key);
            short[key].1.clear();
            assert_eq!(Header::of(&missing), None);
            assert_eq!(Header::of(&short), None);
        }
        let mut endless = values();
        endless[1].1 = vec![64];
        assert_eq!(Header::of(&endless), None);
    }
}
