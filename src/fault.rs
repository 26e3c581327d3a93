//! Faults on purpose: a cluster and a host that fail, or take the daemon down, at a chosen call.
//!
//! [`FaultPlan`] stands around every call to the cluster and to the host ([`crate::around`]), counts
//! them by name (`cluster.image_create`, `system.mount`) and overall, and says at which one something
//! goes wrong. It exists to prove the order of writes: whatever a verb had done when it was stopped,
//! the next call, or the next daemon, finishes or undoes it. Only in builds with the feature
//! `failpoints`; no release has it.
//!
//! A daemon takes its plan from the environment:
//!
//! * `DOCKER_CEPH_FAULT` holds the rules, separated by commas: `ACTION:CALL:N`, where `CALL` is a
//!   call's name or `*` for any, and `N` counts from 1 (`3+`: from the third on). `ACTION` is
//!   `fail-before`, `fail-after` (the call took effect and its answer was lost), `abort-before`,
//!   `abort-after`, or `halt-before` (the daemon stands still until it gets a SIGCONT). `:lasting`
//!   at the end makes a failure one that repeating does not cure.
//! * `DOCKER_CEPH_FAULT=@FILE` waits for `FILE`: once it is there, its rules are taken, it is
//!   removed, and counting starts anew. So a test arms a daemon that has long been running.
//! * `DOCKER_CEPH_FAULT_TRACE=FILE` appends the name of every call, one a line.
//! * `DOCKER_CEPH_CLOCK=FILE` puts the cluster's clock forward by as many seconds as stand in `FILE`,
//!   or back; the file may change at any time, and may be missing.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::around::{Around, behind};
use crate::ceph::{self, Cluster, ClusterError, ClusterErrorKind};
use crate::system::{self, System, SystemError, SystemErrorKind};

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call is not made, and fails.
    FailBefore(Flavour),
    /// The call is made, and its answer is lost: it fails.
    FailAfter(Flavour),
    /// The daemon dies before the call.
    AbortBefore,
    /// The daemon dies after the call, before it learns the answer.
    AbortAfter,
    /// The daemon stands still before the call, until somebody sends it a SIGCONT.
    HaltBefore,
}

/// How an injected failure looks to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flavour {
    /// As an outage: no answer in time. Repeating the call may help.
    #[default]
    Passing,
    /// As an I/O error: repeating the call is no use.
    Lasting,
}

/// At which call something goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// The call's name, such as `cluster.image_create`; `*` is any.
    pub call: String,
    /// The first call of that name that it befalls, counted from 1.
    pub nth: u64,
    /// It befalls every later one too.
    pub onwards: bool,
}

/// Rules that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "fault {0:?} cannot be read: write ACTION:CALL:N, ACTION being fail-before, fail-after, \
     abort-before, abort-after or halt-before, and N counting from 1, such as \
     abort-after:system.map:1"
)]
pub struct RuleError(String);

/// What a plan's `abort` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// The process ends at once, as at a SIGKILL.
    Process,
    /// The calling thread unwinds with [`Killed`], and nothing passes the plan any more.
    Unwind,
}

/// What a thread unwinds with where a plan made by [`FaultPlan::unwinding`] stops the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed;

/// When something goes wrong, and what has been called so far. Shared by all decorators of a
/// daemon, and by all threads.
#[derive(Debug)]
pub struct FaultPlan {
    ending: Ending,
    trace: Option<File>,
    armed_by: Option<PathBuf>,
    clock: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    /// What happens elsewhere just before a call, counted overall.
    meanwhile: Option<(u64, Box<dyn FnOnce() + Send>)>,
    counts: HashMap<&'static str, u64>,
    calls: Vec<&'static str>,
    dead: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rules, calls) = (&self.rules, &self.calls);
        f.debug_struct("State").field("rules", rules).field("calls", calls).finish_non_exhaustive()
    }
}

impl FaultPlan {
    /// A plan with these rules, whose aborts end the process.
    #[must_use]
    pub fn aborting(rules: Vec<Rule>) -> Self {
        Self::new(Ending::Process, rules)
    }

