//! A device of the kernel's RBD is made by one line written to sysfs.
//!
//! The line names the client's key, which the kernel looks up in the keyrings of whoever writes. So
//! the child puts the key into a keyring of its own process, that nobody else can see and that ends
//! with it; the kernel keeps its own copy for as long as the device is there. Where a process may
//! have no keyrings (a kernel without them, a container), the key itself stands in the line, and
//! root can read it in the device's `config_info`.

#![allow(unsafe_code, reason = "the C library has no add_key")]

use std::ffi::{CStr, CString};
use std::path::PathBuf;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::calls::write_sysfs;
use crate::volume::Secret;

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

/// A device that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddRbd {
    /// The file of sysfs.
    pub(crate) path: PathBuf,
    /// `10.0.0.1:6789,10.0.0.2:6789`.
    pub(crate) monitors: String,
    /// The client's name without `client.`.
    pub(crate) client_id: String,
    /// The client's key.
    #[serde(with = "revealed")]
    pub(crate) key: Option<Secret>,
    /// Further options, each without a comma.
    pub(crate) options: Vec<String>,
    /// Pool, image and snapshot, with a space between them.
    pub(crate) image: String,
}

impl AddRbd {
    /// The key by its name in a keyring.
    pub(crate) fn key_name(&self) -> String {
        format!("client.{}", self.client_id)
    }

    /// The line, with the option that gives the key.
    pub(crate) fn line(&self, key: Option<String>) -> String {
        let name = format!("name={}", self.client_id);
        let options = std::iter::once(name).chain(key).chain(self.options.iter().cloned());
        format!("{} {} {}", self.monitors, options.collect::<Vec<_>>().join(","), self.image)
    }

    /// Could the key be one? Of one that cannot, the kernel says no more than `EINVAL`.
    pub(crate) fn has_sound_key(&self) -> bool {
        let sound = |payload: Vec<u8>| payload.len() > KEY_HEAD;
        self.key.as_ref().is_none_or(|key| decode(key.reveal()).is_some_and(sound))
    }

    pub(super) fn run(&self) -> Result<(), Failure> {
        let key = self.key.as_ref().map(|key| {
            let (name, text) = (self.key_name(), key.reveal());
            let kept = decode(text).and_then(|payload| add_key(&name, &payload).ok());
            kept.map_or_else(|| format!("secret={text}"), |()| format!("key={name}"))
        });
        write_sysfs(&self.path, &self.line(key))
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
    use crate::system::kernel::Call;

    fn add() -> AddRbd {
        AddRbd {
            path: "/sys/bus/rbd/add_single_major".into(),
            monitors: "10.77.0.1:6789".to_owned(),
            client_id: "docker".to_owned(),
            key: Some(Secret::new("AQVERYSECRET==")),
            options: vec!["exclusive".to_owned(), "_pool_ns=docker".to_owned()],
            image: "rbd v1 -".to_owned(),
        }
    }

    #[test]
    fn the_line_has_monitors_options_and_image() {
        assert_eq!(
            add().line(Some("key=client.docker".to_owned())),
            "10.77.0.1:6789 name=docker,key=client.docker,exclusive,_pool_ns=docker rbd v1 -"
        );
        assert_eq!(
            AddRbd { options: Vec::new(), ..add() }.line(None),
            "10.77.0.1:6789 name=docker rbd v1 -"
        );
    }

    #[test]
    fn the_key_reaches_the_child_and_no_log() {
        let call = Call::AddRbd(add());
        assert!(!format!("{call:?} {call:#?}").contains("VERYSECRET"));
        let line = serde_json::to_string(&call).expect("JSON");
        let Call::AddRbd(read) = serde_json::from_str(&line).expect("a call") else {
            panic!("another call: {line}")
        };
        assert_eq!(read, add());
    }

    #[test]
    fn what_cannot_be_a_key_is_seen() {
        for (key, sound) in [
            (Some("AQCaRidp+6moERAALnq+dcTOPwHZO9rK8ZsSiw=="), true),
            (Some("AQCaRidp"), false),
            (Some("garbage!"), false),
            (Some(""), false),
            (None, true),
        ] {
            let add = AddRbd { key: key.map(Secret::new), ..add() };
            assert_eq!(add.has_sound_key(), sound, "{key:?}");
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
