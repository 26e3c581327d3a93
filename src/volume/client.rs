//! A client of the cluster, as somebody else on this host needs it to be the same client.
//!
//! The daemon's own connection has all of this from `ceph.conf` and the keyring; the kernel has to
//! be told. The key is a [`Secret`]: no log line, error or JSON can hold it by mistake.

use std::fmt;

/// How somebody else reaches the cluster as this daemon's client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAccess {
    /// Where the monitors are, as their own map says.
    pub monitors: Vec<MonitorAddress>,
    /// The client's name without `client.`.
    pub client_id: String,
    /// Its key; `None` where the cluster asks for none.
    pub key: Option<Secret>,
    /// Ceph's setting `rbd_default_map_options`, option by option.
    pub default_map_options: Vec<String>,
}

/// An address of a monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorAddress {
    /// What is spoken there.
    pub messenger: Messenger,
    /// `10.0.0.1:6789`, `[fd00::1]:6789`.
    pub address: String,
}

/// A version of Ceph's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Messenger {
    /// The old one (`v1`, `legacy`).
    V1,
    /// The one with encryption (`v2`, `msgr2`).
    V2,
}

impl fmt::Display for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        })
    }
}

/// A key, in Base64 as keyrings have it. What is printed of it is that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of that text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text: for whoever hands the key on, and nobody else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let access = ClientAccess {
            monitors: Vec::new(),
            client_id: "docker".to_owned(),
            key: Some(Secret::new("AQVERYSECRET==")),
            default_map_options: Vec::new(),
        };
        let printed = format!("{access:?} {access:#?}");
        assert!(printed.contains("Secret(…)") && !printed.contains("AQVERY"), "{printed}");
    }
}
