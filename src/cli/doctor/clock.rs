//! The clock: cephx tickets are refused, and timed-out watches misjudged, where it is wrong.
//!
//! The monitors tell a client nothing of its clock, so what is checked is that somebody keeps it.

use std::path::Path;

use super::{ok, warning};
use crate::service::Finding;

/// What each time service leaves in `/run` while it works.
const EVIDENCE: [(&str, &str); 5] = [
    ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
    ("/run/chrony/chronyd.pid", "chronyd"),
    ("/run/chronyd.pid", "chronyd"),
    ("/run/ntpd.pid", "ntpd"),
    ("/run/openntpd.pid", "openntpd"),
];

/// Who keeps the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) keeper: Option<&'static str>,
}

impl Facts {
    pub(super) fn gather() -> Self {
        let found = EVIDENCE.iter().find(|(path, _)| Path::new(path).exists());
        Self { keeper: found.map(|(_, keeper)| *keeper) }
    }
}

pub(super) fn check(facts: &Facts) -> Finding {
    match facts.keeper {
        Some(keeper) => ok("clock", format!("kept by {keeper}")),
        None => warning(
            "clock",
            "no time service was found on this host",
            "make sure that it agrees with the cluster's clocks, for example with apt install \
             systemd-timesyncd (in a virtual machine the host may keep it)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;

    #[test]
    fn a_clock_that_nobody_keeps_is_worth_a_warning() {
        assert_eq!(check(&Facts { keeper: Some("chronyd") }).verdict, Verdict::Ok);
        assert_eq!(check(&Facts { keeper: None }).verdict, Verdict::Warning);
    }
}
