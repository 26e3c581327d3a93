//! Finds a snapshot below a mounted folder of CephFS, in the child.

use std::path::{Path, PathBuf};

use super::Failure;

/// The folder that shows the snapshot. It was made on the folder above, and so is called
/// `_NAME_INODE` here, with an inode that is not to be seen from below.
pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let all = folder.join(".snap");
    let entries = std::fs::read_dir(&all).map_err(Failure::of(&all))?;
    let found = entries.filter_map(Result::ok).find(|entry| {
        entry.file_name().to_str().and_then(name_of).is_some_and(|found| found == name)
    });
    let missing = || Failure { errno: libc::ENOENT, path: all.join(name) };
    found.map(|entry| entry.path()).ok_or_else(missing)
}

fn name_of(entry: &str) -> Option<&str> {
    let (name, inode) = entry.strip_prefix('_')?.rsplit_once('_')?;
    inode.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_underscores_is_whole() {
        for (entry, name) in [
            ("_before_1099511627778", Some("before")),
            ("_a_b__1", Some("a_b_")),
            ("own", None),
            ("_own", None),
            ("_own_x", None),
        ] {
            assert_eq!(name_of(entry), name, "{entry}");
        }
    }
}
