//! `doctor`: what stands between this host and its volumes, and what to do about it.
//!
//! Works with no daemon, since that is when it is needed. Each part *gathers* facts (short, does
//! the I/O) and *checks* them (pure, tested on tables of facts). It looks, and changes nothing; a
//! key is never read further than to see that it is there. When a daemon answers, what it sees
//! from inside is added.

mod clock;
mod cluster;
mod files;
mod host;
mod leftovers;
mod socket;

use std::fmt::Write as _;
use std::sync::mpsc;
use std::time::Duration;

use clap::ArgMatches;

use super::outcome::{Exit, Failure, Outcome};
use super::{Tool, settings};
use crate::ceph::RadosCluster;
use crate::config::Settings;
use crate::protocol::admin::Findings;
use crate::service::{Finding, Verdict};
use crate::system::{LinuxSettings, LinuxSystem, Mappers};
use crate::volume::MapperKind;

/// How long the whole look at the cluster may take: a person waits.
const CLUSTER_LIMIT: Duration = Duration::from_secs(40);

/// The time for each question to the cluster.
const QUESTION_LIMIT: Duration = Duration::from_secs(8);

pub(super) fn run(matches: &ArgMatches, tool: &Tool) -> Result<Outcome, Failure> {
    let mut findings = match settings::load_words(matches) {
        // The files have checks of their own.
        Ok(settings) => {
            let mut findings = vec![ok("settings", "all are valid")];
            findings.extend(examine(&settings));
            findings
        }
        Err(failure) => {
            let advice = "correct them and ask again: the other checks depend on them";
            vec![failed("settings", failure.message, advice)]
        }
    };
    // That no daemon answers is a finding of the socket's check already.
    let daemon = tool.client.clone().with_limit(CLUSTER_LIMIT);
    findings.extend(tool.ask(daemon.doctor()).unwrap_or_default());
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Failed);
    let outcome = tool.show(&Findings { findings }, |Findings { findings }| report(findings));
    Ok(Outcome { verdict: broken.then_some(Exit::Failed), ..outcome })
}

fn examine(settings: &Settings) -> Vec<Finding> {
    let system = match look_at(settings) {
        Ok(system) => system,
        Err(error) => return vec![failed("host", error.to_string(), "mount /proc")],
    };
    let mut findings = host::check(&host::Facts::gather(&system), settings.mapper);
    let conf = files::ConfFacts::gather(&settings.ceph);
    let keyring = files::KeyringFacts::gather(&settings.ceph, &conf);
    findings.extend(files::check_conf(&conf));
    findings.push(files::check_keyring(&keyring, &settings.ceph.client_id));
    findings.push(clock::check(&clock::Facts::gather()));
    // Where nothing else is said it is krbd, if the host can.
    let mapper = settings.mapper.unwrap_or(MapperKind::Krbd);
    findings.extend(ask_cluster(settings, system.carried_features(mapper)));
    let socket = socket::State::gather(&settings.socket);
    findings.push(socket::check(&socket, &settings.socket));
    findings.extend(leftovers::check(
        &leftovers::Facts::gather(&system, &settings.folders),
        socket.lives(),
    ));
    findings
}

fn look_at(settings: &Settings) -> crate::system::Result<LinuxSystem> {
    let (ceph, state) = (&settings.ceph, &settings.folders.state);
    LinuxSystem::to_look_at(LinuxSettings::new(state, &ceph.conf, &ceph.client_id))
}

/// Asks the cluster on a thread of its own: whatever librados does, the doctor comes to an end.
fn ask_cluster(settings: &Settings, carried: Option<Vec<String>>) -> Vec<Finding> {
    let (tell, hear) = mpsc::channel();
    let asked = settings.clone();
    std::thread::spawn(move || {
        let cluster = RadosCluster::new(settings::access(&asked.ceph, Some(QUESTION_LIMIT)));
        // Nobody hears it where the limit has passed.
        let _ = tell.send(cluster::examine(&cluster, &asked, carried.as_deref()));
    });
    hear.recv_timeout(CLUSTER_LIMIT).unwrap_or_else(|_| {
        let detail = format!("no end of the questions after {CLUSTER_LIMIT:?}");
        vec![failed("cluster", detail, "see ceph -s, and the network to the monitors and OSDs")]
    })
}

fn report(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, verdict, detail, advice } in findings {
        let mark = match verdict {
            Verdict::Ok => '✓',
            Verdict::Warning => '!',
            Verdict::Failed => '✗',
        };
        writeln!(text, "{mark} {check}: {}", indented(detail)).expect("a String takes all");
        if let Some(advice) = advice {
            writeln!(text, "    → {}", indented(advice)).expect("a String takes all");
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (broken, odd) = (count(Verdict::Failed), count(Verdict::Warning));
    let _ = match (broken, odd) {
        (0, 0) => writeln!(text, "\nAll is well."),
        _ => writeln!(text, "\n{broken} broken, {odd} to be looked at."),
    };
    text
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

fn ok(check: &str, detail: impl Into<String>) -> Finding {
    finding(check, Verdict::Ok, detail.into(), None)
}

fn warning(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
    finding(check, Verdict::Warning, detail.into(), Some(advice.into()))
}

fn failed(check: &str, detail: impl Into<String>, advice: impl Into<String>) -> Finding {
    finding(check, Verdict::Failed, detail.into(), Some(advice.into()))
}

fn finding(check: &str, verdict: Verdict, detail: String, advice: Option<String>) -> Finding {
    Finding { check: check.to_owned(), verdict, detail, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_to_do_and_counts() {
        let findings = [
            ok("clock", "synchronised"),
            warning("keyring", "everyone may read it", "chmod 600 /k"),
            failed("socket", "nothing listens", "start it"),
        ];
        let text = "✓ clock: synchronised\n\
                    ! keyring: everyone may read it\n    → chmod 600 /k\n\
                    ✗ socket: nothing listens\n    → start it\n\n\
                    1 broken, 1 to be looked at.\n";
        assert_eq!(report(&findings), text);
        assert!(report(&findings[..1]).ends_with("\n\nAll is well.\n"));
    }
}