    /// A plan without rules yet, whose aborts unwind the calling thread with [`Killed`] instead of
    /// ending the process. From then on every call through the plan unwinds as well, or fails
    /// without effect in a thread that is unwinding already: a dead daemon does nothing more.
    #[must_use]
    pub fn unwinding() -> Self {
        Self::new(Ending::Unwind, Vec::new())
    }

    /// A plan with the rules of `DOCKER_CEPH_FAULT`'s text. Empty text is no rule.
    ///
    /// # Errors
    /// Where a rule cannot be read.
    pub fn from_env_text(text: &str) -> Result<Self, RuleError> {
        if let Some(file) = text.strip_prefix('@') {
            let plan = Self::aborting(Vec::new());
            return Ok(Self { armed_by: Some(PathBuf::from(file)), ..plan });
        }
        Ok(Self::aborting(parse_rules(text)?))
    }

    fn new(ending: Ending, rules: Vec<Rule>) -> Self {
        let state = Mutex::new(State { rules, ..State::default() });
        Self { ending, trace: None, armed_by: None, clock: None, state }
    }

    /// Takes these rules in place of the present ones, and counts anew.
    pub fn arm(&self, rules: Vec<Rule>) {
        let mut state = self.state();
        let dead = state.dead;
        *state = State { rules, dead, ..State::default() };
    }

    /// Does something just before the `nth` call from now, whatever its name: what another host
    /// does while this one is between two of its steps.
    pub fn meanwhile(&self, nth: u64, what: impl FnOnce() + Send + 'static) {
        self.arm(Vec::new());
        self.state().meanwhile = Some((nth, Box::new(what)));
    }

    /// The calls since the last [`FaultPlan::arm`], in order.
    #[must_use]
    pub fn calls(&self) -> Vec<&'static str> {
        self.state().calls.clone()
    }

    /// Has an abort of this plan come to pass?
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Makes a call that can fail, with whatever the plan has for it.
    fn around<T, E: Injected>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        match self.next(call) {
            None => run(),
            Some(Fault::FailBefore(flavour)) => Err(E::injected(call, flavour)),
            Some(Fault::FailAfter(flavour)) => run().and(Err(E::injected(call, flavour))),
            Some(Fault::AbortBefore) => {
                self.abort(call);
                Err(E::injected(call, Flavour::Lasting))
            }
            Some(Fault::AbortAfter) => {
                let answer = run();
                self.abort(call);
                answer
            }
            Some(Fault::HaltBefore) => {
                halt(call);
                run()
            }
        }
    }

    /// Counts the call and says what is to become of it.
    fn next(&self, call: &'static str) -> Option<Fault> {
        self.take_rules_from_file();
        if let Some(mut trace) = self.trace.as_ref() {
            // One write of one line: threads and daemons do not mix theirs.
            let written = trace.write_all(format!("{call}\n").as_bytes());
            written.expect("the trace can be written");
        }
        let mut state = self.state();
        if state.dead {
            return Some(Fault::AbortBefore);
        }
        state.calls.push(call);
        let count = state.counts.entry(call).or_default();
        *count += 1;
        let of_this_name = *count;
        let overall = state.calls.len() as u64;
        if let Some((_, what)) = state.meanwhile.take_if(|(nth, _)| *nth == overall) {
            drop(state);
            what();
            state = self.state();
        }
        let met = |rule: &&Rule| {
            let count = if rule.call == "*" { overall } else { of_this_name };
            let named = rule.call == "*" || rule.call == call;
            named && (count == rule.nth || rule.onwards && count > rule.nth)
        };
        state.rules.iter().find(met).map(|rule| rule.fault)
    }

    fn take_rules_from_file(&self) {
        let Some(file) = &self.armed_by else { return };
        let Ok(text) = std::fs::read_to_string(file) else { return };
        if std::fs::remove_file(file).is_ok() {
            self.arm(parse_rules(&text).unwrap_or_else(|error| panic!("{error}")));
        }
    }

    /// Ends the daemon. Returns only in a thread that is unwinding: a panic there would end the
    /// whole test run.
    fn abort(&self, call: &'static str) {
        if self.ending == Ending::Process {
            eprintln!("stopped dead at {call}, as DOCKER_CEPH_FAULT says");
            std::process::abort();
        }
        self.state().dead = true;
        if !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Around for FaultPlan {
    fn cluster<T>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> ceph::Result<T>,
    ) -> ceph::Result<T> {
        self.around(call, run)
    }

    fn system<T>(
        &self,
        call: &'static str,
        run: impl FnOnce() -> system::Result<T>,
    ) -> system::Result<T> {
        self.around(call, run)
    }

    /// Failures planned for it pass it by.
    fn infallible<T>(&self, call: &'static str, run: impl FnOnce() -> T) -> T {
        let fault = self.next(call);
        match fault {
            Some(Fault::AbortBefore) => self.abort(call),
            Some(Fault::HaltBefore) => halt(call),
            _ => {}
        }
        let answer = run();
        if fault == Some(Fault::AbortAfter) {
            self.abort(call);
        }
        answer
    }

    /// The time that the cluster's clock would show if it were put forward or back as planned.
    ///
    /// # Panics
    /// Where that cannot be read: a test whose clock does not jump must not pass.
    fn time(&self, time: Timestamp) -> Timestamp {
        let text = self.clock.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let seconds = text.map_or(0, |text| text.trim().parse().expect("a number of seconds"));
        time.checked_add(SignedDuration::from_secs(seconds)).expect("a time in the calendar")
    }
}

