//! What the daemons' key may do, changed for a while.

use std::collections::BTreeMap;

type Ceph<'a> = Box<dyn Fn(&[&str]) -> String + 'a>;

/// The capabilities of `client.docker`; as they were, when this is dropped.
pub(crate) struct Caps<'a> {
    ceph: Ceph<'a>,
    before: BTreeMap<String, String>,
}

impl<'a> Caps<'a> {
    /// Of the cluster that `ceph` speaks to, with all rights.
    pub(crate) fn of(ceph: impl Fn(&[&str]) -> String + 'a) -> Self {
        let text = ceph(&["auth", "get", "client.docker", "--format", "json"]);
        let got: serde_json::Value = serde_json::from_str(&text).expect("ceph prints JSON");
        let before = serde_json::from_value(got[0]["caps"].clone()).expect("caps by kind");
        Self { ceph: Box::new(ceph), before }
    }

    /// These instead of, or beside, what there was for other kinds of daemon.
    pub(crate) fn set(&self, changed: &[(&str, &str)]) {
        let mut caps = self.before.clone();
        caps.extend(changed.iter().map(|(kind, text)| ((*kind).into(), (*text).into())));
        let mut words = vec!["auth", "caps", "client.docker"];
        words.extend(caps.iter().flat_map(|(kind, text)| [kind.as_str(), text.as_str()]));
        (self.ceph)(&words);
    }

    /// What there was for a kind of daemon.
    pub(crate) fn before(&self, kind: &str) -> &str {
        self.before.get(kind).map_or("", String::as_str)
    }
}

impl Drop for Caps<'_> {
    fn drop(&mut self) {
        self.set(&[]);
    }
}
