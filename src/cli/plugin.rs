//! The program as a Docker CLI plugin.
//!
//! Docker finds an executable called `docker-ceph` in its `cli-plugins` folder, asks it for
//! [`metadata`], and runs `docker ceph ls` as `docker-ceph ceph ls`: with the plugin's name as the
//! first word, and before it whatever global flags `docker` itself was given.

use std::ffi::OsString;

/// The word by which Docker asks a plugin who it is.
pub(super) const METADATA_COMMAND: &str = "docker-cli-plugin-metadata";

/// The plugin's name: the word after `docker`.
const NAME: &str = "ceph";

/// Docker's global flags that take a value, which may be the next word.
const FLAGS_WITH_VALUE: [&str; 10] = [
    "--config",
    "--context",
    "-c",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];

/// Docker's global flags without one.
const FLAGS: [&str; 4] = ["--debug", "-D", "--tls", "--tlsverify"];

/// What Docker wants to know of a plugin, as JSON.
#[must_use]
pub(super) fn metadata() -> String {
    let metadata = serde_json::json!({
        "SchemaVersion": "0.1.0",
        "Vendor": "docker-volume-ceph",
        "Version": crate::logging::VERSION,
        "ShortDescription": "Volumes in Ceph",
    });
    format!("{metadata:#}\n")
}

/// The words as they are without Docker, and whether Docker called.
///
/// Docker's own flags are dropped: which engine or context `docker` talks to says nothing about
/// the daemon, which is always this host's.
#[must_use]
pub(super) fn without_docker(words: Vec<OsString>) -> (Vec<OsString>, bool) {
    if let [program, help, name, rest @ ..] = &words[..] {
        // `docker help ceph ls` is handed on as it is.
        if help == "help" && name == NAME {
            let asked = [program].into_iter().chain(rest).cloned().chain(["--help".into()]);
            return (asked.collect(), true);
        }
    }
    let mut rest = words.iter().enumerate().skip(1);
    while let Some((at, word)) = rest.next() {
        let Some(word) = word.to_str() else { break };
        if word == NAME {
            let program = words.first().cloned();
            return (program.into_iter().chain(words[at + 1..].iter().cloned()).collect(), true);
        }
        let flag = word.split_once('=').map_or(word, |(flag, _)| flag);
        if FLAGS_WITH_VALUE.contains(&word) {
            rest.next();
        } else if !FLAGS.contains(&flag) && !FLAGS_WITH_VALUE.contains(&flag) {
            break;
        }
    }
    (words, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(line: &str) -> (String, bool) {
        let words = line.split(' ').map(OsString::from).collect();
        let (words, by_docker) = without_docker(words);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        (words.join(" "), by_docker)
    }

    #[test]
    fn docker_s_words_are_dropped() {
        for line in [
            "docker-ceph ceph ls --json",
            "docker-ceph --debug ceph ls --json",
            "docker-ceph --context far -l debug --host=tcp://x ceph ls --json",
            "docker-ceph --config ceph ceph ls --json",
        ] {
            assert_eq!(stripped(line), ("docker-ceph ls --json".to_owned(), true), "{line}");
        }
    }

    #[test]
    fn docker_s_way_to_ask_for_help_is_ours() {
        let help = ("docker-ceph ls --help".to_owned(), true);
        assert_eq!(stripped("docker-ceph help ceph ls"), help);
        assert_eq!(stripped("docker-ceph ceph ls --help"), help);
        assert!(!stripped("docker-ceph help ls").1);
    }

    #[test]
    fn without_docker_nothing_is_dropped() {
        for line in ["docker-ceph ls", "docker-ceph --json inspect ceph", "docker-ceph"] {
            assert_eq!(stripped(line), (line.to_owned(), false));
        }
    }
}
