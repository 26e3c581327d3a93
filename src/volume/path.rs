//! `-o path=`: a folder that is there already, which becomes a volume of CephFS.

use std::fmt;
use std::str::FromStr;

use super::VolumeName;

/// As long as CephFS allows a name to be, and a path.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4096;

/// A folder in a file system, or in another volume.
///
/// What could lead out of it, or be read in two ways, is no path: `..`, `.`, an empty name, a
/// control character. The file system's root is none either: it holds every other volume. Links
/// are not followed by whoever mounts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderPath {
    /// From the root of the file system, with a leading `/`.
    Absolute(String),
    /// In another volume.
    Within {
        /// That volume.
        volume: VolumeName,
        /// The folder in it: names with `/` between them, and none before the first.
        folder: String,
    },
}

impl FromStr for FolderPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            |why: &str| Err(format!("{why}; give /a/folder of the file system, or VOLUME/folder"));
        if text.len() > LONGEST_PATH || text.contains(|c: char| c.is_control() || c == ',') {
            return refused("it is too long, or has a comma or a control character");
        }
        let absolute = text.strip_prefix('/');
        let path = absolute.unwrap_or(text);
        let path = path.strip_suffix('/').unwrap_or(path);
        let plain = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= LONGEST_NAME;
        if !path.split('/').all(plain) {
            return refused("every part of a path is the name of a folder, and not empty, . or ..");
        }
        if absolute.is_some() {
            return Ok(Self::Absolute(format!("/{path}")));
        }
        match path.split_once('/') {
            Some((volume, folder)) => {
                let volume = volume.parse::<VolumeName>().map_err(|error| error.to_string())?;
                Ok(Self::Within { volume, folder: folder.to_owned() })
            }
            None => refused("it has no /"),
        }
    }
}

impl fmt::Display for FolderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(path) => f.write_str(path),
            Self::Within { volume, folder } => write!(f, "{volume}/{folder}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_of_the_file_system_or_of_a_volume() {
        for (text, written) in
            [("/a", "/a"), ("/a/b c/", "/a/b c"), ("web/up", "web/up"), ("web/a/b/", "web/a/b")]
        {
            assert_eq!(text.parse::<FolderPath>().expect("a path").to_string(), written);
        }
    }

    #[test]
    fn what_leads_out_or_can_be_read_in_two_ways_is_none() {
        for text in
            ["", "/", "web", "web/", "/a/../b", "../a", "/a//b", "/./a", "/a\nb", "/a,ro", "-x/a"]
        {
            assert!(text.parse::<FolderPath>().is_err(), "{text:?} was read");
        }
    }
}
