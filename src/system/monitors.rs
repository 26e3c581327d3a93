//! How the kernel is told where the monitors are, and what cannot be said to it.
//!
//! Both of the kernel's clients of Ceph (krbd, CephFS) are told in one line, which the kernel splits
//! at blanks and commas, with no way to write either as itself. What it would split is refused.

use super::SystemErrorKind;
use crate::volume::{ClientAccess, Messenger};

type KindResult<T> = std::result::Result<T, SystemErrorKind>;

/// The option that says what is spoken with the monitors.
pub(crate) const MODE: &str = "ms_mode=";

/// The monitors' addresses for the protocol that the options ask for: v1, unless `ms_mode` says
/// something else. `setting` is where an operator would say it.
pub(crate) fn addresses(
    client: &ClientAccess,
    options: &[String],
    setting: &str,
) -> KindResult<String> {
    let mode = options.iter().rev().find_map(|option| option.strip_prefix(MODE));
    let messenger = match mode {
        None | Some("legacy") => Messenger::V1,
        Some(_) => Messenger::V2,
    };
    let fitting = client.monitors.iter().filter(|monitor| monitor.messenger == messenger);
    let addresses: Vec<_> = fitting.map(|monitor| monitor.address.as_str()).collect();
    if !addresses.is_empty() {
        return Ok(addresses.join(","));
    }
    let advice = match messenger {
        Messenger::V1 => format!("set {setting} to ms_mode=prefer-crc"),
        Messenger::V2 => {
            format!("leave ms_mode out of {setting}, or run ceph mon enable-msgr2")
        }
    };
    Err(SystemErrorKind::Refused(format!("no monitor has a {messenger} address; {advice}")))
}

/// Refuses a word that has a blank in it; `instead` is what to use for it.
pub(crate) fn check_word(what: &str, text: &str, instead: &str) -> KindResult<()> {
    check(what, text, &[' '], "a blank", instead)
}

/// Refuses an option, or a part of one, that has a blank or a comma in it.
pub(crate) fn check_option(what: &str, text: &str, instead: &str) -> KindResult<()> {
    check(what, text, &[' ', ','], "a blank or a comma", instead)
}

fn check(what: &str, text: &str, splits: &[char], which: &str, instead: &str) -> KindResult<()> {
    if !text.contains(|c: char| c.is_ascii_control() || splits.contains(&c)) {
        return Ok(());
    }
    Err(SystemErrorKind::Refused(format!(
        "the kernel cannot be told of the {what} {text:?}, which has {which} in it; {instead}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::MonitorAddress;

    #[test]
    fn monitors_without_the_address_are_named_with_the_way_out() {
        for (only, option, said) in [
            (Messenger::V2, "ms_mode=legacy", "no monitor has a v1 address; set map-options to"),
            (Messenger::V1, "ms_mode=crc", "no monitor has a v2 address; leave ms_mode out of map"),
        ] {
            let client = ClientAccess {
                monitors: vec![MonitorAddress { messenger: only, address: "[::1]:1".to_owned() }],
                client_id: "docker".to_owned(),
                key: None,
                default_map_options: Vec::new(),
            };
            let kind = addresses(&client, &[option.to_owned()], "map-options");
            let kind = kind.expect_err("no such address").to_string();
            assert!(kind.starts_with(said), "{kind}");
        }
    }
}
