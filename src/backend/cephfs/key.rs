//! By which key a folder is mounted.
//!
//! A volume's client is called after its place, so that every host asks for the same one and a
//! person who reads `ceph auth ls` knows whose it is: `client.docker.rw.FS.GROUP.SUBVOLUME`, and
//! `client.docker.ro.…` for the one that may only read. A `.` in one of the names is written `_d`,
//! and a `_` twice, so that no two places have one name. All begin with `docker.`: the daemon's
//! capabilities allow no others.

use super::super::Result;
use super::CephFsBackend;
use crate::ceph::ClusterErrorKind;
use crate::volume::{ClientAccess, FolderSpec};

impl CephFsBackend {
    /// How a folder's own client reaches the cluster. The key is made if it is missing.
    pub(super) fn access(&self, place: &FolderSpec, read_only: bool) -> Result<ClientAccess> {
        let own = self.cluster.client_access()?;
        if self.own_key {
            return Ok(own);
        }
        let client_id = client_id(place, read_only);
        let key = match place {
            FolderSpec::Subvolume(subvolume)
            | FolderSpec::Snapshot { subvolume, .. }
            | FolderSpec::Within { subvolume, .. } => {
                self.cluster.subvolume_authorize(subvolume, &client_id, read_only)?
            }
            FolderSpec::Path(path) => self.cluster.path_authorize(path, &client_id, read_only)?,
        };
        Ok(ClientAccess { client_id, key: Some(key), ..own })
    }

    /// Takes the keys of a folder back, and shuts out who still uses them. The folder of another
    /// volume, or a snapshot of it, has none of its own.
    pub(super) fn take_keys(&self, place: &FolderSpec) -> Result<()> {
        for read_only in [false, true] {
            let client_id = client_id(place, read_only);
            let taken = match place {
                FolderSpec::Subvolume(subvolume) => {
                    let evicted = self.cluster.subvolume_evict(subvolume, &client_id);
                    evicted.and_then(|()| self.cluster.subvolume_deauthorize(subvolume, &client_id))
                }
                FolderSpec::Path(_) => self.cluster.client_remove(&client_id),
                FolderSpec::Within { .. } | FolderSpec::Snapshot { .. } => Ok(()),
            };
            match taken {
                Err(error) if error.kind == ClusterErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// The name of a folder's client, without `client.`.
pub(super) fn client_id(place: &FolderSpec, read_only: bool) -> String {
    let (kind, names) = match place {
        FolderSpec::Subvolume(of)
        | FolderSpec::Snapshot { subvolume: of, .. }
        | FolderSpec::Within { subvolume: of, .. } => {
            ("", vec![of.fs.as_str(), &of.group, &of.subvolume])
        }
        FolderSpec::Path(path) => {
            ("path-", [&*path.fs].into_iter().chain(path.path[1..].split('/')).collect())
        }
    };
    let access = if read_only { "ro" } else { "rw" };
    let plain = |name: &str| name.replace('_', "__").replace('.', "_d");
    let names: Vec<String> = names.into_iter().map(plain).collect();
    format!("docker.{kind}{access}.{}", names.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{PathSpec, SubvolumeSpec};

    #[test]
    fn a_client_is_called_after_its_place_and_no_two_places_have_one_name() {
        let subvolume = |group: &str, name: &str| SubvolumeSpec {
            fs: "cephfs".to_owned(),
            group: group.to_owned(),
            subvolume: name.to_owned(),
        };
        let own = |group, name| client_id(&FolderSpec::Subvolume(subvolume(group, name)), false);
        assert_eq!(own("docker", "web"), "docker.rw.cephfs.docker.web");
        assert_eq!(own("docker", "my_db.1"), "docker.rw.cephfs.docker.my__db_d1");
        assert_ne!(own("a.b", "c"), own("a", "b.c"));
        assert_ne!(own("a_d", "c"), own("a.", "c"));
        let within =
            FolderSpec::Within { subvolume: subvolume("docker", "web"), folder: "up".into() };
        assert_eq!(client_id(&within, true), "docker.ro.cephfs.docker.web");
        let path = PathSpec { fs: "cephfs".to_owned(), path: "/docker/web".to_owned() };
        assert_eq!(client_id(&FolderSpec::Path(path), false), "docker.path-rw.cephfs.docker.web");
    }
}
