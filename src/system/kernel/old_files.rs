//! Finds and removes files by their age, in the child.
//!
//! A container has the folder too, and may put a link in the place of anything while this looks. So
//! no path is ever walked: each folder is opened by one name in the one above it, never through a
//! link and never into another mount, and files are looked at and removed by their name in an open
//! folder. Whatever is swapped meanwhile, nothing outside is reached.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::dir::{Dir, Entry, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc::{S_IFMT, S_IFREG};
use nix::sys::stat::{FileStat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::Failure;
use crate::system::OldFiles;

/// Two descriptors are open for each folder on the way down; most processes may have 1024.
const DEEPEST: usize = 400;
/// How many files are named, and how long a name is at most, in characters: its end counts.
const NAMED: usize = 100;
const LONGEST: usize = 300;
/// What a block of `st_blocks` is, on every file system.
const BLOCK: u64 = 512;

/// What is to be looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FindOld {
    /// The folder, below which it is looked.
    pub(crate) folder: PathBuf,
    /// Files that were last written before that.
    pub(crate) older_than: Timestamp,
    /// They are removed too.
    pub(crate) remove: bool,
    /// After that long it ends by itself, wherever it is.
    pub(crate) within: Duration,
}

impl FindOld {
    pub(super) fn run(&self) -> Result<OldFiles, Failure> {
        let begun = Instant::now();
        let mut walk = Walk { find: self, levels: Vec::new(), found: OldFiles::default() };
        let failed = |path: PathBuf| move |errno| Failure::of(&path)(errno);
        let top = open(AT_FDCWD, &self.folder, ResolveFlag::empty());
        walk.enter(top.map_err(failed(self.folder.clone()))?, String::new())
            .map_err(failed(self.folder.clone()))?;
        walk.found.whole = true;
        while let Some(level) = walk.levels.last_mut() {
            if begun.elapsed() >= self.within {
                walk.found.whole = false;
                break;
            }
            match level.entries.next() {
                None => drop(walk.levels.pop()),
                Some(entry) => {
                    let looked = entry.and_then(|entry| walk.look_at(&entry));
                    looked.map_err(|errno| failed(walk.place())(errno))?;
                }
            }
        }
        Ok(walk.found)
    }
}

/// A folder that is being read.
struct Level {
    folder: OwnedFd,
    entries: OwningIter,
    name: String,
}

struct Walk<'a> {
    find: &'a FindOld,
    levels: Vec<Level>,
    found: OldFiles,
}

impl Walk<'_> {
    fn enter(&mut self, folder: OwnedFd, name: String) -> Result<(), Errno> {
        let copy = folder.try_clone().map_err(|_| Errno::EMFILE)?;
        let entries = Dir::from_fd(copy)?.into_iter();
        self.levels.push(Level { folder, entries, name });
        Ok(())
    }

    /// What has gone or became something else since it was listed is passed over.
    fn look_at(&mut self, entry: &Entry) -> Result<(), Errno> {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return Ok(());
        }
        let Some(level) = self.levels.last() else { return Ok(()) };
        let looked = match entry.file_type() {
            Some(Type::Directory) => self.descend(name),
            Some(Type::File) | None => {
                let stat = fstatat(&level.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                stat.and_then(|stat| match stat.st_mode & S_IFMT {
                    S_IFREG => self.look_at_file(name, &stat),
                    nix::libc::S_IFDIR => self.descend(name),
                    _ => Ok(()),
                })
            }
            Some(_) => Ok(()),
        };
        match looked {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => Ok(()),
            looked => looked,
        }
    }

    fn descend(&mut self, name: &CStr) -> Result<(), Errno> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        if self.levels.len() == DEEPEST {
            self.found.whole = false;
            return Ok(());
        }
        let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV;
        let folder = open(&level.folder, name, inside)?;
        self.enter(folder, name.to_string_lossy().into_owned())
    }

    fn look_at_file(&mut self, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
        if written(stat) >= self.find.older_than.as_nanosecond() {
            return Ok(());
        }
        let Some(level) = self.levels.last() else { return Ok(()) };
        if self.find.remove {
            match unlinkat(&level.folder, name, UnlinkatFlags::NoRemoveDir) {
                // By an attribute of the file or its folder: `chattr +i`, `chattr +a`.
                Err(Errno::EPERM) => {
                    self.found.kept += 1;
                    return Ok(());
                }
                removed => removed?,
            }
        }
        self.found.count += 1;
        // One that has another name goes on taking its space.
        if stat.st_nlink == 1 {
            let taken = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK);
            self.found.bytes.0 = self.found.bytes.0.saturating_add(taken);
        }
        if self.found.names.len() < NAMED {
            self.found.names.push(self.named(&name.to_string_lossy()));
        }
        Ok(())
    }

    /// The file's path from the top, for people: containers choose names.
    fn named(&self, file: &str) -> String {
        let folders = self.levels.iter().skip(1).map(|level| level.name.as_str());
        let path = folders.chain([file]).collect::<Vec<_>>().join("/");
        let clean = |c: char| if c.is_control() { '?' } else { c };
        let excess = path.chars().count().saturating_sub(LONGEST);
        path.chars().skip(excess).map(clean).collect()
    }

    /// The folder that is being read, for an error.
    fn place(&self) -> PathBuf {
        let below = self.levels.iter().skip(1).map(|level| &level.name);
        below.fold(self.find.folder.clone(), |path, name| path.join(name))
    }
}

/// When a file was last written, in nanoseconds since 1970.
fn written(stat: &FileStat) -> i128 {
    i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec)
}

