//! The audit trail: one line in the log for every change that this daemon has made, whoever asked for
//! it, and also where nobody did (a schedule, a takeover, the trash).
//!
//! Its lines have the target `audit`, and are logged at every level but those of a setting that names
//! the target itself (`log-level = "info,audit=off"`). A line of a request stands in its span, with the
//! request's id, what was asked, and the user and process that asked.

/// A change that was made: the fields of [`tracing::info!`].
macro_rules! audit {
    ($($fields:tt)+) => { tracing::info!(target: "audit", $($fields)+) };
}

pub(crate) use audit;

/// What is logged at this level, the audit trail included.
pub(crate) fn filter(level: &str) -> String {
    format!("audit=info,{level}")
}