/// Stops all of this process. It is the tracer's way: whoever has armed the plan sees the state of
/// the process (`T`), and lets it go on.
fn halt(call: &'static str) {
    eprintln!("standing still before {call}, as DOCKER_CEPH_FAULT says");
    let stopped = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGSTOP);
    stopped.expect("a process may stop itself");
}

/// Puts the environment's faults between the daemon and both of its outside worlds.
///
/// # Panics
/// Where the environment's rules cannot be read or its trace cannot be opened: a test that injects
/// nothing must not pass.
#[must_use]
pub fn wrap(
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
) -> (Arc<dyn Cluster>, Arc<dyn System>) {
    let rules = std::env::var("DOCKER_CEPH_FAULT").unwrap_or_default();
    let mut plan = FaultPlan::from_env_text(&rules).unwrap_or_else(|error| panic!("{error}"));
    plan.trace = std::env::var_os("DOCKER_CEPH_FAULT_TRACE").map(|file| {
        let opened = OpenOptions::new().create(true).append(true).open(&file);
        opened.unwrap_or_else(|error| panic!("trace {}: {error}", file.display()))
    });
    plan.clock = std::env::var_os("DOCKER_CEPH_CLOCK").map(PathBuf::from);
    wrap_with(&Arc::new(plan), cluster, system)
}

/// Puts the plan's faults between the daemon and both of its outside worlds.
#[must_use]
pub fn wrap_with(
    plan: &Arc<FaultPlan>,
    cluster: Arc<dyn Cluster>,
    system: Arc<dyn System>,
) -> (Arc<dyn Cluster>, Arc<dyn System>) {
    behind(plan, cluster, system)
}

