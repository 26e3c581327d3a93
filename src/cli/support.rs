//! `support`: everything that somebody who is to help will ask for, in one text, without secrets.
//!
//! Works with no daemon and with no cluster, as [`super::doctor`] does, and changes nothing. A part that
//! cannot be had says why in its place. What looks like a key of Ceph, and what is set under a name that
//! says secret, is taken out of all of it, wherever it comes from ([`without_secrets`]).

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use jiff::Timestamp;

use super::outcome::{Failure, Outcome};
use super::{Tool, doctor, settings};
use crate::deadline::Deadline;
use crate::logging::VERSION;
use crate::system::command::{PROGRAM_FOLDERS, Programs};

/// How long a program may take.
const PROGRAM_LIMIT: Duration = Duration::from_secs(10);
/// How much of the log is told, in lines.
const LOG: &str = "1000";
/// What stands in the place of a secret.
const REMOVED: &str = "[removed]";
/// What a setting is called whose value is nobody's business.
const SECRET_NAMES: [&str; 4] = ["key", "secret", "password", "token"];

/// The programs whose output is told: what it is about, and the words.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("kernel", &["uname", "-srvm"]),
    ("ceph", &["ceph", "--version"]),
    ("engine", &["docker", "version"]),
    ("engine's plugins", &["docker", "plugin", "ls"]),
    ("engine's volumes", &["docker", "volume", "ls"]),
    ("service", &["systemctl", "--no-pager", "status", "docker-volume-ceph"]),
    ("log", &["journalctl", "--no-pager", "--unit=docker-volume-ceph", "--lines", LOG]),
    ("kernel's log", &["dmesg", "--ctime", "--level=emerg,alert,crit,err,warn"]),
];

/// The files that are told.
const FILES: &[&str] =
    &["/etc/os-release", "/etc/default/docker-volume-ceph", "/etc/ceph/ceph.conf"];

pub(super) fn run(matches: &ArgMatches, tool: &Tool) -> Result<Outcome, Failure> {
    let mut text = format!("docker-ceph {VERSION}, {}\n", Timestamp::now());
    let mut part = |title: &str, said: &str| {
        let said = without_secrets(said.trim_end());
        writeln!(text, "\n== {title}\n{said}").expect("a String takes all");
    };
    part("doctor", &doctor::run(matches, tool)?.text);
    part("daemon", &told(tool.ask(tool.client.version())));
    part("volumes", &told(tool.ask(tool.client.volumes())));
    part("schedules", &told(tool.ask(tool.client.schedules())));
    part("tasks", &told(tool.ask(tool.client.tasks())));
    part("trash", &told(tool.ask(tool.client.trash())));
    part("environment", &environment());
    part("mounts", &mounts());
    part("devices", &devices(Path::new("/sys/bus/rbd/devices")));
    for path in
        settings::file(matches).iter().map(PathBuf::as_path).chain(FILES.iter().map(Path::new))
    {
        part(&path.display().to_string(), &read(path));
    }
    let programs = Programs::new(PROGRAM_FOLDERS.iter().map(PathBuf::from).collect());
    for (title, words) in PROGRAMS {
        part(title, &printed(&programs, words));
    }
    Ok(Outcome::text(text))
}

fn told(answer: Result<impl serde::Serialize, Failure>) -> String {
    match answer {
        Ok(answer) => super::json(&answer),
        Err(failure) => format!("not to be had: {}", failure.message),
    }
}

fn environment() -> String {
    let ours = std::env::vars().filter(|(name, _)| name.starts_with("DOCKER_CEPH_"));
    let mut lines: Vec<String> = ours.map(|(name, value)| format!("{name}={value}")).collect();
    lines.sort();
    lines.join("\n")
}

/// What is mounted of Ceph, or by the driver.
fn mounts() -> String {
    let all = read(Path::new("/proc/self/mountinfo"));
    let of_ceph =
        |line: &&str| ["ceph", "/dev/rbd", "/dev/nbd"].iter().any(|word| line.contains(word));
    all.lines().filter(of_ceph).collect::<Vec<_>>().join("\n")
}

/// What the kernel has mapped: a line for each device.
fn devices(folder: &Path) -> String {
    let mut lines = Vec::new();
    for device in fs::read_dir(folder).into_iter().flatten().flatten() {
        let field = |name: &str| read(&device.path().join(name)).trim_end().to_owned();
        let fields = ["pool", "pool_ns", "name", "current_snap", "client_addr", "features"];
        let fields = fields.map(|name| format!("{name}={}", field(name)));
        lines.push(format!("rbd{}: {}", device.file_name().display(), fields.join(" ")));
    }
    lines.sort();
    lines.join("\n")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("not to be had: {error}"))
}

fn printed(programs: &Programs, words: &[&str]) -> String {
    let deadline = Deadline::after(PROGRAM_LIMIT);
    let output = programs
        .find(words[0])
        .and_then(|program| program.args(&words[1..]).run_to_any_end(&deadline));
    match output {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).into_owned()
        }
        Err(error) => format!("not to be had: {error}"),
    }
}

/// The text without what looks like a key of Ceph, and without the values of settings whose names say
/// that they are secret.
fn without_secrets(text: &str) -> String {
    text.lines().map(without_secret).collect::<Vec<_>>().join("\n")
}

fn without_secret(line: &str) -> String {
    let cut = line.split_once('=').or_else(|| line.split_once(':'));
    if let Some((name, _)) = cut {
        let name = name.trim_end_matches([' ', '"', '\t']).to_lowercase();
        let last = name.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if SECRET_NAMES.contains(&last) {
            let end = line.find(['=', ':']).expect("it was split there");
            return format!("{} {REMOVED}", &line[..=end]);
        }
    }
    let of_a_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(of_a_key) {
        let word = &rest[start..];
        let end = word.find(|c: char| !of_a_key(c)).unwrap_or(word.len());
        kept.push_str(&rest[..start]);
        kept.push_str(&without_key(&word[..end]));
        rest = &word[end..];
    }
    kept + rest
}

/// A cephx key is 28 bytes in base64, of which the first is 1: 40 characters, from `AQ` to `==`.
fn without_key(word: &str) -> String {
    const LENGTH: usize = 40;
    match word.find("AQ") {
        Some(start)
            if word.len() >= start + LENGTH && word[start..start + LENGTH].ends_with("==") =>
        {
            format!("{}{REMOVED}{}", &word[..start], &word[start + LENGTH..])
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQAAEF5fAAAAABAAbm90LWEtc2VjcmV0LWtleQ==";

    #[test]
    fn no_key_is_told_wherever_it_stands() {
        for line in [
            format!("\tkey = {KEY}"),
            format!("mount -o name=docker,secret={KEY} /mnt"),
            format!("  \"key\": \"{KEY}\","),
            format!("said {KEY}."),
            format!("--secret={KEY}"),
            "password = 'of mine'".to_owned(),
            "MY_TOKEN=of mine".to_owned(),
        ] {
            let told = without_secrets(&line);
            assert!(!told.contains("QAAEF5f") && !told.contains("of mine"), "{told}");
            assert!(told.contains(REMOVED), "{told}");
        }
    }

    #[test]
    fn what_is_no_secret_is_told_as_it_is() {
        for line in [
            "keyring = /etc/ceph/ceph.client.docker.keyring",
            "client_addr=10.77.0.11:0/448997492 AQ==",
            "2026-11-28T23:44:40Z  INFO request{id=4f2a91c3 op=\"create\"}: audit: created",
            "",
        ] {
            assert_eq!(without_secrets(line), line);
        }
    }
}
