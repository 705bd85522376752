//! What a run does with its nets between two steps: probes and tests, outside of the time that training
//! takes.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::folder::Folder;
use super::interim::{Found, Test};
use super::objective::Objective;
use super::probe::{Probe, Progressed};
use crate::config::Config;
use crate::cx::Cx;
use crate::error::{Kind, Result};
use crate::progress::Progress;

/// Probes and tests of a run.
pub(super) struct Between<'a> {
    probe: Option<Probe>,
    test: Option<&'a Test<'a>>,
    /// What the test before the next step found.
    found: Option<Found>,
    spent: Duration,
}

/// Where lines go.
pub(super) struct Said<'a> {
    pub folder: &'a mut Folder,
    pub progress: &'a mut Progress,
}

/// The same, or none where a signal has broken it off: the run notices by itself, and keeps what it has.
fn unless_stopped<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Err(e) if matches!(e.kind(), Kind::Stopped | Kind::Interrupted) => Ok(None),
        found => found.map(Some),
    }
}

impl<'a> Between<'a> {
    pub(super) fn new(probe: Option<Probe>, test: Option<&'a Test<'a>>) -> Self {
        Self { probe, test, found: None, spent: Duration::ZERO }
    }

    /// How long all of it took in this process.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// What the last probe found.
    pub(super) fn last_probe(&self) -> Option<Value> {
        self.probe.as_ref().and_then(Probe::last)
    }

    /// The numbers of a test since the last step.
    pub(super) fn take_found(&mut self) -> Option<Map<String, Value>> {
        self.found.take().map(|found| found.numbers)
    }

    /// Probes the nets where that is due.
    pub(super) fn probe(
        &mut self,
        cx: &Cx,
        objective: &dyn Objective,
        now: &Progressed,
        said: Said,
    ) -> Result<()> {
        let Some(probe) = &mut self.probe else { return Ok(()) };
        let began = Instant::now();
        match unless_stopped(probe.if_due(cx, objective, now))?.flatten() {
            Some(line) => self.say(&line, began, said),
            None => Ok(()),
        }
    }

    /// Tests the net where that is due. False where a signal has broken the test off: it is made when
    /// the run goes on.
    pub(super) fn test(
        &mut self,
        cx: &Cx,
        objective: &dyn Objective,
        config: &Config,
        step: u64,
        said: Said,
    ) -> Result<bool> {
        let every = config.finetune.eval_every as u64;
        let is_due = step > 0 && every > 0 && step.is_multiple_of(every);
        let Some(test) = self.test.filter(|_| is_due) else { return Ok(true) };
        let began = Instant::now();
        let found = said.progress.aside(|| test(cx, objective, config, step));
        let Some(found) = unless_stopped(found)? else { return Ok(false) };
        self.say(&found.line, began, said)?;
        self.found = Some(found);
        Ok(true)
    }

    /// Logs a line, and leaves the time since `began` out of training's.
    fn say(&mut self, line: &str, began: Instant, said: Said) -> Result<()> {
        let Said { folder, progress } = said;
        progress.aside(|| folder.log(line))?;
        progress.leave_out(began.elapsed());
        self.spent += began.elapsed();
        Ok(())
    }
}
