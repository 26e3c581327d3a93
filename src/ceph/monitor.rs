//! [`Monitor`] by commands to the monitors.
//!
//! # The barrier
//!
//! After a fence, one write to the image's header object makes sure that its OSD knows of it:
//! [`Monitor::header_barrier`]. It creates the object that must already be there, which the OSD
//! carries out as a write that does nothing: it takes its turn behind what is queued for that
//! placement group, carries the epoch of our newest map, and gives the object a new version.
//! Neither librbd nor the kernel looks at that version; data, omap, xattrs and locks stay as they
//! are, and no watcher is notified. An xattr or omap key of our own would stay behind in the image.

use std::net::SocketAddr;
use std::time::Duration;

use super::access::whole_seconds;
use super::cluster::RadosCluster;
use super::command::{
    self, AuthGet, BlocklistAdd, BlocklistLs, BlocklistRemove, Df, Health, MonDump, PoolList,
    Version,
};
use super::connection::Connection;
use super::failure::{Failure, Outcome};
use super::images::header_of;
use super::{BlocklistEntry, ClusterStatus, Monitor, PoolUsage, Result, directory, keyring};
use crate::volume::{ByteSize, ClientAccess, ImageSpec, Location};

impl Monitor for RadosCluster {
    fn status(&self) -> Result<ClusterStatus> {
        self.on_connection("read the status of", "the cluster", |connection| {
            Ok(ClusterStatus {
                fsid: connection.fsid()?,
                health: command::send(connection, &Health {})?.status,
                release: command::send(connection, &Version {})?.release().to_owned(),
            })
        })
    }

    fn own_address(&self) -> Result<String> {
        self.on_connection("read the address of", "this client", |connection| connection.address())
    }

    fn own_caps(&self) -> Result<Vec<(String, String)>> {
        let entity = format!("client.{}", self.access().client_id);
        let request = AuthGet { entity: entity.clone() };
        self.on_connection("read the capabilities of", entity, |connection| {
            let entities = command::send(connection, &request)?;
            Ok(entities.into_iter().flat_map(|entity| entity.caps).collect())
        })
    }

    fn client_access(&self) -> Result<ClientAccess> {
        let client_id = &self.access().client_id;
        let subject = format!("client.{client_id}");
        self.on_connection("read monitors and key for", subject, |connection| {
            let options = connection.option("rbd_default_map_options")?;
            let options = options.split(',').map(str::trim).filter(|option| !option.is_empty());
            Ok(ClientAccess {
                monitors: command::send(connection, &MonDump {})?.addresses(),
                client_id: client_id.clone(),
                key: keyring::key_in_use(connection, client_id)?,
                default_map_options: options.map(str::to_owned).collect(),
            })
        })
    }

    fn pools(&self) -> Result<Vec<String>> {
        self.on_connection("list pools of", "the cluster", |connection| {
            let pools = command::send(connection, &PoolList::DETAIL)?;
            Ok(pools.into_iter().map(|pool| pool.pool_name).collect())
        })
    }

    fn pool_usage(&self, pool: &str) -> Result<PoolUsage> {
        self.on_connection("read the usage of", format_args!("pool {pool}"), |connection| {
            pool_usage(connection, pool)
        })
    }

    fn namespaces(&self, pool: &str) -> Result<Vec<String>> {
        let at = Location::new(pool, "");
        self.in_context(&at, "list namespaces of", &at, directory::namespaces)
    }

    fn blocklist(&self) -> Result<Vec<BlocklistEntry>> {
        self.on_connection("read", "the blocklist", |connection| {
            let entries = command::send(connection, &BlocklistLs {})?;
            let entry = |entry: command::BlocklistReply| BlocklistEntry {
                address: entry.addr,
                until: entry.until,
            };
            Ok(entries.into_iter().map(entry).collect())
        })
    }

    fn blocklist_add(&self, address: &str, keep: Duration) -> Result<()> {
        self.on_connection("add to the blocklist", address, |connection| {
            check_instance(address)?;
            if connection.address()? == address {
                return Err(Failure::invalid("it is the address of this client itself"));
            }
            let seconds = u32::try_from(whole_seconds(keep)).unwrap_or(u32::MAX).max(1);
            command::send(connection, &BlocklistAdd::new(address, seconds))?;
            connection.catch_up()
        })
    }

    fn blocklist_remove(&self, address: &str) -> Result<()> {
        self.on_connection("remove from the blocklist", address, |connection| {
            check_instance(address)?;
            command::send(connection, &BlocklistRemove::new(address))
        })
    }

    fn header_barrier(&self, image: &ImageSpec) -> Result<()> {
        self.in_context(&image.location, "write to the header of image", image, |io| {
            io.touch(&header_of(io, image)?)
        })
    }
}

fn pool_usage(connection: &Connection, pool: &str) -> Outcome<PoolUsage> {
    let missing = || Failure {
        message: format!("there is no pool {pool:?}"),
        ..Failure::of_errno(libc::ENOENT)
    };
    // The manager reports a new pool's figures some seconds after it was made.
    let unknown = || Failure {
        message: format!("the cluster has no figures for pool {pool:?} yet"),
        ..Failure::of_errno(libc::EAGAIN)
    };
    let pools = command::send(connection, &PoolList::DETAIL)?;
    let state = pools.into_iter().find(|of| of.pool_name == pool).ok_or_else(missing)?;
    let usage = command::send(connection, &Df::DETAIL)?;
    let stats = usage.pools.into_iter().find(|of| of.name == pool).ok_or_else(unknown)?.stats;
    Ok(PoolUsage {
        free: ByteSize(stats.free()),
        used: ByteSize(stats.stored),
        full: state.is_full(),
    })
}

/// Refuses what is not exactly one client instance, `ADDRESS:PORT/NONCE`: an entry with the
/// nonce 0, or with none, fences the whole host.
fn check_instance(address: &str) -> Outcome<()> {
    let instance = address.split_once('/').is_some_and(|(socket, nonce)| {
        socket.parse::<SocketAddr>().is_ok() && nonce.parse::<u64>().is_ok_and(|nonce| nonce != 0)
    });
    if instance {
        return Ok(());
    }
    Err(Failure::invalid(
        "it is not one client instance, such as 10.0.0.7:0/3187512345; nonce 0 is a whole host",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ceph::ClusterErrorKind;

    #[test]
    fn exactly_one_client_instance_can_be_fenced() {
        for address in ["10.0.0.7:0/3187512345", "[fd00::7]:0/12"] {
            check_instance(address).expect("an instance");
        }
        for address in [
            "",
            "10.0.0.7",
            "10.0.0.7:0",
            "10.0.0.7:0/0",
            "10.0.0.7:0/00",
            "10.0.0.0/24",
            "10.0.0.7:0/-1",
            "host:0/1",
        ] {
            let failure = check_instance(address).expect_err(address);
            assert_eq!(failure.kind, ClusterErrorKind::Invalid);
        }
    }
}
