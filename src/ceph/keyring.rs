//! Keyrings, and the key that librados uses.
//!
//! librados keeps its key to itself, so it is looked up as librados does: `key`, else `keyfile`,
//! else the first file of `keyring` that is there. It is read each time, because a key that was
//! changed is the file's from then on. Only keyrings in text form are read: `ceph auth get` writes
//! no others.

use std::fs;
use std::io;
use std::path::Path;

use super::ClusterErrorKind;
use super::connection::Connection;
use super::failure::{Failure, Outcome};
use crate::volume::Secret;

/// The clients and daemons that a keyring has keys for.
pub(crate) fn keys(text: &str) -> Vec<(String, Secret)> {
    let mut section = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = Some(name.trim().to_owned());
        } else if let Some((name, value)) = line.split_once('=')
            && name.trim() == "key"
        {
            let key = value.trim().trim_matches('"');
            let entity = section.take().filter(|_| !key.is_empty());
            found.extend(entity.map(|entity| (entity, Secret::new(key))));
        }
    }
    found
}

/// The key of the client that this connection is of; `None` where the configuration asks for none.
pub(super) fn key_in_use(connection: &Connection, client_id: &str) -> Outcome<Option<Secret>> {
    let methods = connection.option("auth_client_required")?;
    if methods == "none" {
        return Ok(None);
    }
    let key = connection.option("key")?;
    if !key.is_empty() {
        return Ok(Some(Secret::new(key)));
    }
    let found = match connection.option("keyfile")? {
        file if !file.is_empty() => read(&file).map(|text| Secret::new(text.trim())),
        _ => key_in_files(&connection.option("keyring")?, client_id),
    };
    match found {
        Ok(key) => Ok(Some(key)),
        // Both are offered, and the cluster has let this client in without a key.
        Err(_) if methods.contains("none") => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The client's key in the first of these files that is there, which are separated as in
/// `ceph.conf`.
fn key_in_files(files: &str, client_id: &str) -> Outcome<Secret> {
    let mut all = files.split([',', ';', ' ', '\t']).filter(|file| !file.is_empty());
    let file = all.find(|file| Path::new(file).exists());
    let file = file.ok_or_else(|| denied(libc::ENOENT, format!("there is no keyring {files}")))?;
    let entity = format!("client.{client_id}");
    // Of two sections, the later one counts.
    let key = keys(&read(file)?).into_iter().rev().find(|(of, _)| *of == entity);
    key.map(|(_, key)| key)
        .ok_or_else(|| denied(libc::ENOENT, format!("there is no key of {entity} in {file}")))
}

fn read(file: &str) -> Outcome<String> {
    fs::read_to_string(file).map_err(|error: io::Error| {
        denied(error.raw_os_error().unwrap_or(libc::EIO), format!("{file}: {error}"))
    })
}

fn denied(errno: i32, message: String) -> Failure {
    Failure { kind: ClusterErrorKind::Denied, errno, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYRING: &str = "# ceph auth get\n[client.docker]\n\tkey = AQBX/1+2==\n\
                           \tcaps mon = \"profile rbd\"\n[client.empty]\n\tkey =\n\
                           [mon.]\nkey=\"AQBY==\" ; the monitors'\n";

    #[test]
    fn a_keyring_has_keys_for_some() {
        let keys: Vec<_> = keys(KEYRING);
        let texts = keys.iter().map(|(entity, key)| format!("{entity} {}", key.reveal()));
        assert_eq!(texts.collect::<Vec<_>>(), ["client.docker AQBX/1+2==", "mon. AQBY=="]);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
    fn the_first_keyring_that_is_there_has_the_key_or_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keyring");
        let files = format!("/nowhere/keyring,{},/etc/passwd", path.display());
        let failure = key_in_files("/nowhere/keyring", "docker").expect_err("no file");
        assert_eq!(failure.message, "there is no keyring /nowhere/keyring");
        fs::write(&path, KEYRING).expect("written");
        assert_eq!(key_in_files(&files, "docker").expect("a key").reveal(), "AQBX/1+2==");
        let failure = key_in_files(&files, "admin").expect_err("no key");
        assert_eq!(failure.kind, ClusterErrorKind::Denied);
        assert!(failure.message.starts_with("there is no key of client.admin in "), "{failure:?}");
    }
}
