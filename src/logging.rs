//! Logs: one line for each event, on standard output, as text or as JSON.
//!
//! Under systemd the journal keeps the time of each line, so the text has none of its own there.
//! No layer puts a key into an event; there is nothing here to take one out again.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Subscriber;

use crate::audit;
use crate::config::{LogFormat, LogSettings};

/// The program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Starts logging for the whole process; the second start changes nothing.
pub fn start(settings: &LogSettings) {
    let builder = Subscriber::builder()
        .with_env_filter(EnvFilter::new(audit::filter(&settings.level)))
        .with_ansi(std::io::stdout().is_terminal())
        .with_writer(std::io::stdout);
    // The error of `try_init` says just that logging was started before.
    let _started_before = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text if in_journal() => builder.without_time().try_init(),
        LogFormat::Text => builder.try_init(),
    };
}

/// systemd sets this for a service whose output goes to the journal.
fn in_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}
