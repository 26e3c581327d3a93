//! Docker's volume-plugin protocol, version 1: the only PascalCase JSON in the tree.
//!
//! The engine sends neither a `Content-Type` nor a useful `Host`, ignores ours, and ends its
//! bodies with a line feed. Fields that a newer engine adds are ignored. `Opts` is `null` where no
//! option was given. An answer always carries `Err`, "" for success.

use serde::{Deserialize, Serialize};

use crate::service::{Listed, Status, VolumeView};
use crate::volume::Options;

/// What goes into the `Content-Type` of every answer.
pub(super) const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";

/// The mount ID of every Podman, for all containers and volumes: it counts mounts by itself.
pub(super) const PODMAN: &str = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2";

/// `VolumeDriver.Create`.
#[derive(Debug, Deserialize)]
pub(super) struct CreateRequest {
    #[serde(rename = "Name")]
    pub(super) name: String,
    #[serde(rename = "Opts", default)]
    pub(super) options: Option<Options>,
}

/// `VolumeDriver.Remove`, `Path` and `Get`.
#[derive(Debug, Deserialize)]
pub(super) struct NameRequest {
    #[serde(rename = "Name")]
    pub(super) name: String,
}

/// `VolumeDriver.Mount` and `Unmount`.
#[derive(Debug, Deserialize)]
pub(super) struct MountRequest {
    #[serde(rename = "Name")]
    pub(super) name: String,
    #[serde(rename = "ID")]
    pub(super) id: String,
}

/// To `Plugin.Activate`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ActivateAnswer {
    implements: [&'static str; 1],
}

/// To `VolumeDriver.Capabilities`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CapabilitiesAnswer {
    capabilities: Capabilities,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Capabilities {
    scope: &'static str,
}

/// To `VolumeDriver.Create`, `Remove` and `Unmount`, and to everything that failed.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PlainAnswer {
    pub(super) err: String,
}

/// To `VolumeDriver.Mount` and `Path`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MountpointAnswer {
    pub(super) mountpoint: String,
    pub(super) err: &'static str,
}

/// To `VolumeDriver.Get`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetAnswer {
    volume: Volume,
    err: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    mountpoint: String,
    created_at: String,
    status: Status,
}

/// To `VolumeDriver.List`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListAnswer {
    volumes: Vec<ListedVolume>,
    err: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedVolume {
    name: String,
    mountpoint: String,
}

impl ActivateAnswer {
    /// We are a volume driver, and nothing else.
    pub(super) fn volume_driver() -> Self {
        Self { implements: ["VolumeDriver"] }
    }
}

impl CapabilitiesAnswer {
    /// A volume made on one host is there on all of them.
    pub(super) fn global() -> Self {
        Self { capabilities: Capabilities { scope: "global" } }
    }
}

impl From<VolumeView> for GetAnswer {
    fn from(view: VolumeView) -> Self {
        let volume = Volume {
            name: view.name.into(),
            mountpoint: view.mountpoint.display().to_string(),
            // Whole seconds: `docker volume inspect` prints what it gets.
            created_at: view.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            status: view.status,
        };
        Self { volume, err: "" }
    }
}

impl FromIterator<Listed> for ListAnswer {
    fn from_iter<I: IntoIterator<Item = Listed>>(listed: I) -> Self {
        let entry = |listed: Listed| ListedVolume {
            name: listed.name.into(),
            mountpoint: listed.mountpoint.to_string_lossy().into_owned(),
        };
        Self { volumes: listed.into_iter().map(entry).collect(), err: "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(answer: &impl Serialize) -> String {
        serde_json::to_string(answer).expect("plain data")
    }

    #[test]
    fn options_may_be_null_absent_or_given() {
        let read = |text: &str| serde_json::from_str::<CreateRequest>(text).expect(text).options;
        assert_eq!(read(r#"{"Name":"r1","Opts":null}"#), None);
        assert_eq!(read(r#"{"Name":"r1"}"#), None);
        assert_eq!(read("{\"Name\":\"r1\",\"Opts\":{}}\n"), Some(Options::new()));
        let given = read(r#"{"Name":"r1","Opts":{"size":"2G","flag":""},"New":1}"#);
        assert_eq!(given.expect("two")["size"], "2G");
    }

    #[test]
    fn a_request_without_its_name_or_id_is_not_read() {
        for text in ["", "{}", "null", "[]", r#"{"name":"a"}"#, r#"{"Name":null}"#, r#"{"Name":1}"#]
        {
            assert!(serde_json::from_str::<NameRequest>(text).is_err(), "{text} was read");
        }
        assert!(serde_json::from_str::<MountRequest>(r#"{"Name":"a"}"#).is_err());
    }

    #[test]
    fn answers_are_spelled_as_the_engine_reads_them() {
        assert_eq!(json(&ActivateAnswer::volume_driver()), r#"{"Implements":["VolumeDriver"]}"#);
        assert_eq!(json(&CapabilitiesAnswer::global()), r#"{"Capabilities":{"Scope":"global"}}"#);
        assert_eq!(json(&PlainAnswer::default()), r#"{"Err":""}"#);
        let mounted = MountpointAnswer { mountpoint: "/m/a".into(), err: "" };
        assert_eq!(json(&mounted), r#"{"Mountpoint":"/m/a","Err":""}"#);
    }
}
