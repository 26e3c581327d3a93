//! A client's key on its way into the kernel.
//!
//! The kernel is told a key's name, and looks it up in the keyrings of whoever asks. So the child
//! puts the key into a keyring of its own process, that nobody else can see and that ends with it;
//! the kernel keeps its own copy for as long as its client lives. Where a process may have no
//! keyrings (a kernel without them, a container), the key itself is said.

#![allow(unsafe_code, reason = "the C library has no add_key")]

use std::ffi::{CStr, CString};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::system::SystemErrorKind;
use crate::volume::{ClientAccess, Secret};

/// The type of a key that the kernel's Ceph client takes.
const KEY_TYPE: &CStr = c"ceph";
/// What a key has before its secret: type, time of its making, length of the secret.
const KEY_HEAD: usize = 2 + 8 + 2;

/// Base64 as keyrings have it: Ceph and the kernel go by the letters alone.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A client by its name, and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientKey {
    /// The client's name without `client.`.
    pub(crate) client_id: String,
    /// Its key; `None` where the cluster asks for none.
    #[serde(with = "revealed")]
    pub(crate) key: Option<Secret>,
}

impl ClientKey {
    /// The client's. Refused where the key cannot be one: of such a one the kernel says no more
    /// than `EINVAL`.
    pub(crate) fn of(access: &ClientAccess) -> Result<Self, SystemErrorKind> {
        let it = Self { client_id: access.client_id.clone(), key: access.key.clone() };
        if it.is_sound() {
            return Ok(it);
        }
        Err(SystemErrorKind::Refused(format!(
            "the key of {} in its keyring is malformed; write the keyring anew with ceph auth get",
            it.name()
        )))
    }

    /// The key by its name in a keyring.
    pub(crate) fn name(&self) -> String {
        format!("client.{}", self.client_id)
    }

    fn is_sound(&self) -> bool {
        let sound = |payload: Vec<u8>| payload.len() > KEY_HEAD;
        self.key.as_ref().is_none_or(|key| decode(key.reveal()).is_some_and(sound))
    }

    /// The option that tells the kernel of the key, which this process may use from now on.
    pub(super) fn option(&self) -> Option<String> {
        let text = self.key.as_ref()?.reveal();
        let kept = decode(text).and_then(|payload| add_key(&self.name(), &payload).ok());
        Some(kept.map_or_else(|| format!("secret={text}"), |()| format!("key={}", self.name())))
    }
}

/// Puts a key into the keyring of this process.
fn add_key(name: &str, payload: &[u8]) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: both texts are C strings, the payload is as long as it is said to be, and the kernel
    // copies all three.
    let serial = unsafe {
        libc::syscall(
            libc::SYS_add_key,
            KEY_TYPE.as_ptr(),
            name.as_ptr(),
            payload.as_ptr(),
            payload.len(),
            libc::KEY_SPEC_PROCESS_KEYRING,
        )
    };
    Errno::result(serial).map(drop)
}

/// The bytes that a key's text stands for.
fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// A secret on its way to the child, which is the one place where it is written out.
mod revealed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::volume::Secret;

    pub(super) fn serialize<S: Serializer>(key: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        key.as_ref().map(Secret::reveal).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_key_is_seen() {
        for (key, sound) in [
            (Some("AQCaRidp+6moERAALnq+dcTOPwHZO9rK8ZsSiw=="), true),
            (Some("AQCaRidp"), false),
            (Some("garbage!"), false),
            (Some(""), false),
            (None, true),
        ] {
            let it = ClientKey { client_id: "docker".to_owned(), key: key.map(Secret::new) };
            assert_eq!(it.is_sound(), sound, "{key:?}");
        }
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYmE", b"fooba"),
            ("+/+/", b"\xfb\xff\xbf"),
        ] {
            assert_eq!(decode(text).expect("Base64"), bytes, "{text:?}");
        }
        assert_eq!(decode("garbage!"), None);
    }
}
