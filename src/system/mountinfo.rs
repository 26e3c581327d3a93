//! Reads `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
//!
//! Pure: the text comes from whoever has read it. Lines that cannot be understood are passed over,
//! as the manual asks of its readers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{DeviceNumber, Mount};

/// A mount, with the peer group that mounts and unmounts are propagated in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mount: Mount,
    /// The peer group that it is a member of.
    pub(crate) shared: Option<u32>,
    /// The peer group that it receives from.
    pub(crate) master: Option<u32>,
}

/// All mounts of a namespace.
pub(crate) fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

/// Those of one file system. Cheap where there are none, which is the common case.
pub(crate) fn parse_of(text: &[u8], number: DeviceNumber) -> Vec<Entry> {
    let wanted = format!(" {number} ");
    let lines = text.split(|byte| *byte == b'\n');
    let near = lines.filter(|line| contains(line, wanted.as_bytes()));
    near.filter_map(parse_line).filter(|entry| entry.mount.number == number).collect()
}

fn contains(line: &[u8], wanted: &[u8]) -> bool {
    line.windows(wanted.len()).any(|part| part == wanted)
}

fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let number = parse_number(fields.nth(2)?)?;
    let root = path(fields.next()?);
    let target = path(fields.next()?);
    let options = fields.next()?;
    let (mut shared, mut master) = (None, None);
    for field in fields.by_ref().take_while(|field| *field != b"-") {
        shared = shared.or_else(|| group(field, b"shared:"));
        master = master.or_else(|| group(field, b"master:"));
    }
    let fs_type = text(fields.next()?);
    let source = text(fields.next()?);
    let read_only = says_ro(options) || says_ro(fields.next()?);
    let mount = Mount { number, root, target, fs_type, source, read_only };
    Some(Entry { mount, shared, master })
}

fn parse_number(field: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

fn group(field: &[u8], kind: &[u8]) -> Option<u32> {
    std::str::from_utf8(field.strip_prefix(kind)?).ok()?.parse().ok()
}

fn says_ro(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == b"ro")
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Blank, tab, newline and backslash are written as `\040` and the like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        match octal(rest) {
            Some(escaped) => {
                plain.push(escaped);
                rest = &rest[4..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

fn octal(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.strip_prefix(b"\\")?.get(..3)?).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw,errors=remount-ro
71 22 7:0 /data /mnt/a\\040b\\134c rw,relatime shared:7 master:3 - ext4 /dev/loop0 rw
72 22 7:1 / /mnt/ro rw shared:9 - xfs /dev/loop1 ro,attr2
73 22 7:2 / /mnt/noopt ro - ext4 /dev/loop2 rw
74 22 0:55 / /mnt/f rw,nosuid propagate_from:2 - fuse.rbd-fuse rbd-fuse rw,user_id=0
nonsense
75 22 x:y / /z rw - ext4 none rw
";

    #[test]
    fn fields_are_read_and_escapes_undone() {
        let entries = parse(TEXT);
        assert_eq!(entries.len(), 5);
        let second = &entries[1];
        assert_eq!(second.mount.target, PathBuf::from("/mnt/a b\\c"));
        assert_eq!(second.mount.root, PathBuf::from("/data"));
        assert_eq!((second.shared, second.master), (Some(7), Some(3)));
        assert_eq!(second.mount.source, "/dev/loop0");
        assert_eq!(entries[4].mount.fs_type, "fuse.rbd-fuse");
        assert_eq!(entries[4].shared, None);
    }

    #[test]
    fn read_only_is_said_by_the_mount_or_by_the_file_system() {
        let read_only: Vec<_> = parse(TEXT).iter().map(|entry| entry.mount.read_only).collect();
        assert_eq!(read_only, [false, false, true, true, false]);
    }

    #[test]
    fn one_file_system_is_found_by_its_number() {
        let number = DeviceNumber { major: 7, minor: 2 };
        let found = parse_of(TEXT, number);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].mount.target, PathBuf::from("/mnt/noopt"));
        assert!(parse_of(TEXT, DeviceNumber { major: 7, minor: 20 }).is_empty());
    }

    #[test]
    fn what_only_looks_like_an_escape_stays() {
        for (field, plain) in [("a\\04", "a\\04"), ("\\999", "\\999"), ("\\", "\\")] {
            assert_eq!(unescape(field.as_bytes()), plain.as_bytes());
        }
    }
}
