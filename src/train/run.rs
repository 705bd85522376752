//! A whole training run: from a configuration and images to checkpoints, resumable at any step,
//! whatever the [`Objective`] is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::advice::advice;
use super::batches::Feed;
use super::between::{Between, Said};
use super::checkpoint::{self, State};
use super::diverged::expect_sound;
use super::dump::Dump;
use super::folder::{Folder, RUN, Status, StepFacts};
use super::guard;
use super::health::Change;
use super::interim;
use super::job::{Course, Job};
use super::monitors::Monitors;
use super::objective::{At, Embeddings, Make, Objective, Report, Saved, Setup};
use super::options::{Options, Outcome};
use super::plan::{Planner, rehearsal};
use super::probe::{Probe, Progressed};
use super::resume::{existing, find_checkpoint, may_change};
use super::signs::Signs;
use super::source::Source;
use super::start::{begin, initial_state, log_header, warm_up};
use crate::config::{CkptEvery, Config, Precision};
use crate::cx::Cx;
use crate::data::Dataset;
use crate::error::{Error, Kind, Result};
use crate::files::owned::Owned;
use crate::progress::{Progress, human_bytes, human_duration, human_rate};
use crate::signals::Signals;
use crate::ssl::{Begin, Outlook};

/// Least time between two writes of `status.json`.
const STATUS_EVERY: Duration = Duration::from_secs(2);

/// Pretrains by the method that the settings name. On a signal or at the time limit, checkpoints
/// at the next step boundary and says so in the outcome.
pub fn run(cx: &Cx, options: &Options, signals: &Signals) -> Result<Outcome> {
    run_job(cx, options, &Job::pretraining(), signals)
}

/// The same with any objective.
pub fn run_objective(
    cx: &Cx,
    options: &Options,
    make: &Make,
    signals: &Signals,
) -> Result<Outcome> {
    run_job(cx, options, &Job::of_space(make), signals)
}

/// The same with any job.
pub fn run_job(cx: &Cx, options: &Options, job: &Job, signals: &Signals) -> Result<Outcome> {
    let mut run = Run::start(cx, options, job)?;
    let outcome = run.steps(signals).map_err(|e| match e.kind() {
        Kind::Diverged => e.and(&run.way_back()),
        _ => e,
    });
    let state = match &outcome {
        Ok(o) if o.stopped.is_none() && run.state.step == run.state.steps => "done",
        Ok(_) => "stopped",
        Err(e) if e.kind() == Kind::Diverged => "diverged",
        Err(_) => "failed",
    };
    run.progress.finish();
    let written = run.write_status(state);
    if let Err(e) = &outcome {
        // The run's own error is the one to report, even where it cannot be noted.
        let _ = run.folder.log_to_file(&format!("error: {e}"));
        return outcome;
    }
    written?;
    outcome
}

/// Exit 2 where a step that is wanted will not come.
fn expect_steps_before(end: u64, wanted: &[u64]) -> Result<()> {
    match wanted.iter().find(|step| **step >= end) {
        Some(step) => Err(Error::usage(format!(
            "--dump-steps {step}: expected steps below {end}, where this run ends"
        ))),
        None => Ok(()),
    }
}

