//! What becomes of a fence's entry, where the kernel shows its clients.

use super::failover::away_and_back;
use super::is_fenced;
use crate::support::daemon::within;
use crate::support::machine::{Machine, SOON, on_two_that_show_clients};

/// With its last user the client goes, and then its own host lets it in again.
#[test]
fn an_entry_goes_with_the_last_user_of_its_client() {
    on_two_that_show_clients(|one, other| {
        let fenced = away_and_back(one, other, [Machine::freeze, Machine::thaw]);
        assert!(within(SOON, || !is_fenced(other, &fenced)), "the blocklist grows for ever");
    });
}
