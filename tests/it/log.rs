//! What the daemon logged. Tests run side by side in one process, so each looks for its own volume.

use std::io;
use std::sync::{Mutex, Once};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects from now on.
pub fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(|| Writer)
            .init();
    });
}

/// The lines about a volume at a level, such as `ERROR`.
pub fn lines(level: &str, volume: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let text = String::from_utf8_lossy(&lines);
    let wanted =
        |line: &&str| line.contains(volume) && line.split_whitespace().nth(1) == Some(level);
    text.lines().filter(wanted).map(ToOwned::to_owned).collect()
}
