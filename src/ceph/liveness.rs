//! [`Liveness`]: is whoever has an image open still there?
//!
//! A client that holds an image watches its header object, and answers a notify with an empty
//! message by itself: librbd in a millisecond, the kernel in a few. The message has no bytes at
//! all: a text of length zero in Ceph's encoding is four bytes, which the kernel cannot decode and
//! never acknowledges.

use std::time::Duration;

use super::cluster::RadosCluster;
use super::command::{self, OsdInfo, OsdMap};
use super::images::header_of;
use super::messages;
use super::objects::found;
use super::{Interval, Liveness, LockOwner, Notified, Result};
use crate::volume::ImageSpec;

/// The lock that librbd and the kernel take on an image's header (`exclusive-lock`).
const LOCK: &str = "rbd_lock";

/// What an address in a lock may begin with.
const PROTOCOLS: [&str; 3] = ["v1:", "v2:", "any:"];

impl Liveness for RadosCluster {
    fn lock_owner(&self, image: &ImageSpec) -> Result<Option<LockOwner>> {
        self.in_context(&image.location, "read the lock of image", image, |io| {
            let header = header_of(io, image)?;
            let lockers = found(|| io.lockers(&header, LOCK))?.unwrap_or_default();
            let owner = |(client, address): (String, String)| {
                let client = client.strip_prefix("client.")?.parse().ok()?;
                // Watchers and the blocklist have it without its protocol.
                let bare = PROTOCOLS.iter().find_map(|protocol| address.strip_prefix(protocol));
                Some(LockOwner { client, address: bare.unwrap_or(&address).to_owned() })
            };
            Ok(lockers.into_iter().find_map(owner))
        })
    }

    fn ask_watchers(&self, image: &ImageSpec, wait: Duration) -> Result<Notified> {
        self.in_context(&image.location, "ask the watchers of image", image, |io| {
            messages::notify(io, &header_of(io, image)?, b"", wait)
        })
    }

    fn interval(&self, image: &ImageSpec) -> Result<Interval> {
        self.in_context(&image.location, "find the OSDs of image", image, |io| {
            let map = OsdMap::new(&image.location, header_of(io, image)?);
            let map = command::send(&io.connection, &map)?;
            let primary = OsdInfo { osd: map.acting_primary };
            let up_from = command::send(&io.connection, &primary)?.up_from;
            Ok(Interval { acting: map.acting, primary: map.acting_primary, up_from })
        })
    }
}
