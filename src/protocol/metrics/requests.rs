//! How calls went: counted where they run.

use std::time::Instant;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

use crate::service::{ErrorKind, Result};

/// The calls of this daemon's life. Clones count together.
#[derive(Debug, Clone)]
pub(in crate::protocol) struct Requests {
    ended: IntCounterVec,
    took: HistogramVec,
    running: IntGauge,
    waiting: IntGauge,
}

impl Default for Requests {
    /// # Panics
    /// Never: the names are fixed, and good.
    fn default() -> Self {
        let ended = Opts::new("requests_total", "Calls that ended, by how.");
        // 2 ms to 131 s: past the longest time that the engine waits.
        let buckets = exponential_buckets(0.002, 2.0, 17).expect("a fixed range");
        let took = HistogramOpts::new("request_duration_seconds", "How long calls took.");
        let good = "a fixed name";
        Self {
            ended: IntCounterVec::new(ended, &["operation", "outcome"]).expect(good),
            took: HistogramVec::new(took.buckets(buckets), &["operation"]).expect(good),
            running: IntGauge::new("requests_running", "Calls that are at work.").expect(good),
            waiting: IntGauge::new(
                "requests_waiting",
                "Calls that wait for others to end before they begin.",
            )
            .expect(good),
        }
    }
}

impl Requests {
    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.ended.clone()))?;
        registry.register(Box::new(self.took.clone()))?;
        registry.register(Box::new(self.running.clone()))?;
        registry.register(Box::new(self.waiting.clone()))
    }

    /// A call that has come.
    pub(in crate::protocol) fn begin(&self, op: &'static str) -> Request {
        self.waiting.inc();
        Request { all: self.clone(), op, begun: Instant::now(), works: false, outcome: None }
    }
}

/// One call. Where it ends without a word, its caller has gone.
#[derive(Debug)]
pub(in crate::protocol) struct Request {
    all: Requests,
    op: &'static str,
    begun: Instant,
    works: bool,
    outcome: Option<&'static str>,
}

impl Request {
    /// It waits no more; said once.
    pub(in crate::protocol) fn work(&mut self) {
        self.works = true;
        self.all.waiting.dec();
        self.all.running.inc();
    }

    /// It is answered with that.
    pub(in crate::protocol) fn end<T>(mut self, result: Result<T>) -> Result<T> {
        self.outcome = Some(result.as_ref().map_or_else(|error| word(error.kind), |_| "ok"));
        result
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let operation = label(self.op);
        let outcome = self.outcome.unwrap_or("abandoned");
        self.all.ended.with_label_values(&[operation.as_str(), outcome]).inc();
        let took = self.begun.elapsed().as_secs_f64();
        self.all.took.with_label_values(&[operation.as_str()]).observe(took);
        if self.works { self.all.running.dec() } else { self.all.waiting.dec() }
    }
}

fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidArgument => "invalid_argument",
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::InUse => "in_use",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::NoSpace => "no_space",
        ErrorKind::Internal => "internal",
    }
}

/// What an error calls "remove snapshot of" is `remove_snapshot` here.
fn label(op: &str) -> String {
    op.trim_end_matches(" of").replace(" the ", " ").replace(' ', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::VolumeError;

    #[test]
    fn a_call_is_counted_by_its_end_and_one_without_a_word_was_abandoned() {
        let requests = Requests::default();
        let count = |outcome| requests.ended.with_label_values(&["mount", outcome]).get();
        requests.begin("mount").end(Ok(())).expect("ended well");
        let mut failing = requests.begin("mount");
        assert_eq!((requests.waiting.get(), requests.running.get()), (1, 0));
        failing.work();
        assert_eq!((requests.waiting.get(), requests.running.get()), (0, 1));
        let in_use = VolumeError::new("mount", "v", ErrorKind::InUse, "by another host");
        failing.end::<()>(Err(in_use)).expect_err("as it was");
        drop(requests.begin("mount"));
        assert_eq!([count("ok"), count("in_use"), count("abandoned")], [1, 1, 1]);
        assert_eq!(requests.took.with_label_values(&["mount"]).get_sample_count(), 3);
        assert_eq!((requests.waiting.get(), requests.running.get()), (0, 0));
    }

    #[test]
    fn an_operation_is_one_word() {
        for (op, expected) in [
            ("mount", "mount"),
            ("old files of", "old_files"),
            ("pause the schedule of", "pause_schedule"),
            ("catalog rebuild", "catalog_rebuild"),
        ] {
            assert_eq!(label(op), expected);
        }
    }
}
