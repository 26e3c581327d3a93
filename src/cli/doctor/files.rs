//! Ceph's own files: its configuration and the client's keyring.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{failed, ok, warning};
use crate::ceph;
use crate::config::CephAccess;
use crate::service::Finding;

/// Where librados looks for a key that nothing names, in this order.
const KEYRINGS: [&str; 4] = [
    "/etc/ceph/ceph.client.ID.keyring",
    "/etc/ceph/ceph.keyring",
    "/etc/ceph/keyring",
    "/etc/ceph/keyring.bin",
];

/// Ceph's configuration file, or why it cannot be read.
#[derive(Debug)]
pub(super) struct ConfFacts {
    pub(super) path: PathBuf,
    pub(super) text: io::Result<String>,
}

/// The keyring that will be used.
#[derive(Debug)]
pub(super) enum KeyringFacts {
    /// There is none at any of these places.
    Missing(Vec<PathBuf>),
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It was read; of its text, only what is no secret.
    Read {
        /// Where it is.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The clients that it has a key for.
        entities: Vec<String>,
    },
}

impl ConfFacts {
    pub(super) fn gather(ceph: &CephAccess) -> Self {
        Self { path: ceph.conf.clone(), text: fs::read_to_string(&ceph.conf) }
    }

    fn value(&self, key: &str) -> Option<&str> {
        conf_value(self.text.as_ref().ok()?, key)
    }
}

impl KeyringFacts {
    pub(super) fn gather(ceph: &CephAccess, conf: &ConfFacts) -> Self {
        let named = ceph.keyring.clone().or_else(|| {
            let path = conf.value("keyring")?;
            let path = path.replace("$cluster", "ceph").replace("$id", &ceph.client_id);
            Some(path.replace("$name", &format!("client.{}", ceph.client_id)).into())
        });
        let usual = || KEYRINGS.map(|path| path.replace("ID", &ceph.client_id).into()).to_vec();
        let places: Vec<PathBuf> = named.map_or_else(usual, |path| vec![path]);
        match places.iter().find(|path| path.exists()) {
            Some(path) => Self::read(path),
            None => Self::Missing(places),
        }
    }

    fn read(path: &Path) -> Self {
        let read = || Ok((fs::metadata(path)?.mode(), fs::read_to_string(path)?));
        match read() {
            Ok((mode, text)) => {
                Self::Read { path: path.to_owned(), mode: mode & 0o777, entities: entities(&text) }
            }
            Err(error) => Self::Unreadable(path.to_owned(), error),
        }
    }
}

pub(super) fn check_conf(facts: &ConfFacts) -> Vec<Finding> {
    let path = facts.path.display();
    let copy = "copy it from a host of the cluster, or name another with ceph-conf";
    let text = match &facts.text {
        Ok(text) => text,
        Err(error) => return vec![failed("ceph.conf", format!("{path}: {error}"), copy)],
    };
    match conf_value(text, "mon host") {
        Some(hosts) if !hosts.is_empty() => {
            vec![ok("ceph.conf", format!("{path} names the monitors: {hosts}"))]
        }
        _ => {
            let advice = "add mon_host to its [global] section (ceph config generate-minimal-conf \
                          on a host of the cluster prints one)";
            vec![failed("ceph.conf", format!("{path} names no monitors"), advice)]
        }
    }
}

pub(super) fn check_keyring(facts: &KeyringFacts, client_id: &str) -> Finding {
    let check = "keyring";
    let export = |path: &Path| {
        let path = path.display();
        format!("on a host of the cluster: ceph auth get client.{client_id}; its output is {path}")
    };
    match facts {
        KeyringFacts::Missing(places) => {
            let names: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
            let advice = places.first().map(|path| export(path)).unwrap_or_default();
            failed(check, format!("there is none at {}", names.join(", ")), advice)
        }
        KeyringFacts::Unreadable(path, error) => {
            failed(check, format!("{}: {error}", path.display()), "run this as root")
        }
        KeyringFacts::Read { path, entities, .. }
            if !entities.iter().any(|entity| entity.strip_prefix("client.") == Some(client_id)) =>
        {
            let has = match &entities[..] {
                [] => "no key at all".to_owned(),
                entities => format!("keys for {} only", entities.join(", ")),
            };
            let detail = format!("{} has {has}; client-id is {client_id}", path.display());
            failed(check, detail, export(path))
        }
        KeyringFacts::Read { path, mode, .. } if mode & 0o007 != 0 => {
            let path = path.display();
            let detail = format!("everyone on this host may read {path} (mode {mode:04o})");
            warning(check, detail, format!("chmod 600 {path}"))
        }
        KeyringFacts::Read { path, .. } => {
            ok(check, format!("{} has the key of client.{client_id}", path.display()))
        }
    }
}

/// The value of a key of `ceph.conf` in its `[global]` or `[client]` section; Ceph takes spaces,
/// underscores and hyphens in keys for the same.
fn conf_value<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    let plain = |key: &str| key.split([' ', '_', '-', '\t']).collect::<Vec<_>>().join("_");
    let mut section = "global";
    let mut found = None;
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
        } else if let Some((name, value)) = line.split_once('=') {
            let ours = matches!(section, "global" | "client");
            if ours && plain(name.trim()) == plain(key) {
                found = Some(value.trim().trim_matches('"'));
            }
        }
    }
    found
}

/// The sections of a keyring that have a key, without the key.
fn entities(text: &str) -> Vec<String> {
    ceph::keys(text).into_iter().map(|(entity, _)| entity).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Verdict;

    #[test]
    fn a_conf_needs_monitors() {
        for (text, verdict) in [
            ("[global]\nmon host = [v2:10.0.0.1:3300]\n", Verdict::Ok),
            ("mon_host=10.0.0.1 # the first\n", Verdict::Ok),
            ("[global]\nfsid = x\n;mon host = 10.0.0.1\n", Verdict::Failed),
            ("[osd]\nmon host = 10.0.0.1\n", Verdict::Failed),
            ("[global]\nmon-host =\n", Verdict::Failed),
        ] {
            let facts = ConfFacts { path: "/c".into(), text: Ok(text.to_owned()) };
            assert_eq!(check_conf(&facts)[0].verdict, verdict, "{text:?}");
        }
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let facts = ConfFacts { path: "/c".into(), text: Err(missing) };
        assert_eq!(check_conf(&facts)[0].verdict, Verdict::Failed);
    }

    #[test]
    fn a_keyring_needs_the_client_s_key_and_no_curious_readers() {
        let text = "[client.docker]\n\tkey = AQBVERYSECRET==\n\tcaps mon = \"profile rbd\"\n\
                    [client.empty]\n";
        let read = |mode| KeyringFacts::Read { path: "/k".into(), mode, entities: entities(text) };
        for (facts, client, verdict, said) in [
            (read(0o600), "docker", Verdict::Ok, "the key of client.docker"),
            (read(0o640), "docker", Verdict::Ok, "the key of client.docker"),
            (read(0o644), "docker", Verdict::Warning, "mode 0644"),
            (read(0o600), "admin", Verdict::Failed, "keys for client.docker only"),
            (read(0o600), "empty", Verdict::Failed, "keys for client.docker only"),
            (KeyringFacts::Missing(vec!["/a".into()]), "docker", Verdict::Failed, "none at /a"),
        ] {
            let finding = check_keyring(&facts, client);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.detail.contains(said), "{finding:?}");
            assert!(!format!("{finding:?} {facts:?}").contains("SECRET"), "a key was printed");
        }
    }
}