/// ` + teacher 5 + students 31 + optimizer 1`: parts of one name together.
fn parts_in_words(parts: &[(&'static str, f64)]) -> String {
    let mut sums: Vec<(&str, f64)> = Vec::new();
    for (name, ms) in parts {
        match sums.last_mut() {
            Some((last, sum)) if last == name => *sum += ms,
            _ => sums.push((name, *ms)),
        }
    }
    sums.iter().map(|(name, ms)| format!(" + {name} {ms:.0}")).collect()
}

struct Run<'a> {
    cx: &'a Cx,
    options: Options,
    course: Course,
    objective: Box<dyn Objective>,
    /// What its loss says.
    even: Outlook,
    batches: Box<dyn Feed>,
    folder: Folder,
    monitors: Monitors,
    progress: Progress,
    state: State,
    /// Steps after which this process stops.
    end: u64,
    steps_per_epoch: u64,
    last_checkpoint: Option<PathBuf>,
    /// Images a second of the last step of this process.
    images_per_s: Option<f64>,
    between: Between<'a>,
    signs: Signs,
    /// Images that could not be read, in this process.
    replaced: usize,
    /// Seconds of training before this process.
    earlier_s: f64,
    started: Instant,
    status_written: Instant,
    checkpoint_written: Instant,
}

impl<'a> Run<'a> {
    fn start(cx: &'a Cx, options: &Options, job: &Job<'a>) -> Result<Self> {
        let owned = match &options.claimed {
            Some(owned) => owned.clone(),
            None => Arc::new(Owned::claim(&options.out, &RUN, existing(options))?),
        };
        let from = find_checkpoint(options, &owned)?;
        let source = match job.tuning {
            Some(tuning) => tuning.source.clone(),
            None => Source::Images(Arc::new(Dataset::open(&options.data)?)),
        };
        let adapts_to = match (&source, job.tuning) {
            (Source::Images(dataset), None) => Some(dataset),
            _ => None,
        };
        let (options, followed) = options.follow(adapts_to, from.as_ref())?;
        let (options, config) = (&options, options.config());
        let space = match job.tuning {
            Some(tuning) => tuning.space.clone(),
            None => config.space()?,
        };
        let probe = Probe::open(options, &source, &space)?;
        let classes = source.classes();
        let rehearse = |cx: &Cx, config: &Config| {
            rehearsal(cx, &Setup { config, space: &space, classes, begin: Begin::Blank }, job.make)
        };
        let planner = Planner { cx, config, rehearse: &rehearse };
        planner.check()?;
        let setup = Setup { config, space: &space, classes, begin: Begin::Seeded };
        let mut objective = (job.make)(cx, &setup)?;
        let objective_mut = objective.as_mut();
        let first = from.as_ref().map_or(0, |c| c.state.step);
        let mut batches = source.feed(cx, objective_mut, config, first)?;
        let steps_per_epoch = batches.steps_per_epoch() as u64;
        let mut state = initial_state(config, job, source.images() as u64, steps_per_epoch);
        state.data = Some(source.digest()?);
        let (state, notices) =
            begin(cx, options, job, objective_mut, from.as_ref(), state, steps_per_epoch)?;
        let end = options.max_steps.map_or(state.steps, |m| m.min(state.steps));
        expect_steps_before(end, &options.dump_steps)?;
        if state.step < end {
            // Shows how large decoded images are.
            batches.prefetch(cx);
        }
        let planned_bytes = planner.reserve(batches.room_bytes())?;
        if from.is_none() {
            warm_up(cx, objective_mut, &source, config)?;
        }
        owned.clear()?;
        // First the checkpoints of later steps go, then their lines: a process that is killed in
        // between leaves a run that can go on.
        let gone = checkpoint::forget_after(&options.out.join("checkpoints"), state.step)?;
        interim::forget_after(&options.out, state.step)?;
        let (mut folder, warnings) = Folder::open(owned, state.step)?;
        folder.write_origin(cx, &options.settings.to_toml(), &options.command)?;
        log_header(&mut folder, options, objective.as_ref(), &state, &source, from.as_ref())?;
        followed.iter().chain(&notices).chain(&warnings).try_for_each(|line| folder.log(line))?;
        if !gone.is_empty() {
            folder.log(&format!("removed, as the run goes on from before: {}", gone.join(", ")))?;
        }
        folder.log(&format!(
            "memory: {} taken on {}, enough for the largest net in {}",
            human_bytes(planned_bytes),
            cx.name(),
            Precision::of(cx.compute_dtype()),
        ))?;
        let now = Instant::now();
        let mut run = Self {
            cx,
            options: options.clone(),
            course: job.course,
            even: objective.outlook(source.images()),
            objective,
            batches,
            monitors: Monitors::begin(&config.log, folder.root(), state.step),
            folder,
            progress: Progress::new(state.step, end, options.quiet),
            end,
            steps_per_epoch,
            last_checkpoint: from.map(|c| c.dir),
            images_per_s: None,
            between: Between::new(probe, job.test),
            signs: Signs::default(),
            replaced: 0,
            earlier_s: state.time_s,
            state,
            started: now,
            status_written: now,
            checkpoint_written: now,
        };
        if run.state.step == 0 {
            source.write_examples(run.folder.root(), run.objective.as_ref(), config)?;
            run.checkpoint()?;
        }
        run.probe()?;
        run.write_status("running")?;
        Ok(run)
    }

    fn steps(&mut self, signals: &Signals) -> Result<Outcome> {
        let mut stopped = signals.stop().filter(|_| self.state.step < self.end);
        while stopped.is_none() && self.state.step < self.end {
            if !self.test()? {
                stopped = signals.stop();
                break;
            }
            self.step()?;
            self.probe()?;
            if self.checkpoint_is_due() {
                self.checkpoint()?;
                self.write_status("running")?;
            }
            if self.status_written.elapsed() >= STATUS_EVERY {
                self.write_status("running")?;
            }
            stopped = signals.stop();
            if self.options.time_limit.is_some_and(|limit| self.started.elapsed() >= limit)
                && self.state.step < self.end
            {
                stopped = stopped.or(Some(Kind::Stopped));
            }
        }
        let newest =
            self.options.out.join("checkpoints").join(format!("step-{:08}", self.state.step));
        if self.last_checkpoint.as_deref() != Some(newest.as_path()) {
            self.checkpoint()?;
        }
        let State { step, steps, loss, .. } = self.state;
        if stopped.is_none() && self.images_per_s.is_some() {
            // A run that had nothing left to do was judged when it ended.
            guard::at_end(self.options.config(), &self.state)?;
        }
        let (nets, standing) = (self.objective.nets(), self.state.health.standing());
        Ok(Outcome { stopped, step, steps, loss, nets, standing })
    }

    fn step(&mut self) -> Result<()> {
        let began = Instant::now();
        let config = self.options.config();
        let (cx, step) = (self.cx, self.state.step);
        let batch = self.batches.next(cx)?;
        let wait_ms = batch.wait_ms;
        let steps = self.state.steps;
        let lr = self.course.rate(config, step, steps, self.steps_per_epoch);
        let at = At { step, steps, lr };
        let mut dump = self.options.dump_steps.contains(&step).then(Dump::new);
        let (batches, is_last) = (&mut self.batches, step + 1 >= self.end);
        let report = self.objective.step(cx, &at, batch, dump.as_mut(), &mut || {
            // Nothing is read that this process will not train on.
            if !is_last {
                batches.prefetch(cx);
            }
        })?;
        if let (Some(dump), Some(dir)) = (dump, &self.options.dump_dir) {
            dump.write(dir, step)?;
        }
        self.state.step += 1;
        self.state.data_cursor += config.train.batch as u64;
        self.state.sampler_cursor += 1;
        self.state.time_s = self.earlier_s
            + self.started.elapsed().saturating_sub(self.between.spent()).as_secs_f64();
        let images_per_s = config.train.batch as f64 / began.elapsed().as_secs_f64();
        let change =
            report.embeddings.and_then(|e| self.state.health.observe(&e.student, &e.teacher));
        let facts = StepFacts {
            step,
            epoch: self.state.step as f64 / self.steps_per_epoch as f64,
            time_s: self.state.time_s,
            lr: at.lr,
            images_per_s,
            data_wait_ms: wait_ms,
            device_mem_bytes: cx.memory().peak_bytes,
            health: self.state.health.health,
        };
        let found = self.between.take_found();
        self.folder.write_metrics(&facts, &report, found)?;
        self.show(&facts, &report)?;
        self.monitor(&facts, &report)?;
        for line in self.signs.observe(&report.signs) {
            self.warn(&line)?;
        }
        for line in self.batches.replaced() {
            self.replaced += 1;
            self.folder.log_to_file(&line)?;
        }
        self.state.loss = Some(report.loss).filter(|loss| loss.is_finite());
        self.images_per_s = Some(images_per_s);
        change.map_or(Ok(()), |change| self.log_change(change))?;
        guard::watch(self.options.config(), &mut self.state)
    }

    /// The bar, and a line every `log.every` steps.
    fn show(&mut self, f: &StepFacts, r: &Report) -> Result<()> {
        let done = self.state.step;
        let eta = self.progress.eta_s(done).map_or("?".into(), human_duration);
        let mut standing = r.embeddings.map_or(String::new(), |Embeddings { student, .. }| {
            format!("spread {:.3} rank {:.1} {}", student.spread, student.rank, f.health)
        });
        for sign in &r.signs {
            standing += &format!(" {} {:.2}", sign.name, sign.value);
        }
        let loss = r.loss / self.objective.nets() as f64;
        let rate = human_rate(f.images_per_s);
        // The bar cuts off what does not fit.
        self.progress.set(done, format!("ETA {eta}  loss {loss:.3}  {rate}  {standing}"));
        if !self.is_logged(done) {
            return Ok(());
        }
        let line = format!(
            "step {done}/{} epoch {:.2} {standing} | loss {loss:.4} ({} {:.2}) lr {:.4} grad {:.2} | \
             {rate}: data {:.0}{} ms | ETA {eta}",
            self.state.steps,
            f.epoch,
            self.even.even,
            self.even.even_loss,
            f.lr,
            r.grad_norm,
            f.data_wait_ms,
            parts_in_words(&r.parts(self.cx)?),
        );
        if self.progress.is_bar() { self.folder.log_to_file(&line) } else { self.folder.log(&line) }
    }

    /// Whether a step, counted from 1, is one of those that are logged.
    fn is_logged(&self, done: u64) -> bool {
        done.is_multiple_of(self.options.config().log.every as u64) || done == self.end
    }

    /// Shows a logged step elsewhere.
    fn monitor(&mut self, f: &StepFacts, r: &Report) -> Result<()> {
        if self.is_logged(self.state.step) {
            self.monitors.step(f, r);
        }
        self.monitors.complaints().iter().try_for_each(|line| self.warn(line))
    }

    /// Says a verdict that has changed.
    fn log_change(&mut self, change: Change) -> Result<()> {
        let line = guard::changed(change, self.options.config(), &self.state);
        if change.to < change.from {
            self.progress.aside(|| tracing::info!("{line}"));
            return self.folder.log_to_file(&line);
        }
        self.warn(&line)
    }

    /// A warning, beside the bar and in the log.
    fn warn(&mut self, line: &str) -> Result<()> {
        self.progress.aside(|| tracing::warn!("{line}"));
        self.folder.log_to_file(&format!("warning: {line}"))
    }

    /// What a run that diverged or collapsed can go on from, and how.
    fn way_back(&self) -> String {
        let out = &self.options.out;
        let Some(healthy) = checkpoint::newest_healthy(out) else {
            return "no checkpoint of this run is healthy: start a new one".to_owned();
        };
        let flat = self.options.config().flat();
        let advice = match self.state.tuned {
            Some(_) => Vec::new(),
            None => advice(&flat, self.state.steps),
        };
        let change = advice.iter().find(|a| a.split('=').next().is_some_and(may_change));
        let change = change.map_or("train.lr=LOWER", |a| a.split(" (").next().unwrap_or(a));
        format!(
            "or go on from the last healthy checkpoint: --resume {} {change} (later checkpoints are \
             then removed)",
            healthy.display()
        )
    }

    /// Probes the nets where that is due.
    fn probe(&mut self) -> Result<()> {
        let (step, steps, end) = (self.state.step, self.state.steps, self.end);
        let now = Progressed { step, steps, end, steps_per_epoch: self.steps_per_epoch };
        let said = Said { folder: &mut self.folder, progress: &mut self.progress };
        self.between.probe(self.cx, self.objective.as_ref(), &now, said)
    }

    /// Tests the net where that is due. False where a signal has broken the test off.
    fn test(&mut self) -> Result<bool> {
        let (config, step) = (self.options.config(), self.state.step);
        let said = Said { folder: &mut self.folder, progress: &mut self.progress };
        self.between.test(self.cx, self.objective.as_ref(), config, step, said)
    }

    fn checkpoint_is_due(&self) -> bool {
        match self.options.config().ckpt.every {
            CkptEvery::Steps(n) => self.state.step.is_multiple_of(n),
            CkptEvery::Epochs(n) => self.state.step.is_multiple_of(n * self.steps_per_epoch),
            CkptEvery::Time(every) => self.checkpoint_written.elapsed() >= every,
        }
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.folder.sync_metrics()?;
        let Saved { contents, pointers } = self.objective.state(self.cx)?;
        self.state.set_pointers(pointers);
        let (specs, config) = (self.objective.net().specs(), self.options.config());
        expect_sound(&contents, specs, self.state.step, config)?;
        let keep = self.options.config().ckpt.keep;
        let dir =
            checkpoint::write(&self.folder.checkpoints(), self.state.clone(), &contents, keep)?;
        self.folder.log_to_file(&format!("checkpoint {}", dir.display()))?;
        self.last_checkpoint = Some(dir);
        self.checkpoint_written = Instant::now();
        Ok(())
    }

    fn write_status(&mut self, state: &'static str) -> Result<()> {
        self.status_written = Instant::now();
        let finite = |x: f64| x.is_finite().then_some(x);
        let left = self.progress.eta_s(self.state.step).filter(|_| state == "running");
        let standing = self.state.health.standing();
        let status = Status {
            state,
            step: self.state.step,
            steps: self.state.steps,
            eta_s: left,
            loss: self.state.loss,
            spread: standing.and_then(|s| finite(s.spread)),
            rank: standing.and_then(|s| finite(s.rank)),
            health: standing.map(|s| s.health),
            images_per_s: self.images_per_s.and_then(finite),
            probe: self.between.last_probe(),
            replaced: self.replaced,
            last_checkpoint: self.last_checkpoint.as_ref().map(|p| p.display().to_string()),
            pid: std::process::id(),
        };
        self.monitors.status(&status);
        self.folder.write_status(&status)
    }
}