fn open(
    at: impl AsFd,
    name: &(impl nix::NixPath + ?Sized),
    inside: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve = inside | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(at, name, OpenHow::new().flags(flags).resolve(resolve))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        /// A file that was written so many days ago.
        fn file(&self, name: &str, days: u32) {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(&path, vec![1; 5000]).expect("a file");
            let written = std::time::SystemTime::now() - DAY * days;
            let file = std::fs::File::options().write(true).open(&path).expect("the file");
            file.set_modified(written).expect("its time");
        }

        fn find(&self, remove: bool, within: Duration) -> OldFiles {
            let folder = self.0.path().canonicalize().expect("its path");
            let older_than = Timestamp::now() - DAY * 10;
            let found = FindOld { folder, older_than, remove, within }.run().expect("found");
            let mut names = found.names.clone();
            names.sort();
            OldFiles { names, ..found }
        }

        fn has(&self, name: &str) -> bool {
            std::fs::symlink_metadata(self.path(name)).is_ok()
        }
    }

    #[test]
    fn what_is_older_is_listed_and_then_removed_and_nothing_else() {
        let place = Place::new();
        for (name, days) in [("a.log", 11), ("b.log", 9), ("x/y/c.log", 400), ("x/d.log", 0)] {
            place.file(name, days);
        }
        let listed = place.find(false, DAY);
        assert_eq!((listed.count, listed.kept, listed.whole), (2, 0, true));
        assert_eq!(listed.names, ["a.log", "x/y/c.log"]);
        assert!(listed.bytes.0 >= 10_000, "{listed:?}");
        assert!(place.has("a.log") && place.has("x/y/c.log"), "only listed");
        assert_eq!(place.find(true, DAY), listed);
        for (name, there) in
            [("a.log", false), ("b.log", true), ("x/y/c.log", false), ("x/d.log", true)]
        {
            assert_eq!(place.has(name), there, "{name}");
        }
        assert!(place.has("x/y"), "folders stay");
        assert_eq!(place.find(true, DAY).count, 0);
    }

    #[test]
    fn what_is_no_file_stays_and_no_link_is_followed() {
        let (place, outside) = (Place::new(), Place::new());
        outside.file("old", 90);
        place.file("real/old", 90);
        let link = std::os::unix::fs::symlink::<PathBuf, PathBuf>;
        link(outside.path(""), place.path("folder")).expect("a link");
        link(outside.path("old"), place.path("file")).expect("a link");
        nix::unistd::mkfifo(&place.path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let now = nix::sys::time::TimeSpec::new(1, 0);
        for name in ["folder", "file", "pipe"] {
            let how = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
            let at = place.path(name);
            nix::sys::stat::utimensat(AT_FDCWD, &at, &now, &now, how).expect("its time");
        }
        let removed = place.find(true, DAY);
        assert_eq!((removed.count, &removed.names[..]), (1, &["real/old".to_owned()][..]));
        assert!(outside.has("old"), "it was followed outside");
        assert!(["folder", "file", "pipe"].iter().all(|name| place.has(name)));
        let top = FindOld {
            folder: place.path("folder"),
            older_than: Timestamp::now(),
            remove: true,
            within: DAY,
        };
        assert_eq!(top.run().expect_err("a link").errno, libc::ENOTDIR);
    }

    /// A container swaps a folder for a link to one outside, and back, as fast as it can.
    #[test]
    fn a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
        use nix::fcntl::{RenameFlags, renameat2};
        use std::sync::atomic::{AtomicBool, Ordering};

        let (place, outside) = (Place::new(), Place::new());
        for n in 0..300 {
            outside.file(&format!("{n}"), 90);
        }
        place.file("swapped/old", 90);
        let link = place.path("link");
        std::os::unix::fs::symlink(outside.path(""), &link).expect("a link");
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (place.path("swapped"), place.path("link"));
                while !stop.load(Ordering::Relaxed) {
                    let flags = RenameFlags::RENAME_EXCHANGE;
                    renameat2(AT_FDCWD, &a, AT_FDCWD, &b, flags).expect("swapped");
                }
            });
            let until = Instant::now() + Duration::from_millis(500);
            let mut walks = 0;
            while Instant::now() < until {
                place.find(true, DAY);
                walks += 1;
            }
            stop.store(true, Ordering::Relaxed);
            assert!(walks > 50, "{walks}");
        });
        assert!((0..300).all(|n| outside.has(&n.to_string())), "it went outside");
    }

    #[test]
    fn where_the_time_is_over_it_says_so() {
        let place = Place::new();
        place.file("old", 90);
        let found = place.find(true, Duration::ZERO);
        assert_eq!((found.count, found.whole), (0, false));
        assert!(place.has("old"));
    }

    #[test]
    fn too_deep_is_left_alone_and_said() {
        let place = Place::new();
        place.file("top", 90);
        let mut folder = open(AT_FDCWD, place.0.path(), ResolveFlag::empty()).expect("open");
        for _ in 0..DEEPEST + 5 {
            nix::sys::stat::mkdirat(&folder, "d", nix::sys::stat::Mode::S_IRWXU).expect("made");
            folder = open(&folder, "d", ResolveFlag::empty()).expect("open");
        }
        let found = place.find(true, DAY);
        assert_eq!((found.count, found.whole), (1, false));
    }

    #[test]
    fn of_many_only_some_are_named_and_a_second_name_frees_nothing() {
        let place = Place::new();
        for n in 0..NAMED + 20 {
            place.file(&format!("old-{n}"), 90);
        }
        let before = place.find(false, DAY);
        assert_eq!((before.count, before.names.len()), (NAMED as u64 + 20, NAMED));
        let (first, kept) = (place.path("old-0"), Place::new());
        std::fs::hard_link(first, kept.path("other")).expect("a second name");
        assert!(place.find(true, DAY).bytes < before.bytes);
        place.file("bad\nname", 90);
        assert_eq!(place.find(true, DAY).names, ["bad?name"]);
    }
}