/// An error that a plan can make up.
trait Injected {
    /// The error of `call`.
    fn injected(call: &'static str, flavour: Flavour) -> Self;
}

impl Injected for ClusterError {
    fn injected(call: &'static str, flavour: Flavour) -> Self {
        let (kind, errno) = match flavour {
            Flavour::Passing => (ClusterErrorKind::Unreachable, libc::ETIMEDOUT),
            Flavour::Lasting => (ClusterErrorKind::Other, libc::EIO),
        };
        Self { kind, call, subject: String::new(), errno, message: "injected".to_owned() }
    }
}

impl Injected for SystemError {
    fn injected(call: &'static str, flavour: Flavour) -> Self {
        let kind = match flavour {
            Flavour::Passing => SystemErrorKind::Timeout { after: std::time::Duration::ZERO },
            Flavour::Lasting => SystemErrorKind::Command {
                program: "injected".to_owned(),
                status: "exit status: 1".to_owned(),
                output: "Input/output error".to_owned(),
            },
        };
        kind.during(call)
    }
}

fn parse_rules(text: &str) -> Result<Vec<Rule>, RuleError> {
    text.split(',').map(str::trim).filter(|rule| !rule.is_empty()).map(str::parse).collect()
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let refused = || RuleError(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let (action, call, nth, flavour) = match parts[..] {
            [action, call, nth] => (action, call, nth, Flavour::Passing),
            [action, call, nth, "lasting"] => (action, call, nth, Flavour::Lasting),
            _ => return Err(refused()),
        };
        let fault = match action {
            "fail-before" => Fault::FailBefore(flavour),
            "fail-after" => Fault::FailAfter(flavour),
            "abort-before" => Fault::AbortBefore,
            "abort-after" => Fault::AbortAfter,
            "halt-before" => Fault::HaltBefore,
            _ => return Err(refused()),
        };
        let (nth, onwards) = match nth.strip_suffix('+') {
            Some(first) => (first, true),
            None => (nth, false),
        };
        let nth = nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(refused)?;
        let known = call == "*" || call.starts_with("cluster.") || call.starts_with("system.");
        if !known {
            return Err(refused());
        }
        Ok(Self { fault, call: call.to_owned(), nth, onwards })
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own file")]
mod tests {
    use super::*;

    fn ask(plan: &FaultPlan, call: &'static str) -> (bool, bool) {
        let mut made = false;
        let answer = plan.around(call, || {
            made = true;
            Ok::<_, ClusterError>(())
        });
        (made, answer.is_ok())
    }

    #[test]
    fn rules_are_read() {
        let rules = parse_rules(
            "abort-after:cluster.image_create:1, fail-before:*:2+:lasting, halt-before:*:1",
        );
        let expected = [
            Rule {
                fault: Fault::AbortAfter,
                call: "cluster.image_create".to_owned(),
                nth: 1,
                onwards: false,
            },
            Rule {
                fault: Fault::FailBefore(Flavour::Lasting),
                call: "*".to_owned(),
                nth: 2,
                onwards: true,
            },
            Rule { fault: Fault::HaltBefore, call: "*".to_owned(), nth: 1, onwards: false },
        ];
        assert_eq!(rules.as_deref(), Ok(&expected[..]));
        assert_eq!(parse_rules(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_rule_is_refused_by_name() {
        for text in [
            "fail:system.map:1",
            "fail-after:system.map",
            "fail-after:system.map:0",
            "fail-after:map:1",
            "fail-after:system.map:x",
            "fail-after:system.map:1:often",
        ] {
            let error = FaultPlan::from_env_text(text).expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn the_chosen_call_fails_before_or_after_it_took_effect() {
        let text = "fail-before:cluster.image_info:2,fail-after:cluster.image_list:1";
        let plan = FaultPlan::from_env_text(text).expect("two rules");
        assert_eq!(ask(&plan, "cluster.image_info"), (true, true));
        assert_eq!(ask(&plan, "cluster.image_list"), (true, false));
        assert_eq!(ask(&plan, "cluster.image_info"), (false, false));
        assert_eq!(ask(&plan, "cluster.image_info"), (true, true));
        assert_eq!(plan.calls().len(), 4);
    }

    #[test]
    fn nothing_passes_a_plan_that_has_stopped_its_daemon() {
        let plan = FaultPlan::unwinding();
        plan.arm(parse_rules("abort-after:*:1").expect("a rule"));
        let killed = std::panic::catch_unwind(|| ask(&plan, "cluster.status"));
        assert!(killed.expect_err("it unwinds").downcast_ref::<Killed>().is_some());
        let again = std::panic::catch_unwind(|| ask(&plan, "cluster.pools"));
        assert!(again.is_err() && plan.is_dead());
        assert_eq!(plan.calls(), ["cluster.status"]);
    }

    #[test]
    fn a_file_arms_a_plan_that_is_in_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("rules");
        let text = format!("@{}", file.display());
        let plan = FaultPlan::from_env_text(&text).expect("a file to wait for");
        assert_eq!(ask(&plan, "cluster.status"), (true, true));
        std::fs::write(&file, "fail-before:cluster.status:1").expect("the rules are written");
        assert_eq!(ask(&plan, "cluster.status"), (false, false));
        assert_eq!(ask(&plan, "cluster.status"), (true, true));
        assert!(!file.exists());
    }
}
