//! Progress of work on images or candidates: a bar on a terminal, a line now and then
//! elsewhere.

use std::time::{Duration, Instant};

use crate::progress::{self, human_duration};

/// Time between two lines where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of one piece of work of known size.
pub struct Progress {
    what: &'static str,
    total: usize,
    done: usize,
    last_line: Instant,
    steps: progress::Progress,
}

impl Progress {
    /// Begins work of `total` units, `done` of which were done before this process began.
    /// `what` names the units: `candidates`.
    pub fn new(what: &'static str, total: usize, done: usize) -> Self {
        let quiet = !tracing::enabled!(tracing::Level::INFO);
        let steps = progress::Progress::new(done as u64, total as u64, quiet);
        Self { what, total, done, last_line: Instant::now(), steps }
    }

    /// `units` more are done; `note` says something about the latest.
    pub fn advance(&mut self, units: usize, note: impl FnOnce() -> String) {
        self.done += units;
        let line_due = self.last_line.elapsed() >= LINE_EVERY && self.done < self.total;
        if !self.steps.is_bar() && !line_due {
            return;
        }
        let left = self.steps.eta_s(self.done as u64).map_or(String::new(), human_duration);
        if self.steps.is_bar() {
            self.steps.set(self.done as u64, format!("{}, {left} left  {}", self.what, note()));
        } else {
            self.last_line = Instant::now();
            tracing::info!(
                "{} of {} {}, {left} left  {}",
                self.done,
                self.total,
                self.what,
                note()
            );
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.steps.finish();
    }
}
