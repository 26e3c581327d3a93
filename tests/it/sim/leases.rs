//! Leases by the simulated cluster's clock.

use std::time::Duration;

use docker_volume_ceph::ceph::{Lease, Leases, Result};
use docker_volume_ceph::volume::Location;

use super::SimClient;

impl Leases for SimClient {
    fn lease_renew(
        &self,
        at: &Location,
        object: &str,
        member: &str,
        keep: Duration,
    ) -> Result<Lease> {
        let mut state = self.reach_to_write("renew the lease on", at)?;
        let now = state.now;
        let shares = state.leases.entry((at.clone(), object.to_owned())).or_default();
        shares.insert(member.to_owned(), now.checked_add(keep).expect("a time in the calendar"));
        shares.retain(|_, end| *end > now);
        Ok(Lease { now, members: shares.keys().cloned().collect() })
    }

    fn lease_end(&self, at: &Location, object: &str, member: &str) -> Result<()> {
        let mut state = self.reach_to_write("end the lease on", at)?;
        if let Some(shares) = state.leases.get_mut(&(at.clone(), object.to_owned())) {
            shares.remove(member);
        }
        Ok(())
    }
}
