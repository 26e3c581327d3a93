//! A device of the kernel's RBD is made by one line written to sysfs.
//!
//! Where the key itself has to stand in the line (see [`ClientKey`]), root can read it in the
//! device's `config_info`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::calls::write_sysfs;
use super::{ClientKey, Failure};

/// A device that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddRbd {
    /// The file of sysfs.
    pub(crate) path: PathBuf,
    /// `10.0.0.1:6789,10.0.0.2:6789`.
    pub(crate) monitors: String,
    /// The client.
    pub(crate) client: ClientKey,
    /// Further options, each without a comma.
    pub(crate) options: Vec<String>,
    /// Pool, image and snapshot, with a space between them.
    pub(crate) image: String,
}

impl AddRbd {
    /// The line, with the option that gives the key.
    pub(crate) fn line(&self, key: Option<String>) -> String {
        let name = format!("name={}", self.client.client_id);
        let options = std::iter::once(name).chain(key).chain(self.options.iter().cloned());
        format!("{} {} {}", self.monitors, options.collect::<Vec<_>>().join(","), self.image)
    }

    pub(super) fn run(&self) -> Result<(), Failure> {
        write_sysfs(&self.path, &self.line(self.client.option()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::kernel::Call;
    use crate::volume::Secret;

    fn add() -> AddRbd {
        AddRbd {
            path: "/sys/bus/rbd/add_single_major".into(),
            monitors: "10.77.0.1:6789".to_owned(),
            client: ClientKey {
                client_id: "docker".to_owned(),
                key: Some(Secret::new("AQVERYSECRET==")),
            },
            options: vec!["exclusive".to_owned(), "_pool_ns=docker".to_owned()],
            image: "rbd v1 -".to_owned(),
        }
    }

    #[test]
    fn the_line_has_monitors_options_and_image() {
        assert_eq!(
            add().line(Some("key=client.docker".to_owned())),
            "10.77.0.1:6789 name=docker,key=client.docker,exclusive,_pool_ns=docker rbd v1 -"
        );
        assert_eq!(
            AddRbd { options: Vec::new(), ..add() }.line(None),
            "10.77.0.1:6789 name=docker rbd v1 -"
        );
    }

    #[test]
    fn the_key_reaches_the_child_and_no_log() {
        let call = Call::AddRbd(add());
        assert!(!format!("{call:?} {call:#?}").contains("VERYSECRET"));
        let line = serde_json::to_string(&call).expect("JSON");
        let Call::AddRbd(read) = serde_json::from_str(&line).expect("a call") else {
            panic!("another call: {line}")
        };
        assert_eq!(read, add());
    }
}
